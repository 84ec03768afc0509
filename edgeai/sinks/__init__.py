"""Where events go: MQTT through an outbox that loses nothing, a file, standard output."""

from __future__ import annotations

import socket
from pathlib import Path

from edgeai.sinks.mqtt.settings import MqttSettings, TlsSettings
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import Counters, StoreAndForward
from edgeai.sinks.topics import TopicTree

__all__ = ["Counters", "MqttSettings", "Outbox", "Sink", "StoreAndForward", "TlsSettings", "open_reporting"]


def open_reporting(
    settings: MqttSettings,
    outbox: Outbox | Path | str,
    *,
    device: str = "",
) -> StoreAndForward:
    """A sink that reports to an MQTT broker, not yet open (`with` opens it).

    outbox: a file for it, or one with bounds of its own. device: the name in the topics, for settings that give none;
    the host's name where both are silent. Raises ConfigError where a password or TLS file cannot be read, TopicError
    for a device name that cannot be part of a topic. With all else that a configuration may hold: edgeai.sinks.reporting.
    """
    from edgeai.sinks.mqtt.credentials import check_files
    from edgeai.sinks.mqtt.native_session import NativeSession
    from edgeai.sinks.mqtt.transport import MqttTransport
    from edgeai.sinks.payload import Envelope, compose_native, new_boot_id

    check_files(settings)
    topics = TopicTree(settings.tenant, settings.site, settings.device or device or socket.gethostname())
    boot_id = new_boot_id()
    return StoreAndForward(
        MqttTransport(
            settings,
            client_id=settings.id_of(topics.device),
            session=NativeSession(topics, boot_id),
        ),
        outbox if isinstance(outbox, Outbox) else Outbox(outbox),
        compose=compose_native(topics, Envelope(topics.device, boot_id)),
    )
