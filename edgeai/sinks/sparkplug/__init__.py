"""Sparkplug B for factories' SCADA: the device is an edge node, each camera and microphone a device of it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from edgeai.sinks.sparkplug.settings import SparkplugSettings

if TYPE_CHECKING:
    from edgeai.sinks.sparkplug.composer import SparkplugComposer
    from edgeai.sinks.sparkplug.datatypes import SparkplugError
    from edgeai.sinks.sparkplug.session import SparkplugSession
    from edgeai.sinks.sparkplug.transport import SparkplugTransport

__all__ = [
    "SparkplugComposer",
    "SparkplugError",
    "SparkplugSession",
    "SparkplugSettings",
    "SparkplugTransport",
]

_MODULES: Final = {
    "SparkplugComposer": "composer",
    "SparkplugError": "datatypes",
    "SparkplugSession": "session",
    "SparkplugTransport": "transport",
}


def __getattr__(name: str) -> Any:
    # whoever reads a configuration needs the settings alone, and TLS and MQTT take 20 ms to import
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
