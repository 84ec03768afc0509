"""What shows only when a set is seen as a whole: classes, groups in two splits, files that no list names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from compress.data.check.listing import Listing, guard_order
from compress.data.check.lists import CLEAN, PICTURE_SUFFIXES, SOUND_SUFFIXES, list_files
from compress.data.check.report import Fault, SplitCounts

IMBALANCE = 20.0
MIN_EXAMPLES = 10


def count_split(listing: Listing, seconds: float) -> SplitCounts:
    """Files, boxes, groups and examples of each class; declared classes count from 0."""
    classes = Counter(dict.fromkeys(listing.classes, 0))
    for entry in listing.entries:
        if entry.label:
            classes[entry.label] += 1
        classes.update(box.label for box in entry.boxes if not box.crowd and box.label)
    return SplitCounts(
        listing.split,
        len(listing.entries),
        sum(len(entry.boxes) for entry in listing.entries),
        len({entry.group for entry in listing.entries if entry.group}),
        seconds,
        dict(classes),
    )


def find_class_faults(splits: Sequence[SplitCounts], *, min_examples: int = MIN_EXAMPLES) -> list[Fault]:
    """Classes that are rare, absent from a split, far fewer than others, or spelled in two ways."""
    faults = []
    seen = list(dict.fromkeys(label for split in splits for label, count in split.classes.items() if count))
    for split in splits:
        there = {label: count for label, count in split.classes.items() if count}
        faults += [Fault("class-absent", split.name, "", label) for label in seen if label not in there]
        faults += [
            Fault("few-examples", split.name, "", f"{label}: {count}")
            for label, count in there.items()
            if count < min_examples
        ]
        if len(there) > 1:
            rare, usual = min(there, key=there.__getitem__), max(there, key=there.__getitem__)
            ratio = there[usual] / there[rare]
            if ratio > IMBALANCE:
                detail = f"{ratio:.0f} to 1: {usual} {there[usual]}, {rare} {there[rare]}"
                faults.append(Fault("class-imbalance", split.name, "", detail))
    spelled: dict[str, list[str]] = {}
    for label in seen:
        spelled.setdefault(" ".join(label.casefold().replace("_", " ").replace("-", " ").split()), []).append(
            label
        )
    for ways in spelled.values():
        if len(ways) > 1:
            where = next(split.name for split in splits if split.classes.get(ways[1]))
            faults.append(Fault("label-spelling", where, "", " and ".join(repr(way) for way in ways)))
    return faults


def find_group_leaks(listings: Sequence[Listing]) -> list[Fault]:
    """One fault for each group and each split that shares it with a better guarded one."""
    faults = []
    by_name = {listing.split: listing for listing in listings}
    first: dict[str, tuple[str, str, int]] = {}
    for name in guard_order(list(by_name)):
        groups: dict[str, list[str]] = {}
        for entry in by_name[name].entries:
            if entry.group:
                groups.setdefault(entry.group, []).append(entry.file)
        for group, files in groups.items():
            if group in first:
                guard, file, count = first[group]
                detail = f"{group}: {len(files)} files here, {count} in {guard}"
                faults.append(Fault("leak-group", name, files[0], detail, other=(guard, file)))
            else:
                first[group] = (name, files[0], len(files))
    return faults


def find_unlisted(folder: Path, listings: Sequence[Listing]) -> list[Fault]:
    """Pictures or sounds beside listed ones which no list of the folder names; only where every list is checked."""
    if not listings or any(listing.form not in ("coco", "csv") for listing in listings):
        return []
    lists = {name for name in list_files(folder) if not name.endswith(CLEAN)}
    if lists - {listing.split for listing in listings}:
        return []
    suffixes = SOUND_SUFFIXES if listings[0].kind == "sounds" else PICTURE_SUFFIXES
    listed = {entry.path for listing in listings for entry in listing.entries if entry.path}
    places = {path.parent for path in listed}
    faults = []
    for place in sorted(place for place in places if place.is_dir()):
        with os.scandir(place) as found:
            names = sorted(
                e.name
                for e in found
                if Path(e.name).suffix.lower() in suffixes and not e.name.startswith(".")
            )
        faults += [
            Fault("not-listed", "", str((place / name).relative_to(folder)))
            for name in names
            if place / name not in listed
        ]
    return faults
