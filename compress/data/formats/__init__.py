"""Data sets with boxes in the formats of others, in and out. One more format is one more line in `DETECTION_FORMATS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.data.detection import DetectionSet
from compress.data.formats.coco import coco_files, coco_splits, load_coco, write_coco_set
from compress.data.formats.cvat import cvat_files, cvat_splits, load_cvat, write_cvat
from compress.data.formats.label_studio import (
    label_studio_files,
    label_studio_splits,
    load_label_studio,
    write_label_studio,
)
from compress.data.formats.places import Transfer, place_pictures
from compress.data.formats.voc import is_voc, load_voc, voc_splits, write_voc
from compress.data.formats.yolo import is_yolo, load_yolo, write_yolo, yolo_splits
from edgeai.errors import DataError, DataMissingError, UsageError

MAX_LABEL_CHARS = 200


@dataclass(frozen=True, slots=True)
class Format:
    """A format's functions. marks: what a folder of it holds, in words.

    pictures: the folder of a split's pictures that `write` counts on, with {split} in it; it gets their names there.
    keeps: what the format holds besides boxes, classes and sizes.
    """

    title: str
    marks: str
    pictures: str
    keeps: frozenset[Literal["crowd", "score", "group"]]
    is_here: Callable[[Path], object]
    splits: Callable[[Path], tuple[str, ...]]
    load: Callable[[Path, str, Sequence[str] | None], DetectionSet]
    write: Callable[[Path, str, DetectionSet, Sequence[str]], list[Path]]


DETECTION_FORMATS: dict[str, Format] = {
    "coco": Format(
        "COCO JSON", "instances_<split>.json", "images", frozenset({"crowd", "score", "group"}),
        coco_files, coco_splits, load_coco, write_coco_set,
    ),
    "voc": Format(
        "Pascal VOC", "Annotations/*.xml", "JPEGImages", frozenset({"crowd"}),
        is_voc, voc_splits, load_voc, write_voc,
    ),
    "yolo": Format(
        "YOLO text", "data.yaml or classes.txt, labels/*.txt", "images/{split}", frozenset(),
        is_yolo, yolo_splits, load_yolo, write_yolo,
    ),
    "label-studio": Format(
        "Label Studio JSON", "a .json that is a list of tasks", "images", frozenset({"score", "group"}),
        label_studio_files, label_studio_splits, load_label_studio, write_label_studio,
    ),
    "cvat": Format(
        "CVAT for images 1.1", "a .xml of <annotations>", "images", frozenset(),
        cvat_files, cvat_splits, load_cvat, write_cvat,
    ),
}  # fmt: skip


def open_format(kind: str) -> Format:
    """The format of that name. Raises UsageError."""
    if kind not in DETECTION_FORMATS:
        raise UsageError(f"unknown format {kind!r}; there is {', '.join(DETECTION_FORMATS)}")
    return DETECTION_FORMATS[kind]


def load_detections(kind: str, folder: Path, split: str, labels: Sequence[str] | None) -> DetectionSet:
    """Read a split of a folder. kind: a name in DETECTION_FORMATS, or "auto".

    labels: the classes wanted, in their order; boxes of others are left out. None: every class, in the format's order.
    split: "all" or "train" where the folder has no splits. Pictures are named, not read.

    Raises UsageError for a kind that is not known, DataMissingError for a folder, split or picture that is not there,
    DataError for what is wrong, and for a wanted label that the folder does not know.
    """
    if not 0 < len(split) <= MAX_LABEL_CHARS or re.search(r"[/\\\x00-\x1f]", split):
        raise UsageError(f"{split[:60]!r} cannot be a split's name")
    return open_format(detect_format(folder) if kind == "auto" else kind).load(
        _checked(folder), split, labels
    )


def list_splits(kind: str, folder: Path) -> tuple[str, ...]:
    """The splits of a folder, ("all",) where it has none. kind: as for load_detections."""
    return open_format(detect_format(folder) if kind == "auto" else kind).splits(_checked(folder)) or ("all",)


def detect_format(folder: Path) -> str:
    """The name in DETECTION_FORMATS of what lies in the folder.

    Raises DataMissingError without a folder, DataError where nothing is known or there is more than one format.
    """
    _checked(folder)
    found = [kind for kind, format_ in DETECTION_FORMATS.items() if format_.is_here(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{folder} holds labels in {' and '.join(found)}", next_step="say which is meant (--from)"
        )
    looked = "; ".join(f"{kind}: {format_.marks}" for kind, format_ in DETECTION_FORMATS.items())
    raise DataError(f"{folder} holds labels of no known format; looked for {looked}")


def write_detections(
    kind: str, folder: Path, split: str, data: DetectionSet, *, pictures: Transfer = "copy"
) -> list[Path]:
    """Write a split and put its pictures beside it, copied or symbolically linked; the label files and folders written.

    A folder that holds other splits is added to. A picture keeps its name unless two would share one. What the format
    does not keep (`Format.keeps`) is left out. Raises UsageError, DataMissingError, DataError.
    """
    format_ = open_format(kind)
    if not re.fullmatch(r"\w[\w-]{0,63}", split):
        raise UsageError(f"a split cannot be called {split!r}: letters, digits, _ and - are allowed")
    for label in data.labels:
        if not 0 < len(label) <= MAX_LABEL_CHARS or not label.isprintable() or label != label.strip():
            raise DataError(
                f"the label {label[:60]!r} cannot be written: it must be one line of printable text"
            )
    if len(set(data.labels)) < len(data.labels):
        raise DataError("two labels have the same name")
    if not data.labels or not len(data):
        raise DataError("there is nothing to write: no label, or no picture")
    where = folder / format_.pictures.format(split=split)
    names = place_pictures([picture.path for picture in data.pictures], where, pictures=pictures)
    return format_.write(folder, split, data, names)


def _checked(folder: Path) -> Path:
    if folder.is_file():
        raise DataError(
            f"{folder} is a file", next_step="give the folder that holds it and its pictures, unpacked"
        )
    if not folder.is_dir():
        raise DataMissingError(f"no folder {folder}")
    return folder
