"""Cameras and microphones at work: a source, a model, and what came of it."""

from __future__ import annotations

from edgeai.stream.camera import CameraStream
from edgeai.stream.microphone import MicrophoneStream
from edgeai.stream.stream import TOTALS_EVERY_S, Deliver, Overrides, State, Stream, StreamReport, naming

__all__ = [
    "TOTALS_EVERY_S",
    "CameraStream",
    "Deliver",
    "MicrophoneStream",
    "Overrides",
    "State",
    "Stream",
    "StreamReport",
    "naming",
]
