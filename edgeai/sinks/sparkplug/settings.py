"""`[mqtt.sparkplug]`: this device as a Sparkplug B edge node. Frozen, validated once, secrets by reference only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from edgeai.sinks.mqtt.settings import MqttSettings, Settings, TlsSettings
from edgeai.sinks.topics import check_level


class SparkplugSettings(Settings):
    """Sparkplug B's topics, spBv1.0/<group_id>/<type>/<edge_node_id>.

    group_id: the group of the edge node. edge_node_id: None for the device. primary_host: the host application that must be online before anything is published; None to publish always.
    by_class: a metric also for each label of a rule; many hosts are licensed by the number of metrics.

    qos: of data messages. 0 is what Sparkplug 3.0.0 demands (tck-id-payloads-ddata-qos) and enough: a message leaves the
    outbox when the broker has read it (SparkplugTransport), and no host keeps a session that could ask for more. 1
    deviates from it: then a broker of MQTT 5 tells where its ACL denies a message, which at QoS 0 nobody does.

    host, port, username, password_file, tls: a broker of its own (SCADA's). Without host, it is the broker of [mqtt] on
    a second connection, with that section's credentials where this one names none; with host, nothing of them is taken
    over. client_id: None for edgeai-spb-<group_id>-<edge_node_id>; a broker that makes the client id from the
    certificate (mosquitto's use_username_as_clientid) needs another certificate here, because one client id cannot
    connect twice.
    """

    group_id: str
    edge_node_id: str | None = None
    primary_host: str | None = None
    by_class: bool = False
    qos: Literal[0, 1] = 0
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    client_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    username: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    tls: TlsSettings | None = None

    @field_validator("group_id", "edge_node_id", "primary_host")
    @classmethod
    def _topic_level(cls, text: str | None, info: Any) -> str | None:
        if text == "STATE" and info.field_name == "group_id":
            raise ValueError("group_id cannot be STATE: host applications tell their state there")
        return None if text is None else check_level(text, what=info.field_name)

    @field_validator("host")
    @classmethod
    def _host_is_no_url(cls, host: str | None) -> str | None:
        if host is not None and ("/" in host or any(sign.isspace() for sign in host) or "\0" in host):
            raise ValueError(f"host must be a name or an address without mqtt:// and port, got {host!r}")
        return host

    @model_validator(mode="after")
    def _password_has_a_name(self) -> SparkplugSettings:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs username")
        return self

    def broker(self, native: MqttSettings, *, edge_node_id: str) -> MqttSettings:
        """How the connection of Sparkplug is made; `native`: those of [mqtt].

        No session is kept by the broker and no message expires: session_expiry_s 0, message_expiry_s None.
        """
        own: dict[str, Any] = {
            "client_id": self.client_id or f"edgeai-spb-{self.group_id}-{edge_node_id}",
            "session_expiry_s": 0,
            "message_expiry_s": None,
        }
        if self.host is None:
            own |= {"port": self.port or native.port, "tls": self.tls or native.tls}
            if self.username is not None:
                own |= {"username": self.username, "password_file": self.password_file}
            return native.model_copy(update=own)
        port = {} if self.port is None else {"port": self.port}
        return MqttSettings(
            host=self.host,
            username=self.username,
            password_file=self.password_file,
            tls=self.tls,
            keepalive_s=native.keepalive_s,
            connect_timeout_s=native.connect_timeout_s,
            in_flight=native.in_flight,
            **own,
            **port,
        )
