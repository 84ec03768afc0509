"""Folders without a list of our own: label formats of other tools, and folders of a class each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.data.check.listing import Box, Entry, Listing
from compress.data.check.lists import PICTURE_SUFFIXES, SOUND_SUFFIXES
from compress.data.detection import DetectionSet
from compress.data.formats.places import plain_split
from edgeai.errors import DataError, DataMissingError, EdgeError

MAX_FILES = 2_000_000


def read_other_lists(folder: Path, splits: Sequence[str]) -> list[Listing]:
    """The splits of a folder that has no COCO JSON and no CSV. Raises DataError, DataMissingError."""
    from compress.data.formats import detect_format, list_splits, load_detections

    try:
        kind = detect_format(folder)
    except EdgeError as error:
        made = _class_folders(folder, splits)
        if made:
            return made
        raise DataMissingError(
            f"{error}; nor is there a <split>.csv with file and label, or a folder for each class"
        ) from error
    names = list(splits) or list(list_splits(kind, folder))
    return [_from_set(folder, kind, split, load_detections(kind, folder, split, None)) for split in names]


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
    """<folder>/<split>/<class>/files where folders are named like splits, else <folder>/<class>/files, the split "all".

    Folders within a class are groups, as for compress.data.formats.folders.
    """
    tops = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))
    named = [name for name in tops if name in splits or plain_split(name) in ("train", "val", "test")]
    absent = next((split for split in splits if split not in (named or ("all", "train"))), None)
    if absent is not None:
        raise DataMissingError(f"{folder} has no split {absent!r}; it has {', '.join(named) or 'all'}")
    roots = {name: folder / name for name in (splits or named)} if named else {(*splits, "all")[0]: folder}
    found = {split: _files_below(root) for split, root in roots.items()}
    every = [parts for files in found.values() for parts in files]
    sounds = 2 * sum(Path(parts[-1]).suffix.lower() in SOUND_SUFFIXES for parts in every) > len(every)
    suffixes = SOUND_SUFFIXES if sounds else PICTURE_SUFFIXES
    made = []
    for split, files in found.items():
        entries: list[Entry] = []
        for parts in files:
            if Path(parts[-1]).suffix.lower() in suffixes:
                path = roots[split].joinpath(*parts)
                group = "/".join(parts[1:-1]) or (speaker_of(parts[-1], parts[0]) if sounds else "")
                name = path.relative_to(folder).as_posix()
                entries.append(Entry(split, name, path, len(entries), parts[0], group))
        if entries:
            made.append(Listing(split, "sounds" if sounds else "pictures", "folders", folder, tuple(entries)))
    return made


def _files_below(root: Path) -> list[tuple[str, ...]]:
    """The parts, below `root`, of every picture and sound that lies in a folder there; links to folders are not followed."""
    files: list[tuple[str, ...]] = []
    for where, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        inside = Path(where).relative_to(root).parts
        if inside:
            known = (n for n in sorted(names) if Path(n).suffix.lower() in PICTURE_SUFFIXES | SOUND_SUFFIXES)
            files.extend((*inside, name) for name in known if not name.startswith("."))
        if len(files) > MAX_FILES:
            raise DataError(f"{root} holds more than {MAX_FILES:,} files")
    return files


def speaker_of(name: str, label: str) -> str:
    """Who speaks, where a file's name tells: <speaker>_nohash_<n> (Speech Commands) or <label>_<speaker>_<n> (FSDD)."""
    stem = Path(name).stem
    before, mark, _ = stem.partition("_nohash_")
    if mark:
        return before.rpartition("_")[2] if before.startswith(f"{label}_") else before
    parts = stem.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == label and parts[2].isdigit() else ""
