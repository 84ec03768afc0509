"""What goes from pass to pass: a network with its history and the engine files made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeai.bundle.manifest import FileFormat, Precision


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An engine file that a pass wrote."""

    path: Path
    format: FileFormat
    precision: Precision


@dataclass(frozen=True, slots=True)
class Candidate:
    """network: a Keras model. reference: the network as it was before the first pruning, once there was one.

    aware: the network that rounds as its int8 file does, after quantization-aware training; it is what that file has to say,
    for what the file cuts `network` alone does not. sparse: whether its zero weights are meant, and have to stay. files:
    engine files of `network` as it stands. notes: what passes want told in the report, by the pass's name.
    """

    network: Any
    reference: Any = None
    aware: Any = None
    sparse: bool = False
    files: tuple[EngineFile, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def with_notes(self, name: str, told: Sequence[dict[str, Any]]) -> Candidate:
        """The same with more under a pass's name; nothing changes where there is nothing to tell."""
        if not told:
            return self
        return replace(self, notes={**self.notes, name: [*self.notes.get(name, []), *told]})
