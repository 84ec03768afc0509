"""Pictures with one label each: what they are and how they are split. They are read from disk when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import read_picture
from compress.data.holdout import hold_out
from edgeai.errors import DataError


@dataclass(frozen=True)
class PictureSet:
    """class_ids: (N,) int32, through `labels`. groups: (N,) what must stay together in a split, or the file's name."""

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    class_ids: NDArray[np.int32]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR. Raises DataError where the file is no picture."""
        return read_picture(self.paths[index])

    def split(self, fraction: float) -> tuple[PictureSet, PictureSet]:
        """(kept, held out), whole groups, by a hash of the group's name."""
        held = hold_out(self.groups, fraction)
        return self._pick(~held), self._pick(held)

    def _pick(self, mask: NDArray[np.bool_]) -> PictureSet:
        return replace(
            self,
            paths=tuple(path for path, kept in zip(self.paths, mask, strict=True) if kept),
            class_ids=self.class_ids[mask],
            groups=tuple(group for group, kept in zip(self.groups, mask, strict=True) if kept),
        )


def join_pictures(sets: Sequence[PictureSet]) -> PictureSet:
    """One set of all pictures; the labels must be the same. Raises DataError."""
    if not sets or any(s.labels != sets[0].labels for s in sets):
        raise DataError("picture sets to be joined must have the same labels")
    return PictureSet(
        sets[0].labels,
        tuple(path for s in sets for path in s.paths),
        np.concatenate([s.class_ids for s in sets]),
        tuple(group for s in sets for group in s.groups),
    )
