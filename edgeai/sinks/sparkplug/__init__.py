"""Sparkplug B for factories' SCADA: the device is an edge node, each camera and microphone a device of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeai.sinks.sparkplug.settings import SparkplugSettings

if TYPE_CHECKING:
    from edgeai.sinks.inventory import DeviceFacts
    from edgeai.sinks.settings import MqttSettings
    from edgeai.sinks.store_and_forward import Destination

__all__ = ["DESTINATION", "SparkplugSettings", "open_sparkplug"]

DESTINATION: Final = "sparkplug"
"""Of its messages in the outbox, for good."""


def open_sparkplug(
    settings: SparkplugSettings, native: MqttSettings, facts: DeviceFacts, *, state_folder: Path
) -> Destination:
    """Where Sparkplug's messages go, for StoreAndForward's `also`; nothing is connected yet.

    native: the settings of [mqtt]. state_folder: keeps the file sparkplug_bdseq. Raises SparkplugError where protobuf is
    not installed or the facts make no metrics, TopicError for a name that cannot be part of a topic, ConfigError for a
    password or TLS file that cannot be read.
    """
    from edgeai.sinks.credentials import check_files
    from edgeai.sinks.sparkplug.composer import SparkplugComposer
    from edgeai.sinks.sparkplug.session import SparkplugSession
    from edgeai.sinks.sparkplug.transport import SparkplugTransport
    from edgeai.sinks.store_and_forward import Destination

    composer = SparkplugComposer(settings, facts)
    session = SparkplugSession(composer, state_folder=state_folder)
    broker = settings.broker(native, edge_node_id=composer.topics.node)
    check_files(broker)
    transport = SparkplugTransport(broker, client_id=broker.client_id or "", session=session)
    return Destination(transport, composer, name=DESTINATION)
