"""Folders that are labels: `<split>/<label>/` with pictures or sounds in it, or `<label>/` alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compress.data.classified import PictureSet
from compress.data.formats.places import PICTURE_SUFFIXES, choose_split, plain_split
from compress.data.formats.records import MAX_PICTURES, choose_labels
from edgeai.errors import DataError, DataMissingError

SOUND_SUFFIXES = (".wav", ".flac")
_SPLITS = ("train", "val", "test")


class SoundFile(NamedTuple):
    """A clip, its label, and who speaks: the file's name where nothing tells."""

    path: Path
    label: str
    speaker: str


def load_picture_folders(folder: Path, split: str, labels: Sequence[str] | None) -> PictureSet:
    """The pictures of each label's folder, and of the folders in it, whose names are then their groups.

    labels: the folders wanted, in their order; None: every folder, by the alphabet. Folders that begin with . or _ are
    none. The splits train, val and test are looked for; a folder without them is train, or all.

    Raises DataMissingError for a folder or split that is not there, DataError for an unknown or empty label.
    """
    root, chosen = _choose(folder, split, labels)
    paths: list[Path] = []
    class_ids: list[int] = []
    for number, label in enumerate(chosen):
        found = _files(root / label, PICTURE_SUFFIXES)
        paths += found
        class_ids += [number] * len(found)
    groups = tuple(
        path.name if path.parent.parent == root else path.parent.relative_to(root).as_posix()
        for path in paths
    )
    return PictureSet(chosen, tuple(paths), np.array(class_ids, np.int32), groups)


def list_sound_folders(folder: Path, split: str, labels: Sequence[str] | None) -> list[SoundFile]:
    """The WAV and FLAC files of each label's folder, in order of labels and names; labels and split as for pictures.

    The speaker is told by a name as in Speech Commands, `<speaker>_nohash_<n>`, or in the Free Spoken Digit Dataset,
    `<label>_<speaker>_<n>`. Raises DataMissingError, DataError.
    """
    root, chosen = _choose(folder, split, labels)
    return [
        SoundFile(path, label, _speaker(path, label))
        for label in chosen
        for path in _files(root / label, SOUND_SUFFIXES)
    ]


def _speaker(path: Path, label: str) -> str:
    told = re.match(r"(.+?)_nohash_", path.name) or re.fullmatch(rf"{re.escape(label)}_(.+)_\d+", path.stem)
    return told[1] if told else path.name


def _choose(folder: Path, split: str, labels: Sequence[str] | None) -> tuple[Path, tuple[str, ...]]:
    if not folder.is_dir():
        raise DataMissingError(f"no folder {folder}")
    splits = [name for name in _folders(folder) if plain_split(name) in _SPLITS or name == split]
    root = folder / choose_split(splits, split, folder) if splits else folder
    if not splits:
        choose_split((), split, folder)
    chosen = choose_labels(labels, _folders(root), root)
    return root, chosen


def _folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    found = [p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not found:
        raise DataError(f"{folder} holds no file of {', '.join(suffixes)}")
    if len(found) > MAX_PICTURES:
        raise DataError(f"{folder} holds more than {MAX_PICTURES:,} files")
    return sorted(found)
