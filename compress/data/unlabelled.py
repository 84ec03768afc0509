"""Pictures without labels, found in a folder: what a network can be pre-trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from compress.data.formats.coco import coco_files
from compress.data.formats.json_file import read_items
from compress.data.formats.places import list_pictures
from edgeai.console import print_note
from edgeai.errors import DataError, DataMissingError

MAX_PICTURES = 500_000
# what trainers of other projects call the folders that they measure on
MEASURED_FOLDERS = frozenset(("test", "tests", "val", "valid", "validation"))


def find_pictures(
    folder: Path, *, splits: Collection[str] = ("train",), leave_out: Collection[Path] = ()
) -> tuple[Path, ...]:
    """Every picture file below `folder`, as real paths, sorted; they are not opened here.

    Links to folders are not followed, links to files only where they stay below `folder`.

    What is measured on must stay unseen, without its labels too. Left out, and told: each of `leave_out` (a recipe's
    validation pictures), folders in `folder` that are called test or val, and pictures that COCO labels in `folder` or in
    the folder above it list under other splits than `splits`. Raises DataMissingError where there is no folder or nothing
    is left, DataError for a file in its place, broken labels, or over MAX_PICTURES pictures.
    """
    root = _resolve(folder)
    if root.is_file():
        raise DataError(f"{folder} is a file, a folder of pictures is expected")
    below = sorted(set(_below(root, list_pictures(root))))
    if len(below) > MAX_PICTURES:
        raise DataError(
            f"{folder} holds {len(below):,} pictures, more than {MAX_PICTURES:,}",
            next_step="give a part of them",
        )
    held = {_resolve(path) for path in leave_out} | _listed_elsewhere(root, splits)
    kept = tuple(path for path in below if path not in held and not _measured(path, root, splits))
    if not kept:
        raise DataMissingError(
            f"no pictures to learn from in {folder}: all {len(below)} are held out or of other splits than "
            f"{', '.join(splits)}"
            if below
            else f"no pictures in {folder}: its links lead out of it",
            next_step="give a folder with more pictures",
        )
    if len(kept) < len(below):
        print_note(f"{folder}: {len(below) - len(kept)} of {len(below)} pictures left out, to be measured on")
    return kept


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or a name with a NUL in it
        raise DataError(f"{str(path)!r} is no path: {error}") from None


def _below(root: Path, paths: Collection[Path]) -> Iterator[Path]:
    """Real paths of the files among `paths`; a link that leads out of `root`, or nowhere, is passed over."""
    for path in paths:
        if not path.is_file():
            continue
        real = _resolve(path) if path.is_symlink() else path
        if real.is_relative_to(root):
            yield real


def _measured(path: Path, root: Path, splits: Collection[str]) -> bool:
    folders = {part.lower() for part in path.relative_to(root).parts[:-1]}
    return bool(folders & (MEASURED_FOLDERS - set(splits)))


def _listed_elsewhere(root: Path, splits: Collection[str]) -> set[Path]:
    """The pictures that other splits than `splits` list, and `splits` do not."""
    kept: set[Path] = set()
    held: set[Path] = set()
    for folder in (root, root.parent):
        for split, labels in coco_files(folder).items():
            if split == "all":
                continue
            places = dict.fromkeys(
                (folder / "images", folder / "images" / split, folder / split, labels.parent, folder)
            )
            names = [
                str(item["file_name"])
                for _, item in read_items(labels, ("images",))
                if isinstance(item, dict) and "file_name" in item
            ]
            # each name counts at every place it may be meant for: one picture too few is better than one too many
            listed = {place / name for place in places for name in names if "\0" not in name}
            (kept if split in splits else held).update(listed)
    return held - kept
