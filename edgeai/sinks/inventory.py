"""What a device has, as far as the receivers of its reports must know: streams, rules, labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """One rule of a camera. directions: (forward, backward) of a line. classes: the labels that it heeds."""

    name: str
    kind: str
    classes: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One camera or microphone. labels: what its model can tell apart. model: the bundle's id."""

    name: str
    kind: Literal["camera", "microphone"]
    labels: tuple[str, ...] = ()
    rules: tuple[RuleFacts, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The device and all its streams. board: what it is ("Orin Nano 8GB"), "" where unknown."""

    device: str
    streams: tuple[StreamFacts, ...] = ()
    board: str = ""
    version: str = ""
