"""Sparkplug B for factories' SCADA: the device is an edge node, each camera and microphone a device of it."""

from edgeai.sinks.sparkplug.composer import SparkplugComposer
from edgeai.sinks.sparkplug.datatypes import SparkplugError
from edgeai.sinks.sparkplug.session import SparkplugSession
from edgeai.sinks.sparkplug.settings import SparkplugSettings
from edgeai.sinks.sparkplug.transport import SparkplugTransport

__all__ = [
    "SparkplugComposer",
    "SparkplugError",
    "SparkplugSession",
    "SparkplugSettings",
    "SparkplugTransport",
]
