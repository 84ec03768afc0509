"""What a subscriber makes of messages: decoded, marked as repeated, late or missing, and counted. Never trusts any."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args

from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.payload import PayloadError, decode
from edgeai.sinks.topics import ROOT
from edgeai.sinks.watch.batch import unpack
from edgeai.sinks.watch.counts import Counts
from edgeai.types import JsonValue

WatchClass: TypeAlias = Literal[
    "event", "telemetry", "image", "health", "info", "state", "cmd", "ack", "cfg", "ota"
]
CLASSES: Final[tuple[WatchClass, ...]] = get_args(WatchClass)

# the class of a topic -> what is below <root> of it, {} for the stream
BRANCHES: Final[dict[WatchClass, tuple[str, ...]]] = {
    "event": ("event/{}", "batch/{}/+"),
    "telemetry": ("telemetry/{}", "batch/{}/+"),
    "image": ("image/{}", "image/{}/thumbnail"),
    "health": ("health",),
    "info": ("info",),
    "state": ("state",),
    "cmd": ("cmd/+",),
    "ack": ("ack/+",),
    "cfg": ("cfg/+",),
    "ota": ("ota/+",),
}
OF_STREAMS: Final[tuple[WatchClass, ...]] = ("event", "telemetry", "image")

MAX_IDS: Final = 100_000
MAX_MESSAGE_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """What is wanted; all of it where everything is None or empty. topic: an MQTT filter in the place of the tree's."""

    device: str | None = None
    stream: str | None = None
    type: str | None = None
    classes: tuple[WatchClass, ...] = ()
    topic: str | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        if self.topic is not None:
            return (self.topic,)
        root = f"{ROOT}/+/+/{self.device or '+'}"
        if self.whole:
            return (f"{root}/#",)
        classes = self.classes or (OF_STREAMS if self.stream else CLASSES)
        found = (branch.format(self.stream or "+") for each in classes for branch in BRANCHES[each])
        return tuple(dict.fromkeys(f"{root}/{branch}" for branch in found))

    @property
    def whole(self) -> bool:
        """Whether all of a device's messages are subscribed to, so that numbers that do not come tell something."""
        return self.topic is None and self.stream is None and not self.classes

    def wants(self, sighting: Sighting) -> bool:
        return (
            (self.device is None or sighting.device == self.device)
            and (self.stream is None or sighting.stream == self.stream)
            and (self.type is None or sighting.type == self.type)
            and (not self.classes or sighting.kind in self.classes)
        )


@dataclass(frozen=True, slots=True)
class Sighting:
    """One message, or one event of a batch, as it was understood.

    kind: its class by topic, "other" outside the tree. arrived_s: Unix time here. latency_s: from wall_time to then,
    where there is one; clock_synced as the device says. marks: "retained", "duplicate", "late", "gap <n>", "says <another device>". problem:
    why it is no such message, "" where it is one; then `sample` holds its beginning. picture: of an image.
    """

    kind: str
    topic: str
    device: str
    stream: str
    type: str
    arrived_s: float
    size_bytes: int
    envelope: dict[str, JsonValue] = field(default_factory=dict)
    data: dict[str, JsonValue] = field(default_factory=dict)
    latency_s: float | None = None
    clock_synced: bool | None = None
    marks: tuple[str, ...] = ()
    problem: str = ""
    sample: bytes = b""
    picture: bytes = b""


class Watcher:
    """Takes messages in order of arrival; from one thread. Memory is bounded, whatever is sent."""

    def __init__(self, wanted: WatchFilter, *, wall_s: Callable[[], float] = time.time) -> None:
        self.counts = Counts(gaps=wanted.whole)
        self._wanted = wanted
        self._wall_s = wall_s
        self._ids: OrderedDict[str, None] = OrderedDict()

    def take(self, inbound: Inbound) -> Iterator[Sighting]:
        """What is wanted of a message. Raises nothing for any payload."""
        for sighting in self._understood(inbound):
            seen = self._marked(sighting, retained=inbound.retained)
            if self._wanted.wants(seen):
                self.counts.add(seen)
                yield seen

    def reconnected(self) -> None:
        """Messages may have passed us by: their numbers are not missing."""
        self.counts.restart()

    def _understood(self, inbound: Inbound) -> Iterator[Sighting]:
        topic, payload = inbound.topic, inbound.payload
        kind, device, stream, coding = _place(topic)
        plain = Sighting(kind, topic, device, stream, "", self._wall_s(), len(payload))
        if kind == "batch":
            try:
                parts = unpack(payload, coding)
            except PayloadError as error:
                yield _wrong(plain, error, payload)
                return
            for part in parts:
                yield self._event(plain, part)
        elif kind == "image" and payload[:2] == b"\xff\xd8":
            name = "thumbnail" if topic.endswith("/thumbnail") else "image"
            yield _with(plain, type=name, picture=payload)
        elif kind in ("event", "telemetry", "image", "health", "info"):
            yield self._event(plain, payload)
        else:
            yield _document(plain, payload)

    def _event(self, plain: Sighting, payload: bytes) -> Sighting:
        """An event in its envelope; `kind` by its priority where it came in a batch."""
        try:
            envelope = decode(payload)
        except PayloadError as error:
            return _wrong(plain, error, payload)
        data, wall_time = envelope["data"], _unix_s(envelope["wall_time"])
        synced = envelope["clock_synced"]
        kind = plain.kind
        if kind == "batch":
            kind = "telemetry" if envelope["priority"] == "telemetry" else "event"
        return _with(
            plain,
            kind=kind,
            # the topic's device and stream, which the broker's ACL vouches for, before those that the payload claims
            stream=plain.stream or _text(envelope["stream"]),
            type=_text(envelope["type"]),
            size_bytes=len(payload),
            envelope=envelope,
            data=data if isinstance(data, dict) else {},
            latency_s=None if wall_time is None else plain.arrived_s - wall_time,
            clock_synced=synced if isinstance(synced, bool) else None,
        )

    def _marked(self, seen: Sighting, *, retained: bool) -> Sighting:
        marks = []
        if retained:
            # it lay at the broker: neither its age nor its number says anything of the link
            return _with(seen, marks=("retained",), latency_s=None)
        if seen.envelope:
            if (claimed := _text(seen.envelope["device"])) != seen.device:
                marks.append(f"says {claimed}")
            if self._again(_text(seen.envelope["id"])):
                marks.append("duplicate")
            else:
                marks += self.counts.follow(seen)
        return _with(seen, marks=tuple(marks)) if marks else seen

    def _again(self, event_id: str) -> bool:
        if event_id in self._ids:
            self._ids.move_to_end(event_id)
            return True
        self._ids[event_id] = None
        if len(self._ids) > MAX_IDS:
            self._ids.popitem(last=False)
        return False


def _place(topic: str) -> tuple[str, str, str, str]:
    """class, device, stream and coding of a topic; ("other", "", "", "") for one outside the tree."""
    levels = topic.split("/")
    if len(levels) < 6 or levels[:2] != ROOT.split("/"):
        return "other", "", "", ""
    device, kind, rest = levels[4], levels[5], levels[6:]
    if kind == "batch" and len(rest) == 2:
        return "batch", device, rest[0], rest[1]
    if kind in OF_STREAMS and (len(rest) == 1 or (kind == "image" and rest[1:] == ["thumbnail"])):
        return kind, device, rest[0], ""
    if kind in ("state", "health", "info") and not rest:
        return kind, device, "", ""
    if kind in ("cmd", "ack", "cfg", "ota") and len(rest) == 1:
        return kind, device, "", ""
    return "other", device, "", ""


def _document(plain: Sighting, payload: bytes) -> Sighting:
    """JSON of a shape that is not this module's: its own words are shown, its last level is its type."""
    last = plain.topic.rsplit("/", 1)[-1] if plain.kind != "other" else ""
    try:
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ValueError("too long")
        value = json.loads(payload) if payload else {}
    except (ValueError, RecursionError):
        if plain.kind == "other":
            return _with(plain, sample=payload[:200])
        return _wrong(plain, PayloadError("payload is not JSON"), payload)
    data = value if isinstance(value, dict) else {"value": value}
    if plain.kind == "state":
        last = _text(data.get("state", ""))
    return _with(plain, type=last, data=data)


def _wrong(plain: Sighting, error: PayloadError, payload: bytes) -> Sighting:
    return _with(plain, problem=str(error)[:300], sample=payload[:200])


def _with(sighting: Sighting, **changes: object) -> Sighting:
    return replace(sighting, **changes)  # type: ignore[arg-type]


def _text(value: JsonValue) -> str:
    return value[:256] if isinstance(value, str) else ""


def _unix_s(wall_time: JsonValue) -> float | None:
    try:
        return datetime.fromisoformat(str(wall_time)[:40].replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
