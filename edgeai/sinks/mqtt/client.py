"""A paho client for one connection: credentials, TLS, last will, and the socket under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeai.sinks.mqtt.credentials import read_password, tls_context
from edgeai.sinks.mqtt.session import Announcement
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.mqtt.websocket import WebSocket

if TYPE_CHECKING:
    from paho.mqtt.client import Client


def new_client(
    settings: MqttSettings, *, client_id: str, newer: bool, will: Announcement | None, clean: bool = False
) -> Client:
    """Not connected. newer: MQTT 5, else 3.1.1. clean: the broker keeps no session of a 3.1.1 client.

    Raises TransportRefusedError for files that cannot be used.
    """
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

    class WebSocketClient(Client):
        """paho with our WebSocket in the place of its own (see there)."""

        def _create_socket(self) -> Any:
            return WebSocket(
                super()._create_socket(),  # type: ignore[arg-type]
                host=settings.host,
                port=settings.port,
                path=settings.ws_path,
                timeout_s=settings.connect_timeout_s,
            )

    client = (WebSocketClient if settings.transport == "websockets" else Client)(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if newer else clean,
        protocol=MQTTProtocolVersion.MQTTv5 if newer else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = settings.connect_timeout_s
    client.max_inflight_messages = 0  # the window is ours
    if settings.username is not None:
        password = None if settings.password_file is None else read_password(settings.password_file)
        client.username_pw_set(settings.username, password)
    if settings.tls is not None:
        client.tls_set_context(tls_context(settings.tls))
    if will is not None:
        client.will_set(will.topic, will.payload, qos=will.qos, retain=will.retain)
    return client
