"""Boxes and pictures as they come out of a label file, kept small, and made a DetectionSet when all are known."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.data.detection import DetectionSet, LabelledPicture
from edgeai.errors import DataError

MAX_PICTURES = 2_000_000
MAX_SIDE_PX = 1 << 20  # what OpenCV refuses to decode anyway
MAX_COORDINATE_PX = 1e7
GROUP_FIELDS = ("group", "site", "day", "video")


class PictureRecords:
    """Gathers pictures and boxes; class names get their numbers at the end. About 40 bytes a box."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._pictures: list[tuple[Path, int, int, str]] = []
        self._numbers: dict[str, int] = {}
        self._xyxy = array("f")
        self._classes = array("i")
        self._scores = array("f")
        self._crowd = array("b")
        self._owners = array("i")

    def __len__(self) -> int:
        return len(self._pictures)

    def names(self) -> list[str]:
        """The class names that were seen, in order of the alphabet."""
        return sorted(self._numbers)

    def add_picture(self, path: Path, width: int, height: int, group: str = "") -> int:
        """Take a picture; its number. Raises DataError for a size that no picture has."""
        if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
            raise DataError(f"{self._where}: picture {path.name!r} is said to be {width} x {height}")
        if len(self._pictures) >= MAX_PICTURES:
            raise DataError(f"{self._where} lists more than {MAX_PICTURES:,} pictures")
        self._pictures.append((path, width, height, group))
        return len(self._pictures) - 1

    def add_box(
        self, picture: int, name: str, xyxy_px: Sequence[float], *, score: float = 1.0, crowd: bool = False
    ) -> None:
        """Take a box of picture number `picture`; `finish` leaves out those without area.

        Raises DataError for a coordinate or score that is not finite, or beyond any picture.
        """
        x1, y1, x2, y2 = xyxy_px
        if not all(abs(v) <= MAX_COORDINATE_PX for v in (x1, y1, x2, y2)):
            raise DataError(
                f"{self._where}: a box of {name[:40]!r} is not finite: {x1:g}, {y1:g}, {x2:g}, {y2:g}"
            )
        if not 0 <= score <= 1:
            raise DataError(
                f"{self._where}: a box of {name[:40]!r} has the score {score:g}; 0 to 1 is expected"
            )
        self._xyxy.extend((x1, y1, x2, y2))
        self._classes.append(self._numbers.setdefault(name, len(self._numbers)))
        self._scores.append(score)
        self._crowd.append(crowd)
        self._owners.append(picture)

    def finish(self, labels: Sequence[str]) -> DetectionSet:
        """The set; boxes of other classes than `labels` are left out. Raises DataError where there is no picture."""
        if not self._pictures:
            raise DataError(f"{self._where} lists no pictures")
        index = {label: i for i, label in enumerate(labels)}
        renumber = np.array([index.get(name, -1) for name in self._numbers] or [-1], np.int32)
        owners = np.frombuffer(self._owners, np.int32) if self._owners else np.empty(0, np.int32)
        classes = renumber[np.array(self._classes, np.int32)]
        crowd = np.array(self._crowd, bool)
        xyxy = np.array(self._xyxy, np.float32).reshape(-1, 4)
        scores = np.array(self._scores, np.float32)
        kept = (classes >= 0) & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        boxes = np.flatnonzero(kept & ~crowd)
        crowds = np.flatnonzero(kept & crowd)
        boxes = boxes[np.argsort(owners[boxes], kind="stable")]
        crowds = crowds[np.argsort(owners[crowds], kind="stable")]
        numbers = np.arange(len(self._pictures) + 1)
        box_ends = np.searchsorted(owners[boxes], numbers).tolist()
        crowd_ends = np.searchsorted(owners[crowds], numbers).tolist()
        box_xyxy, box_classes, box_scores, crowd_xyxy = (
            xyxy[boxes],
            classes[boxes],
            scores[boxes],
            xyxy[crowds],
        )
        pictures = []
        for i, (path, width, height, group) in enumerate(self._pictures):
            own = slice(box_ends[i], box_ends[i + 1])
            regions = crowd_xyxy[crowd_ends[i] : crowd_ends[i + 1]]
            pictures.append(
                LabelledPicture(
                    path, width, height, box_xyxy[own], box_classes[own], box_scores[own], regions, group
                )
            )
        return DetectionSet(tuple(labels), tuple(pictures))


def choose_labels(wanted: Sequence[str] | None, known: Sequence[str], where: Path) -> tuple[str, ...]:
    """`wanted`, or all of `known`. Raises DataError for a wanted one that is not known, and where there is none."""
    if wanted is None:
        if not known:
            raise DataError(f"{where} names no class")
        return tuple(known)
    there = set(known)
    absent = next((label for label in wanted if label not in there), None)
    if absent is not None:
        has = ", ".join(name[:40] for name in sorted(there)[:12]) or "none"
        raise DataError(f"{where} has no category {absent!r}; it has {has}")
    return tuple(wanted)


def check_declared(declared: Sequence[str], seen: Sequence[str], where: Path) -> None:
    """Raise DataError where boxes are of a class that the folder's own list, the file `where`, does not have."""
    stray = next((name for name in seen if name not in declared), None)
    if stray is not None:
        raise DataError(f"{where} does not list {stray[:60]!r}, which boxes are of", next_step="add it there")


def group_of(fields: object) -> str:
    """What a record says must stay together: its "group", else site, day and video, joined; "" where it says nothing."""
    if not isinstance(fields, dict):
        return ""
    said = {
        f: str(fields[f]) for f in GROUP_FIELDS if isinstance(fields.get(f), str | int) and fields[f] != ""
    }
    return said.get("group") or " ".join(said.values())
