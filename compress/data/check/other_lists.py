"""Folders without a list of our own: label formats of other tools, and folders of a class each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.data.check.listing import Box, Entry, Listing
from compress.data.check.lists import PICTURE_SUFFIXES, SOUND_SUFFIXES
from compress.data.detection import DetectionSet
from edgeai.errors import DataError, DataMissingError, EdgeError

MAX_FILES = 2_000_000


def read_other_lists(folder: Path, splits: Sequence[str]) -> list[Listing]:
    """The splits of a folder that has no COCO JSON and no CSV. Raises DataError, DataMissingError."""
    from compress.data.formats import detect_format, load_detections

    try:
        kind = detect_format(folder)
    except EdgeError as error:
        made = _class_folders(folder, splits)
        if made:
            return made
        raise DataMissingError(
            f"{folder} holds no instances_<split>.json, no <split>.csv with file and label, no label format of another "
            f"tool, and no folders of a class each ({error})"
        ) from error
    if splits:
        return [
            _from_set(folder, kind, split, load_detections(kind, folder, split, None)) for split in splits
        ]
    made = []
    for split in ("train", "val", "test"):
        try:
            loaded = load_detections(kind, folder, split, None)
        except DataMissingError:
            continue
        made.append(_from_set(folder, kind, split, loaded))
    return made or [_from_set(folder, kind, "all", load_detections(kind, folder, "all", None))]


def _from_set(folder: Path, kind: str, split: str, loaded: DetectionSet) -> Listing:
    entries = []
    for row, picture in enumerate(loaded.pictures):
        corners = np.concatenate((picture.xyxy_px, picture.crowd_px)).tolist()
        labels = [loaded.labels[i] for i in picture.class_ids] + [""] * len(picture.crowd_px)
        boxes = tuple(
            Box((x1, y1, x2, y2), label, place >= len(picture.class_ids), place)
            for place, ((x1, y1, x2, y2), label) in enumerate(zip(corners, labels, strict=True))
        )
        name = _shown(picture.path, folder)
        entries.append(
            Entry(split, name, picture.path, row, "", picture.group, picture.width, picture.height, boxes)
        )
    return Listing(split, "boxes", "other", folder / kind, tuple(entries), loaded.labels)


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _class_folders(folder: Path, splits: Sequence[str]) -> list[Listing]:
    """<folder>/<split>/<class>/files, or <folder>/<class>/files, which is the split "all"."""
    files: list[tuple[str, ...]] = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(where).relative_to(folder).parts
        known = (n for n in sorted(names) if Path(n).suffix.lower() in PICTURE_SUFFIXES | SOUND_SUFFIXES)
        files.extend((*inside, name) for name in known if inside and not name.startswith("."))
        if len(files) > MAX_FILES:
            raise DataError(f"{folder} holds more than {MAX_FILES:,} files")
    if not files:
        return []
    deep = sum(len(parts) >= 3 for parts in files) > len(files) / 2
    found: dict[str, list[Entry]] = {}
    for parts in files:
        if deep and len(parts) < 3:
            continue
        split, label = (parts[0], parts[1]) if deep else ("all", parts[0])
        entries = found.setdefault(split, [])
        name = "/".join(parts)
        entries.append(Entry(split, name, folder / name, len(entries), label, speaker_of(parts[-1], label)))
    absent = next((split for split in splits if split not in found), None)
    if absent is not None:
        raise DataMissingError(f"{folder} has no split {absent!r}; it has {', '.join(found)}")
    sounds = sum(Path(parts[-1]).suffix.lower() in SOUND_SUFFIXES for parts in files)
    kind = "sounds" if 2 * sounds > len(files) else "pictures"
    suffixes = SOUND_SUFFIXES if kind == "sounds" else PICTURE_SUFFIXES
    return [
        Listing(
            split,
            "sounds" if kind == "sounds" else "pictures",
            "folders",
            folder,
            tuple(entry for entry in found[split] if Path(entry.file).suffix.lower() in suffixes),
        )
        for split in (splits or found)
    ]


def speaker_of(name: str, label: str) -> str:
    """Who speaks, where a file's name tells: <speaker>_nohash_<n> (Speech Commands) or <label>_<speaker>_<n> (FSDD)."""
    stem = Path(name).stem
    before, mark, _ = stem.partition("_nohash_")
    if mark:
        return before.rpartition("_")[2] if before.startswith(f"{label}_") else before
    parts = stem.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == label and parts[2].isdigit() else ""
