"""Finds out what a folder holds and reads its lists: COCO JSON, CSV, label formats of other tools, folders of a class each."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from compress.data.check.listing import Box, Entry, Listing
from compress.data.check.report import Fault
from compress.data.confined import confined
from compress.data.speech import LABEL_COLUMNS, read_speech_list
from edgeai.errors import DataError, DataMissingError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SOUND_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"})
CLEAN = "-clean"
NO_SPEAKER = frozenset({"", "none", "unknown", "-"})
GROUP_COLUMNS = ("speaker", "group", "site", "day", "recording", "session", "video")
_NOT_A_NUMBER = (math.nan,) * 4


def open_listings(folder: Path, splits: Sequence[str] = ()) -> list[Listing]:
    """The lists of a data folder, those of `splits`, or all but cleaned ones.

    Looked for are, in this order, instances_<split>.json, <split>.csv, the formats of compress.data.formats, and folders of
    a class each, with or without folders of splits above them. Raises DataMissingError where nothing is found or a split is
    not there, DataError where a list cannot be read at all.
    """
    if not folder.is_dir():
        raise DataMissingError(f"no data folder at {folder}")
    found = list_files(folder)
    names = list(splits) or [name for name in found if not name.endswith(CLEAN)]
    if names and (found or not splits):
        absent = next((name for name in names if name not in found), None)
        if absent is not None:
            raise DataMissingError(f"{folder} has no split {absent!r}; it has {', '.join(found)}")
        return [read_list(folder, name, found[name]) for name in dict.fromkeys(names)]
    from compress.data.check.other_lists import read_other_lists

    return read_other_lists(folder, splits)


def list_files(folder: Path) -> dict[str, Path]:
    """{split: file} of the COCO files of a folder, or else of its CSVs, by name."""
    coco = {p.stem.removeprefix("instances_"): p for p in sorted(folder.glob("instances_*.json"))}
    return coco or {p.stem: p for p in sorted(folder.glob("*.csv")) if _is_list(p)}


def read_list(folder: Path, split: str, path: Path) -> Listing:
    """One list. Raises DataError where it is no list at all."""
    return read_coco(folder, split, path) if path.suffix == ".json" else read_csv(folder, split, path)


def read_coco(folder: Path, split: str, path: Path) -> Listing:
    """A COCO file, each wrong entry a fault. Raises DataError where it is no JSON object with images."""
    from compress.data.formats.json_file import read_items

    images: list[tuple[int, dict[str, Any]]] = []
    names: dict[int, str] = {}
    boxes: dict[int, list[tuple[int, tuple[float, float, float, float], int | None, bool]]] = {}
    faults: list[Fault] = []
    rows = {"images": 0, "annotations": 0, "categories": 0}
    for key, item in read_items(path, tuple(rows)):
        row = rows[key]
        rows[key] += 1
        number = (
            _integer(item.get("image_id" if key == "annotations" else "id"))
            if isinstance(item, dict)
            else None
        )
        if number is None:
            faults.append(Fault("bad-entry", split, "", f"{key}[{row}] of {path.name} has no number"))
        elif key == "categories":
            names[number] = str(item.get("name", number))
        elif key == "images":
            images.append((row, item))
        else:
            box = (
                row,
                _corners(item.get("bbox")),
                _integer(item.get("category_id")),
                bool(item.get("iscrowd")),
            )
            boxes.setdefault(number, []).append(box)
    if not images:
        raise DataError(f"{path} lists no pictures")
    return Listing(
        split,
        "boxes",
        "coco",
        path,
        tuple(_coco_entries(folder, split, images, boxes, names, faults)),
        tuple(names.values()),
        tuple(faults),
    )


def _coco_entries(
    folder: Path,
    split: str,
    images: list[tuple[int, dict[str, Any]]],
    boxes: dict[int, list[tuple[int, tuple[float, float, float, float], int | None, bool]]],
    names: dict[int, str],
    faults: list[Fault],
) -> Iterable[Entry]:
    from compress.data.formats.records import group_of

    seen: set[int] = set()
    files: set[str] = set()
    for row, image in images:
        number, file = int(image["id"]), image.get("file_name")
        if not isinstance(file, str) or not file or number in seen:
            why = "has a number that another has" if number in seen else "names no file"
            faults.append(Fault("bad-entry", split, str(file or ""), f"images[{row}] {why}"))
            continue
        seen.add(number)
        if file in files:
            faults.append(Fault("listed-twice", split, file, f"images[{row}]"))
        files.add(file)
        made = []
        for place, corners, category, crowd in boxes.get(number, []):
            if category not in names:
                faults.append(Fault("unknown-category", split, file, f"category {category}", place))
                continue
            made.append(Box(corners, names[category], crowd, place))
        width, height = (max(0, _integer(image.get(key)) or 0) for key in ("width", "height"))
        if not (width and height):
            faults.append(Fault("bad-entry", split, file, f"images[{row}] tells no width and height"))
        path = confined(folder / "images", file)
        yield Entry(split, file, path, row, "", group_of(image), width, height, tuple(made))
    for number, orphans in boxes.items():
        if number not in seen:
            place = orphans[0][0]
            faults.append(Fault("orphan-box", split, "", f"{len(orphans)} of picture {number}", place))


def read_csv(folder: Path, split: str, path: Path) -> Listing:
    """A CSV with `file` and a label column. Raises DataError where it is none, or lists nothing."""
    rows, column = read_speech_list(path)
    grouping = next((c for c in GROUP_COLUMNS if c in rows[0]), "")
    faults: list[Fault] = []
    entries: list[Entry] = []
    files: set[str] = set()
    for number, row in enumerate(rows):
        name, label = row["file"], row[column]
        if not name or not label:
            faults.append(
                Fault("bad-entry", split, name or "", f"line {number + 2}: no {'label' if name else 'file'}")
            )
            continue
        if name in files:
            faults.append(Fault("listed-twice", split, name, f"line {number + 2}"))
        files.add(name)
        group = (row.get(grouping) or "") if grouping else ""
        entries.append(
            Entry(
                split,
                name,
                confined(folder, name),
                number,
                label,
                "" if group.lower() in NO_SPEAKER else group,
                rate_hz=_integer(row.get("sample_rate")) or 0,
                samples=_integer(row.get("samples")) or 0,
            )
        )
    pictures = sum(Path(entry.file).suffix.lower() in PICTURE_SUFFIXES for entry in entries)
    kind = "pictures" if 2 * pictures > len(entries) else "sounds"
    return Listing(
        split, "pictures" if kind == "pictures" else "sounds", "csv", path, tuple(entries), (), tuple(faults)
    )


def _is_list(path: Path) -> bool:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return "file" in head and any(column in head for column in LABEL_COLUMNS)


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        return int(number) if abs(number) < 1e15 else None
    except (ValueError, OverflowError):
        return None


def _corners(bbox: object) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) of COCO's x, y, width, height; NaNs for what is not four numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return _NOT_A_NUMBER
    try:
        x, y, width, height = (float(v) for v in bbox)
    except (TypeError, ValueError, OverflowError):
        return _NOT_A_NUMBER
    return x, y, x + width, y + height
