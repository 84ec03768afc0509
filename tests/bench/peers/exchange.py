"""What the bench hands to a peer and what it gets back: one folder of plain arrays and JSON, numpy alone on both sides.

network.json, weights.npz: the float network, layer by layer. pictures.npy (S, B, H, W, 3) uint8 and targets.npy (S, B, K)
float32: every training batch in its order, so that all learn from the same pixels. calibration.npy (N, H, W, 3) uint8.
check.npz: pictures (N, H, W, 3) uint8 and the logits (N, K) float32 that the float network gives. facts.json: Facts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AGREEMENT = 1e-4  # of the largest logit: how far a rebuilt network may be off before it is another network
RECORD = "record.json"
SAID = "peer: "


@dataclass(frozen=True)
class Facts:
    """rounds: optimiser steps of the fine-tuning after each of the first parts of the work, then of the last, long one.

    macs_ratio: of the multiplications, what a channel pruner keeps. teacher_share: of the loss, where a teacher is used.
    """

    rounds: tuple[int, ...]
    last: int
    batch: int
    learning_rate: float
    weight_decay: float
    macs_ratio: float
    max_removed: float
    teacher_share: float
    divisor: float
    seed: int

    @property
    def steps(self) -> int:
        return sum(self.rounds) + self.last


@dataclass(frozen=True)
class Exchange:
    folder: Path
    facts: Facts
    layers: list[dict[str, Any]]
    pictures: NDArray[np.uint8] = field(repr=False)
    targets: NDArray[np.float32] = field(repr=False)

    def weights(self, name: str) -> list[NDArray[np.float32]]:
        """A layer's arrays in Keras' order and shapes."""
        with np.load(self.folder / "weights.npz") as stored:
            return [stored[key] for key in stored.files if key.rpartition("/")[0] == name]

    def scaled(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pictures.astype(np.float32) / np.float32(self.facts.divisor)

    def batches(self, first: int, count: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Of training; tells about every hundredth, for nothing else is seen of a peer for minutes."""
        for number in range(first, first + count):
            if number % 100 == 0:
                say(f"step {number} of {self.facts.steps}")
            yield self.scaled(self.pictures[number]), self.targets[number]

    def calibration(self) -> NDArray[np.float32]:
        return self.scaled(np.load(self.folder / "calibration.npy"))

    def check(self, logits_of: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> float:
        """The rebuilt network's largest error, relative to the largest logit. Exits where it is another network."""
        with np.load(self.folder / "check.npz") as stored:
            wanted, pictures = stored["logits"], stored["pictures"]
        off = float(np.abs(logits_of(self.scaled(pictures)) - wanted).max() / np.abs(wanted).max())
        if not off <= AGREEMENT:
            sys.exit(f"the rebuilt network is another one: its logits are off by {off:.2g} of the largest")
        return off


def open_exchange(folder: Path) -> Exchange:
    fields = json.loads((folder / "facts.json").read_text())
    fields["rounds"] = tuple(fields["rounds"])
    layers = json.loads((folder / "network.json").read_text())
    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    return Exchange(folder, Facts(**fields), layers, pictures, np.load(folder / "targets.npy"))


def dump_facts(facts: Facts) -> str:
    return json.dumps(asdict(facts), indent=1)


@dataclass
class Made:
    """The files that a peer wrote, each with how, and how long it took."""

    out: Path
    packages: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)
    off: float = 0.0

    def add(self, name: str, file: Path, *, precision: str, how: str, seconds: float) -> None:
        kind = file.suffix[1:]
        row = {"name": name, "file": file.name, "format": kind, "precision": precision, "how": how}
        self.rows.append(row | {"seconds": round(seconds, 1)})

    def write(self, facts: Facts) -> None:
        record = {
            "facts": asdict(facts),
            "versions": {package: version(package) for package in self.packages},
            "rebuilt_off": self.off,
            "rows": self.rows,
        }
        part = self.out / f"{RECORD}.part"
        part.write_text(json.dumps(record, indent=1))
        part.replace(self.out / RECORD)


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yields a function that says the seconds since."""
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began


def arguments() -> tuple[Exchange, Path, str]:
    """What the bench calls a peer with: EXCHANGE OUT VARIANT."""
    if len(sys.argv) != 4:
        sys.exit(f"usage: {Path(sys.argv[0]).name} EXCHANGE OUT VARIANT")
    return open_exchange(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]


def say(text: str) -> None:
    """A line that the bench shows; what libraries say goes to the log alone."""
    print(f"{SAID}{text}", file=sys.stderr, flush=True)
