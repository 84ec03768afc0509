"""Destinations beside the broker: what [[sinks]] of a configuration may hold, and what each opens."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from edgeai.errors import ConfigError
from edgeai.sinks.mqtt.settings import Settings, TlsSettings
from edgeai.sinks.transport import Transport
from edgeai.types import Priority

ALL_BUT_IMAGES: Final[tuple[Priority, ...]] = ("alarm", "event", "telemetry")

MAX_URL: Final = 2048

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class SinkSettings(Settings):
    """name: of the destination, different for each. classes: which messages go there, all but images where None."""

    name: Name
    classes: Annotated[tuple[Priority, ...], Field(min_length=1)] | None = None

    @property
    def wanted(self) -> frozenset[Priority]:
        """The classes of messages that go there."""
        return frozenset(ALL_BUT_IMAGES if self.classes is None else self.classes)


def _check_images(settings: SinkSettings, *, taken: bool) -> None:
    if "image" in settings.wanted and not taken:
        raise ValueError("classes names image: set images = true, which writes pictures as base64")


class FileSinkSettings(SinkSettings):
    """A file of JSON lines.

    kind: file, webhook or stdout; it says which other keys there are. path: relative to the configuration. max_bytes: at
    this size it becomes <path>.1. keep: old files at most. durable: fsync before a message leaves the outbox. images: JPEG
    pictures as base64 in a line.
    """

    kind: Literal["file"]
    path: Path
    max_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] = 16 << 20
    keep: Annotated[int, Field(ge=0, le=1000)] = 3
    durable: bool = True
    images: bool = False

    @model_validator(mode="after")
    def _images_are_taken(self) -> FileSinkSettings:
        _check_images(self, taken=self.images)
        return self


class StdoutSettings(SinkSettings):
    """JSON lines on standard output.

    kind: stdout; as of a file. images: JPEG pictures as base64 in a line, as of a file.
    """

    kind: Literal["stdout"]
    images: bool = False

    @model_validator(mode="after")
    def _images_are_taken(self) -> StdoutSettings:
        _check_images(self, taken=self.images)
        return self


class WebhookSettings(SinkSettings):
    """POST requests to one URL. Paths are relative to the configuration.

    kind: webhook; as of a file. url: http or https, its path and query may be secret and are never logged; http beyond this
    machine needs allow_plain. secret_file: its first line is the key of the signature. bearer_token_file: its first line
    goes out as Authorization: Bearer. tls: for https, in place of the system's authorities. allow_plain: http beyond this
    machine, where the network is trusted. batch: so many waiting messages at most in one request, as application/x-ndjson
    where above 1. connect_timeout_s: for TCP and TLS each. response_timeout_s: from the first byte of a request to the
    last one of its answer.
    """

    kind: Literal["webhook"]
    url: str
    secret_file: Path | None = None
    bearer_token_file: Path | None = None
    tls: TlsSettings | None = None
    allow_plain: bool = False
    batch: Annotated[int, Field(ge=1, le=500)] = 1
    connect_timeout_s: Annotated[float, Field(ge=0.1, le=10)] = 3.0
    response_timeout_s: Annotated[float, Field(ge=0.1, le=12)] = 10.0

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        # the URL itself is not repeated in messages: whoever has it may post there
        if len(url) > MAX_URL:
            raise ValueError(f"must have at most {MAX_URL} characters")
        if not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
            raise ValueError("must be an ASCII URL without spaces (percent-encode others)")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("is no URL") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with https://host or http://host")
        if "@" in parts.netloc:
            raise ValueError("must not hold a user or password: use bearer_token_file or secret_file")
        if parts.fragment:
            raise ValueError("must not have a fragment (#...)")
        if port == 0:
            raise ValueError("port must be 1 to 65535")
        return url

    @model_validator(mode="after")
    def _is_safe(self) -> WebhookSettings:
        parts = self.parts
        if parts.scheme == "http":
            if self.tls is not None:
                raise ValueError("tls needs an https:// url")
            if not self.allow_plain and not is_loopback(parts.hostname or ""):
                raise ValueError(
                    "url is plain http beyond this machine: use https, or set allow_plain = true where the network is trusted"
                )
        return self

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)


AnySinkSettings: TypeAlias = Annotated[
    FileSinkSettings | WebhookSettings | StdoutSettings, Field(discriminator="kind")
]
"""One of [[sinks]]."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine by its writing alone; nothing is looked up.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "10.0.0.1", "localhost.example.com")]
    [True, True, True, False, False]
    """
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_transport(settings: AnySinkSettings, *, reader_gone: Callable[[], None] | None = None) -> Transport:
    """The transport for one of [[sinks]], not yet connected. reader_gone: see StdoutTransport."""
    return TRANSPORTS[settings.kind](settings, reader_gone)


def _open_file(settings: Any, reader_gone: Callable[[], None] | None) -> Transport:
    from edgeai.sinks.file_transport import FileTransport

    return FileTransport(
        settings.path,
        max_bytes=settings.max_bytes,
        keep=settings.keep,
        durable=settings.durable,
        images=settings.images,
    )


def _open_stdout(settings: Any, reader_gone: Callable[[], None] | None) -> Transport:
    from edgeai.sinks.file_transport import StdoutTransport

    return StdoutTransport(images=settings.images, reader_gone=reader_gone)


def _open_webhook(settings: Any, reader_gone: Callable[[], None] | None) -> Transport:
    from edgeai.sinks.webhook import WebhookTransport

    return WebhookTransport(settings)


# the settings' kind -> what opens it
TRANSPORTS: Final[dict[str, Callable[[Any, Callable[[], None] | None], Transport]]] = {
    "file": _open_file,
    "stdout": _open_stdout,
    "webhook": _open_webhook,
}


def check_sink_files(settings: AnySinkSettings) -> None:
    """Look at the files that the settings name, as connecting will; nothing is made. Raises ConfigError."""
    if isinstance(settings, WebhookSettings):
        from edgeai.sinks.transport import TransportError
        from edgeai.sinks.webhook import read_keys

        try:
            read_keys(settings)
        except TransportError as error:
            raise ConfigError(f"sink {settings.name}: {error}") from error
    elif isinstance(settings, FileSinkSettings):
        try:
            if settings.path.exists() and not settings.path.is_file():
                raise ConfigError(
                    f"sink {settings.name}: {settings.path} is no plain file", next_step="set another path"
                )
        except OSError as error:
            raise ConfigError(f"sink {settings.name}: {settings.path}: {error.strerror or error}") from error
