"""A data folder in one format made one in another, all of its splits, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from compress.data.detection import DetectionSet
from compress.data.formats import detect_format, list_splits, load_detections, open_format, write_detections
from compress.data.formats.places import Transfer
from edgeai.whole_file import check_free, new_folder


@dataclass(frozen=True, slots=True)
class ConvertedSplit:
    """What was written of a split; `lost` counts what the new format does not keep."""

    split: str
    pictures: int
    boxes: int
    lost: dict[Literal["crowd", "score", "group"], int]


@dataclass(frozen=True, slots=True)
class Conversion:
    """kind: the format that was read."""

    kind: str
    labels: tuple[str, ...]
    splits: tuple[ConvertedSplit, ...]


def convert_folder(
    folder: Path,
    out: Path,
    *,
    to: str,
    source: str = "auto",
    splits: Sequence[str] | None = None,
    pictures: Transfer = "copy",
) -> Conversion:
    """Write the splits of `folder` (None: all it has) to the new folder `out`; one without splits becomes train.

    Raises UsageError for an unknown format, DataError where `out` is not empty, and what load_detections raises.
    """
    open_format(to)
    check_free(out)
    kind = detect_format(folder) if source == "auto" else source
    asked = list(dict.fromkeys(splits or list_splits(kind, folder)))
    read = [(split, load_detections(kind, folder, split, None)) for split in asked]
    labels = tuple(dict.fromkeys(label for _, data in read for label in data.labels))
    done = []
    with new_folder(out) as part:
        for split, data in read:
            name = "train" if split == "all" else split
            write_detections(to, part, name, _relabel(data, labels), pictures=pictures)
            done.append(ConvertedSplit(name, len(data), _boxes(data), _lost(data, to)))
    return Conversion(kind, labels, tuple(done))


def _relabel(data: DetectionSet, labels: tuple[str, ...]) -> DetectionSet:
    """The same boxes, their classes counted through `labels`: splits may list their classes in another order."""
    if data.labels == labels:
        return data
    numbers = np.array([labels.index(label) for label in data.labels], np.int32)
    pictures = tuple(replace(p, class_ids=numbers[p.class_ids]) for p in data.pictures)
    return DetectionSet(labels, pictures)


def _boxes(data: DetectionSet) -> int:
    return sum(len(picture.xyxy_px) for picture in data.pictures)


def _lost(data: DetectionSet, to: str) -> dict[Literal["crowd", "score", "group"], int]:
    keeps = open_format(to).keeps
    counts: dict[Literal["crowd", "score", "group"], int] = {
        "crowd": sum(len(p.crowd_px) for p in data.pictures),
        "score": sum(int((p.scores < 1).sum()) for p in data.pictures),
        "group": sum(bool(p.group) for p in data.pictures),
    }
    return {what: count for what, count in counts.items() if count and what not in keeps}
