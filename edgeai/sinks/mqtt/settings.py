"""How the broker is reached: frozen, validated once. Secrets by reference only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgeai.sinks.mqtt.pinning import normal_pin
from edgeai.sinks.topics import check_level

PORTS: Final[dict[tuple[str, bool], int]] = {
    # transport, with TLS or without: what IANA has assigned
    ("tcp", False): 1883,
    ("tcp", True): 8883,
    ("websockets", False): 80,
    ("websockets", True): 443,
}


class Settings(BaseModel):
    """Frozen, no unknown keys, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TlsSettings(Settings):
    """ca: PEM of the authorities that may have signed the broker, and then no others; the system's where None.
    certificate and key: the device's own, both or neither (mutual TLS). pin_sha256: SHA-256 of public keys
    (SubjectPublicKeyInfo, hexadecimal or base64), of which the broker's certificate or one of its authorities' must
    have one; none pinned where empty.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    pin_sha256: Annotated[tuple[str, ...], Field(max_length=16)] = ()

    @field_validator("pin_sha256")
    @classmethod
    def _pins(cls, pins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(normal_pin(one) for one in pins)

    @model_validator(mode="after")
    def _pair(self) -> TlsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls needs both certificate and key, or neither")
        return self


def _usual_port(settings: dict[str, Any]) -> int:
    return PORTS[settings.get("transport", "tcp"), settings.get("tls") is not None]


class MqttSettings(Settings):
    """One broker and this device's place in its topic tree.

    host: a name or an address. transport, ws_path: MQTT over TCP, or in WebSocket frames at that path. port: where not
    given 1883, with tls 8883; with websockets 80 and 443. tenant, site: levels of the topics, edge/v1/<tenant>/<site>/<device>.
    device: None for the caller's host name. client_id: None for edgeai-<tenant>-<site>-<device>; two clients with one id
    throw each other out. username: as whom to connect. password_file: its first line is the password, read anew at each
    connection. tls: where given, the connection is encrypted and the broker proves who it is. keepalive_s: after so long
    without a message the broker is asked whether it is there. connect_timeout_s: for TCP and TLS, and for its answer.
    session_expiry_s: how long the broker keeps what it should send; MQTT 5 only. message_expiry_s: how long it keeps our
    messages, for ever where absent; MQTT 5 only. in_flight: messages sent and not yet acknowledged, at most. ack_barrier: a
    message leaves the outbox only when the broker has answered another packet after its acknowledgement, so that
    mosquitto with autosave_on_changes has it on the disk by then.
    """

    host: Annotated[str, Field(min_length=1, max_length=253)]
    transport: Literal["tcp", "websockets"] = "tcp"
    ws_path: Annotated[str, Field(max_length=1024)] = "/mqtt"
    tenant: str = "default"
    site: str = "default"
    device: str | None = None
    client_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    tls: TlsSettings | None = None
    # behind what its default depends on; no validator "before" the model: it would make of JSON's lists no tuples
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default_factory=_usual_port)
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    connect_timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    session_expiry_s: Annotated[int, Field(ge=0, le=2**32 - 1)] = 86400
    message_expiry_s: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None
    in_flight: Annotated[int, Field(ge=1, le=1000)] = 200
    ack_barrier: bool = True

    @field_validator("ws_path")
    @classmethod
    def _path(cls, path: str) -> str:
        if not re.fullmatch(r"/[!-~]*", path) or "#" in path:  # visible ASCII: it becomes a line of HTTP
            raise ValueError(f"ws_path must begin with '/' and have no spaces, got {path[:80]!r}")
        return path

    @field_validator("host")
    @classmethod
    def _host_is_no_url(cls, host: str) -> str:
        if "@" in host:  # and what stands before it is not repeated
            raise ValueError(
                "host must be a name or an address; user and password go into username and password_file"
            )
        if "/" in host or any(sign.isspace() for sign in host) or "\0" in host:
            raise ValueError(f"host must be a name or an address without mqtt:// and port, got {host!r}")
        return host

    @field_validator("tenant", "site", "device")
    @classmethod
    def _topic_level(cls, text: str | None, info: Any) -> str | None:
        return None if text is None else check_level(text, what=info.field_name)

    def id_of(self, device: str) -> str:
        """The client id of a device of that name in the topics."""
        return self.client_id or f"edgeai-{self.tenant}-{self.site}-{self.device or device}"

    @model_validator(mode="after")
    def _password_has_a_name(self) -> MqttSettings:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        return self
