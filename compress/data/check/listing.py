"""What a data folder lists, read leniently: a strict reader stops at the first fault, a check must see them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.data.check.report import Fault, SetKind

ListForm = Literal["coco", "csv", "folders", "other"]


@dataclass(frozen=True, slots=True)
class Box:
    """xyxy_px: as the label file has it, perhaps nonsense. row: its place among the label file's annotations."""

    xyxy_px: tuple[float, float, float, float]
    label: str
    crowd: bool
    row: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A listed file. path: None where the name leads outside the folder. row: its place in the list.

    width, height, rate_hz, samples: what the list tells, 0 where it tells nothing. group: speaker, site, ...; "" unknown.
    """

    split: str
    file: str
    path: Path | None
    row: int
    label: str = ""
    group: str = ""
    width: int = 0
    height: int = 0
    boxes: tuple[Box, ...] = ()
    rate_hz: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """One split. source: the list's file, or the folder. classes: the declared ones, empty where they are only seen.

    faults: what was wrong with the list itself.
    """

    split: str
    kind: SetKind
    form: ListForm
    source: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def split_rank(name: str) -> int:
    """How well a split is guarded: 2 for test and held-out ones, 1 for validation, 0 for the rest, which train.

    What leaks between two splits is dropped from the one of the lower rank.
    """
    plain = name.lower()
    if plain.startswith(("test", "hold", "eval")):
        return 2
    return 1 if plain.startswith(("val", "dev")) else 0


def guard_order(splits: Sequence[str]) -> list[str]:
    """The names, best guarded first; the order given decides among equals, the first of them is dropped from last."""
    return sorted(splits, key=lambda name: -split_rank(name))
