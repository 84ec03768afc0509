"""The topic tree, version 1: edge/v1/<tenant>/<site>/<device>/..., and how each class of event travels in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edgeai.errors import SinkError
from edgeai.types import Priority

ROOT: Final = "edge/v1"
MAX_LEVEL_BYTES: Final = 128

# '/' parts levels, '+' and '#' are wildcards, U+0000 is forbidden (MQTT 5.0, sections 1.5.4 and 4.7); other control
# characters are allowed there, but no broker's log or ACL file survives them
_FORBIDDEN = re.compile(r"[/+#\x00-\x1f\x7f-\x9f]")


_THUMBNAIL: Final = "/thumbnail"


def thumbnail_stream(stream: str) -> str:
    """The stream of a camera's thumbnails, in the outbox; no other can have this name."""
    return stream + _THUMBNAIL


def is_thumbnail(stream: str) -> bool:
    return stream.endswith(_THUMBNAIL)


class TopicError(SinkError, ValueError):
    """A tenant, site, device, stream or other name that cannot be one level of a topic."""


def check_level(text: str, *, what: str) -> str:
    """`text` itself, if it can be one level of a topic. `what` names it in the error ("stream", "device").

    1 to 128 bytes of UTF-8 without '/', '+', '#' and control characters, not beginning with '$' or a space.
    Raises TopicError.

    >>> check_level("gate", what="stream")
    'gate'
    """
    found = _FORBIDDEN.search(text)
    if found is not None:
        problem = f"contains {found.group()!r}"
    elif not text:
        problem = "is empty"
    elif text[0] == "$" or text != text.strip():
        problem = "begins with '$' or has a space at an end"
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            problem = "is not valid Unicode"
        else:
            if size <= MAX_LEVEL_BYTES:
                return text
            problem = f"has {size} bytes of at most {MAX_LEVEL_BYTES}"
    raise TopicError(
        f"{what} {text[:MAX_LEVEL_BYTES]!r} cannot be part of a topic: it {problem}",
        next_step="use letters, digits, '-', '_' and '.'",
    )


@dataclass(frozen=True, slots=True)
class Route:
    """How one class of event is published: the branch of the tree, the quality of service, retained or not."""

    branch: str
    qos: int
    retain: bool


ROUTES: Final[dict[Priority, Route]] = {
    "alarm": Route("event", 1, retain=False),
    "event": Route("event", 1, retain=False),
    "telemetry": Route("telemetry", 0, retain=True),
    "image": Route("image", 0, retain=False),
}


@dataclass(frozen=True, slots=True)
class TopicTree:
    """The topics of one device. Raises TopicError where a name cannot be a topic level.

    >>> TopicTree("acme", "s1", "cam-001").event("gate")
    'edge/v1/acme/s1/cam-001/event/gate'
    """

    tenant: str
    site: str
    device: str

    def __post_init__(self) -> None:
        for what in ("tenant", "site", "device"):
            check_level(getattr(self, what), what=what)

    @property
    def root(self) -> str:
        return f"{ROOT}/{self.tenant}/{self.site}/{self.device}"

    @property
    def state(self) -> str:
        """Retained: online after connecting, offline by the last will."""
        return f"{self.root}/state"

    @property
    def info(self) -> str:
        return f"{self.root}/info"

    @property
    def health(self) -> str:
        return f"{self.root}/health"

    def event(self, stream: str) -> str:
        return self._leaf("event", stream, "stream")

    def telemetry(self, stream: str) -> str:
        return self._leaf("telemetry", stream, "stream")

    def image(self, stream: str) -> str:
        return self._leaf("image", stream, "stream")

    def thumbnail(self, stream: str) -> str:
        """Small pictures that go before the whole ones."""
        return f"{self.image(stream)}/thumbnail"

    def batch(self, stream: str, encoding: str) -> str:
        """Several envelopes as lines, compressed; the topic's last level is how: gzip or zstd."""
        return f"{self._leaf('batch', stream, 'stream')}/{encoding}"

    def routed(self, priority: Priority, stream: str) -> str:
        """The topic for an event of this class from this stream."""
        return self._leaf(ROUTES[priority].branch, stream, "stream")

    def command(self, name: str) -> str:
        return self._leaf("cmd", name, "command")

    def acknowledgement(self, command_id: str) -> str:
        return self._leaf("ack", command_id, "command id")

    @property
    def desired_config(self) -> str:
        return f"{self.root}/cfg/desired"

    @property
    def reported_config(self) -> str:
        return f"{self.root}/cfg/reported"

    @property
    def update_job(self) -> str:
        return f"{self.root}/ota/job"

    @property
    def update_status(self) -> str:
        return f"{self.root}/ota/status"

    def _leaf(self, branch: str, name: str, what: str) -> str:
        return f"{self.root}/{branch}/{check_level(name, what=what)}"
