"""Pictures with boxes: what they are, how they are split, read and kept. Their file formats are in compress.data.formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.data.holdout import hold_out
from edgeai.errors import DataError
from edgeai.types import Detections


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture file and its boxes.

    xyxy_px: (N, 4) float32. class_ids: (N,) int32. scores: (N,) float32, 1 for a person's label, a teacher's score
    otherwise. crowd_px: (M, 4) regions to leave out of training and scoring. group: what must stay together in a split
    (a site, a day, a recording), "" where nothing is known.
    """

    path: Path
    width: int
    height: int
    xyxy_px: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    crowd_px: NDArray[np.float32]
    group: str = ""


@dataclass(frozen=True, slots=True)
class DetectionSet:
    """Pictures whose class_ids count through `labels`."""

    labels: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def split(self, fraction: float) -> tuple[DetectionSet, DetectionSet]:
        """(kept, held out): whole groups, and pictures without one by their file's name."""
        held = hold_out([p.group or p.path.name for p in self.pictures], fraction)
        return (
            replace(self, pictures=tuple(p for p, h in zip(self.pictures, held, strict=True) if not h)),
            replace(self, pictures=tuple(p for p, h in zip(self.pictures, held, strict=True) if h)),
        )

    def thin(self, most: int) -> DetectionSet:
        """At most so many of the pictures, evenly spaced."""
        if len(self) <= most:
            return self
        picks = np.linspace(0, len(self) - 1, most).astype(int)
        return replace(self, pictures=tuple(self.pictures[i] for i in picks))

    def split_in_order(self, fraction: float) -> tuple[DetectionSet, DetectionSet]:
        """(kept, held out): the last part is held out, at least one picture where there are two. For videos."""
        count = min(len(self) - 1, max(1, round(len(self) * fraction)))
        cut = len(self) - max(0, count)
        return replace(self, pictures=self.pictures[:cut]), replace(self, pictures=self.pictures[cut:])


def found_picture(path: Path, image: NDArray[np.uint8], found: Detections) -> LabelledPicture:
    """A picture with what a detector found on it, in its pixels, as its labels."""
    height, width = image.shape[:2]
    return LabelledPicture(
        path, width, height, found.xyxy_px, found.class_ids, found.scores, np.empty((0, 4), np.float32)
    )


def join_sets(sets: Sequence[DetectionSet]) -> DetectionSet:
    """One set of all pictures; the labels must be the same."""
    if not sets or any(s.labels != sets[0].labels for s in sets):
        raise DataError("data sets to be joined must have the same labels")
    return DetectionSet(sets[0].labels, tuple(p for s in sets for p in s.pictures))


def read_picture(path: Path, *, reduction: Literal[1, 2, 4, 8] = 1) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, at 1 / reduction of the size. Raises DataError where the file is no picture."""
    import cv2

    flags = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }
    image = cv2.imread(str(path), flags[reduction])
    if image is None:
        raise DataError(f"{path} is no picture that can be read")
    return np.asarray(image, np.uint8)


# decoded pictures kept in memory: with TensorFlow's own, a training stays below 2 GB whatever the set
CACHE_BYTES = 384 << 20


class PictureCache:
    """Keeps decoded pictures up to `max_bytes`; past that they are read from disk each time."""

    def __init__(self, *, max_bytes: int = CACHE_BYTES) -> None:
        self._left_bytes = max_bytes
        self._kept: dict[tuple[Path, int], NDArray[np.uint8]] = {}

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        return self.reduced(path, 1)

    def reduced(self, path: Path, factor: Literal[1, 2, 4, 8]) -> NDArray[np.uint8]:
        """The picture at 1 / factor of its size, which is read and kept apart: the same for every thread and run."""
        picture = self._kept.get((path, factor))
        if picture is None:
            picture = read_picture(path, reduction=factor)
            if picture.nbytes <= self._left_bytes:
                self._left_bytes -= picture.nbytes
                self._kept[path, factor] = picture
        return picture
