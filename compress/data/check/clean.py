"""Writes lists without what a check found wrong: `instances_<split>-clean.json`, `<split>-clean.csv`.

What leaks is dropped from the split that is guarded less (see listing.split_rank), never from a test split.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.data.check.boxes import judge_box
from compress.data.check.listing import Listing, split_rank
from compress.data.check.lists import CLEAN
from compress.data.check.picture_file import read_facts
from compress.data.check.report import CheckReport, CleanedList, Fault
from compress.data.grouping import write_rows
from edgeai.errors import DataError, UsageError
from edgeai.whole_file import write_whole

_DROP_FILE = frozenset(
    {
        "bad-entry",
        "listed-twice",
        "absent",
        "unreadable",
        "truncated",
        "size-differs",
        "silent",
        "box-conflict",  # which class is right nobody knows
        "duplicate",
        "near-duplicate",
        "length-differs",
    }
)
_LEAKS = frozenset({"leak-file", "leak-near", "leak-span", "leak-group"})
_DROP_BOX = frozenset(
    {
        "box-not-finite",
        "box-empty",
        "box-outside",
        "box-tiny",
        "box-duplicate",
        "unknown-category",
        "orphan-box",
    }
)


def write_cleaned(
    report: CheckReport, listings: Sequence[Listing], out: Path | None = None
) -> list[CleanedList]:
    """Write the cleaned list of each split beside its source, or into `out` (a folder, or one file for one split).

    Raises DataError for a set in another tool's format, UsageError where `out` would replace a source.
    """
    foreign = next((listing for listing in listings if listing.form == "other"), None)
    if foreign is not None:
        raise DataError(
            f"{report.folder} is in another tool's format, which cannot be cleaned in place",
            next_step=f"make it COCO JSON first: edgeai-compress data convert {report.folder} --help",
        )
    as_file = out is not None and out.suffix in (".json", ".csv")
    if as_file and len(listings) > 1:
        raise UsageError(f"--out {out} is one file, and there are {len(listings)} splits; give a folder")
    written = []
    for listing in listings:
        name = (
            f"instances_{listing.split}{CLEAN}.json"
            if listing.form == "coco"
            else f"{listing.split}{CLEAN}.csv"
        )
        path = out if out is not None and as_file else (out or report.folder) / name
        if path.resolve() == listing.source.resolve():
            raise UsageError(f"--out {path} is the list that was checked; give another name")
        drops = choose_drops(report.faults, listing)
        write = _write_coco if listing.form == "coco" else _write_csv
        written.append(write(listing, drops, [f for f in report.faults if f.split == listing.split], path))
    return written


def choose_drops(faults: Sequence[Fault], listing: Listing) -> dict[int, str]:
    """{row of the list: code} of the entries of a split that are dropped; of several reasons the first in the report."""
    rows: dict[str, list[int]] = {}
    groups: dict[str, list[int]] = {}
    group_of: dict[str, str] = {}
    for entry in listing.entries:
        rows.setdefault(entry.file, []).append(entry.row)
        if entry.group:
            groups.setdefault(entry.group, []).append(entry.row)
            group_of[entry.file] = entry.group
    drops: dict[int, str] = {}
    for fault in faults:
        here = rows.get(fault.file, []) if fault.split == listing.split else []
        if fault.code == "leak-group" and fault.split == listing.split:
            here = groups.get(group_of.get(fault.file, ""), [])
        if fault.code == "conflicting-labels":
            if fault.other is not None and fault.other[0] == fault.split == listing.split:
                here = [*here, *rows.get(fault.other[1], [])]
            elif split_rank(fault.split) == 2:
                here = []
        elif fault.code in _LEAKS:
            here = here if split_rank(fault.split) < 2 else []
        elif fault.code == "listed-twice":
            here = here[1:]
        elif fault.code not in _DROP_FILE:
            continue
        for row in here:
            drops.setdefault(row, fault.code)
    return drops


def _write_csv(listing: Listing, drops: dict[int, str], faults: Sequence[Fault], path: Path) -> CleanedList:
    good = {entry.row for entry in listing.entries if entry.row not in drops}
    write_rows(listing, sorted(good), path)
    return CleanedList(listing.split, path, len(good), _tally(listing, drops, faults))


def _write_coco(listing: Listing, drops: dict[int, str], faults: Sequence[Fault], path: Path) -> CleanedList:
    coco: dict[str, Any] = json.loads(listing.source.read_bytes())
    bad_boxes = {
        fault.box: fault.code for fault in faults if fault.code in _DROP_BOX and fault.box is not None
    }
    turned = {fault.file for fault in faults if fault.code == "exif-turned"}
    scaled = {fault.file for fault in faults if fault.code == "box-normalised"}
    boxes_dropped: Counter[str] = Counter()
    boxes_mended: Counter[str] = Counter()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for entry in listing.entries:
        if entry.row in drops:
            continue
        image = dict(coco["images"][entry.row])
        size = (entry.width, entry.height)
        orientation = 1
        if entry.file in turned and entry.path is not None:
            orientation = read_facts(entry.path.read_bytes()).orientation
            image["width"], image["height"] = size[::-1]
        kept = []
        for box in entry.boxes:
            if box.row in bad_boxes:
                boxes_dropped[bad_boxes[box.row]] += 1
                continue
            corners = box.xyxy_px
            if entry.file in scaled:
                corners = (
                    corners[0] * size[0],
                    corners[1] * size[1],
                    corners[2] * size[0],
                    corners[3] * size[1],
                )
                boxes_mended["box-normalised"] += 1
            boxes_mended["box-cut"] += judge_box(corners, size) == "box-cut"
            corners = _clip(corners, size)
            if orientation != 1:
                corners = turn_box(corners, size, orientation)
                boxes_mended["exif-turned"] += 1
            kept.append(_mended(coco["annotations"][box.row], corners, box.xyxy_px))
        if entry.boxes and not kept:  # it holds something that nobody can place: no picture of nothing
            drops[entry.row] = bad_boxes[entry.boxes[0].row]
            continue
        images.append(image)
        annotations.extend(kept)
    for code in ("unknown-category", "orphan-box"):
        boxes_dropped[code] += sum(fault.code == code for fault in faults)
    text = json.dumps({**coco, "images": images, "annotations": annotations})
    write_whole(path, text)
    return CleanedList(
        listing.split,
        path,
        len(images),
        _tally(listing, drops, faults),
        dict(+boxes_dropped),
        dict(+boxes_mended),
    )


def _tally(listing: Listing, drops: dict[int, str], faults: Sequence[Fault]) -> dict[str, int]:
    """How many entries were dropped for each code; entries that never became one (no file named) count as well."""
    counts = Counter(drops.values())
    files = {entry.file for entry in listing.entries}
    counts["bad-entry"] += sum(fault.code == "bad-entry" and fault.file not in files for fault in faults)
    return dict(+counts)


def _mended(
    annotation: dict[str, Any], corners: tuple[float, ...], before: tuple[float, ...]
) -> dict[str, Any]:
    if corners == before:
        return annotation
    x1, y1, x2, y2 = (round(v, 2) for v in corners)
    width, height = round(x2 - x1, 2), round(y2 - y1, 2)
    made = {**annotation, "bbox": [x1, y1, width, height], "area": round(width * height, 2)}
    made.pop("segmentation", None)  # of the box as it was
    return made


def _clip(
    corners: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners
    return max(0.0, x1), max(0.0, y1), min(float(size[0]), x2), min(float(size[1]), y2)


def turn_box(
    corners: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """A box on the stored pixels, (width, height), as it lies when the picture is turned as EXIF says (Exif 2.32, 4.6.5.1)."""
    x1, y1, x2, y2 = corners
    width, height = size
    if orientation in (2, 3, 7, 8):  # the stored row runs right to left
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):  # the stored column runs bottom to top
        y1, y2 = height - y2, height - y1
    return (y1, x1, y2, x2) if orientation >= 5 else (x1, y1, x2, y2)
