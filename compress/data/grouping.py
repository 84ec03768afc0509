"""Parts a data set into splits: whole groups, classes as balanced as that allows.

The allocation is greedy, the largest groups first, then mended by moves and swaps as long as they help; after the idea of
iterative stratification (Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", 2011), with groups in
the place of examples.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.check.listing import Entry, Listing
from compress.data.check.lists import NO_SPEAKER, open_listings
from edgeai.errors import DataError, UsageError
from edgeai.whole_file import write_whole

_MAX_ROUNDS = 10
_MAX_SWAPS = 50_000
_GAIN = 1e-12


@dataclass(frozen=True, slots=True)
class Part:
    """wanted, got: shares of the files. classes: examples of each class."""

    name: str
    path: Path
    wanted: float
    got: float
    files: int
    groups: int
    classes: dict[str, int]


def parse_parts(text: str) -> dict[str, float]:
    """{"train": 0.8, ...} of "train=0.8,validation=0.1,test=0.1". Raises UsageError."""
    parts: dict[str, float] = {}
    for piece in text.split(","):
        name, mark, share = (word.strip() for word in piece.partition("="))
        if not mark or not re.fullmatch(r"\w[\w-]{0,63}", name) or name in parts:
            raise UsageError(f"--parts needs name=share with different names, got {piece.strip()!r}")
        try:
            parts[name] = float(share)
        except ValueError:
            raise UsageError(f"--parts: the share of {name} is no number: {share!r}") from None
        if not 0 < parts[name] <= 1:
            raise UsageError(f"--parts: the share of {name} must be above 0 and at most 1, got {share}")
    if abs(sum(parts.values()) - 1) > 1e-6:
        raise UsageError(f"--parts must sum to 1, got {sum(parts.values()):g}")
    return parts


def split_set(
    folder: Path,
    parts: Mapping[str, float],
    *,
    source: str = "all",
    by: str = "group",
    seed: int = 1,
    out: Path | None = None,
    force: bool = False,
) -> list[Part]:
    """Part the list `source` of a folder and write a list for each part, beside it or into `out`.

    by: "group" (what the list has: speaker, group, site, day ...), "file" (each its own), "folder" (what lies together),
    "name:REGEX" (the first group of the pattern in the file's name), or a column of the CSV or a field of COCO's images.
    Files of which nothing is told are groups of their own.

    Raises DataError where a list is there already and not `force`, for an unknown column, and for fewer groups than parts;
    UsageError for a pattern that is none; DataMissingError without the list.
    """
    (listing,) = open_listings(folder, [source])
    if listing.form == "other":
        raise DataError(
            f"{folder} is in another tool's format, which has no lists to part",
            next_step=f"make it COCO JSON first: edgeai-compress data convert {folder} --help",
        )
    names = list(parts)
    paths = [(out or folder) / _file_name(listing, name) for name in names]
    for path in paths:
        if path.exists() and path.resolve() == listing.source.resolve():
            raise DataError(f"{path} is the list to be parted", next_step="write elsewhere with --out")
        if path.exists() and not force:
            raise DataError(f"{path} is there already", next_step="choose other names, --out, or --force")
    groups = name_groups(listing, by)
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < len(names):
        raise DataError(
            f"{listing.source} has {len(numbers)} groups by {by!r}, fewer than the {len(names)} parts",
            next_step="group by something finer, or --by file",
        )
    labels = sorted({label for entry in listing.entries for label in _labels(entry)})
    column = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(numbers), len(labels) + 1), np.int64)
    for entry, group in zip(listing.entries, groups, strict=True):
        counts[numbers[group], -1] += 1
        for label in _labels(entry):
            counts[numbers[group], column[label]] += 1
    chosen = allocate_groups(counts, list(parts.values()), seed=seed)
    made = []
    for number, (name, path) in enumerate(zip(names, paths, strict=True)):
        rows = [e.row for e, g in zip(listing.entries, groups, strict=True) if chosen[numbers[g]] == number]
        write_rows(listing, rows, path)
        own = counts[chosen == number].sum(axis=0)
        share = float(own[-1] / counts[:, -1].sum())
        classes = {label: int(own[i]) for label, i in column.items()}
        made.append(Part(name, path, parts[name], share, len(rows), int((chosen == number).sum()), classes))
    return made


def allocate_groups(
    counts: NDArray[np.int64], shares: Sequence[float], *, seed: int = 1
) -> NDArray[np.int64]:
    """(G, C) examples of each class in each group, the last column the files -> (G,) the part of each group.

    shares: (P,) what each part should have of every column, summing to 1; no part stays empty where there are as many
    groups. Raises DataError for fewer groups than parts.
    """
    total_groups, parts = len(counts), len(shares)
    if total_groups < parts:
        raise DataError(f"{total_groups} groups cannot fill {parts} parts")
    rng = np.random.default_rng(seed)
    totals = counts.sum(axis=0).astype(np.float64)
    present = totals > 0
    part_of = counts[:, present] / totals[present]
    # the count of files weighs as much as all classes together
    part_of[:, :-1] /= np.sqrt(max(1, part_of.shape[1] - 1))
    wanted = np.asarray(shares, np.float64)
    aim = wanted[:, None] * part_of.sum(axis=0)
    weight = 1 / wanted[:, None]  # a miss hurts a small part more
    state = _State(part_of, aim, weight, np.full(total_groups, -1, np.int64))
    order = rng.permutation(total_groups)
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    for group in order:
        state.place(group)
    for _ in range(_MAX_ROUNDS):
        moved = [state.place(group) for group in rng.permutation(total_groups)]
        if sum(moved) <= total_groups // 1000:
            break
    for a, b in rng.integers(0, total_groups, (min(_MAX_SWAPS, 30 * total_groups), 2)):
        state.swap(int(a), int(b))
    for part in range(parts):
        if not (state.chosen == part).any():
            sizes = np.bincount(state.chosen, minlength=parts)
            givers = np.flatnonzero(sizes[state.chosen] > 1)
            state.move(int(givers[np.argmin(counts[givers, -1])]), part)
    return state.chosen


@dataclass(slots=True)
class _State:
    """What each part holds so far. part_of: (G, C) shares of each column. aim: (P, C). chosen: (G,) -1 where not placed."""

    part_of: NDArray[np.float64]
    aim: NDArray[np.float64]
    weight: NDArray[np.float64]
    chosen: NDArray[np.int64]
    short: NDArray[np.float64] | None = None

    def _short(self) -> NDArray[np.float64]:
        """(P, C) what each part still lacks."""
        if self.short is None:
            self.short = self.aim.copy()
        return self.short

    def place(self, group: int) -> bool:
        """Put a group where it helps most; whether it moved."""
        short, own, before = self._short(), self.part_of[group], int(self.chosen[group])
        if before >= 0:
            short[before] += own
        # the change of sum(weight * short^2) when a part takes the group
        change = (self.weight * (own * own - 2 * short * own)).sum(axis=1)
        best = int(np.argmin(change))
        if before >= 0 and change[best] > change[before] - _GAIN:
            best = before
        short[best] -= own
        self.chosen[group] = best
        return best != before

    def swap(self, a: int, b: int) -> None:
        """Exchange the parts of two groups where that helps."""
        p, q = int(self.chosen[a]), int(self.chosen[b])
        if p == q:
            return
        short = self._short()
        shift = self.part_of[a] - self.part_of[b]  # what p lacks more, and q less, afterwards
        change = (self.weight[p] * ((short[p] + shift) ** 2 - short[p] ** 2)).sum()
        change += (self.weight[q] * ((short[q] - shift) ** 2 - short[q] ** 2)).sum()
        if change < -_GAIN:
            short[p] += shift
            short[q] -= shift
            self.chosen[a], self.chosen[b] = q, p

    def move(self, group: int, part: int) -> None:
        short = self._short()
        short[self.chosen[group]] += self.part_of[group]
        short[part] -= self.part_of[group]
        self.chosen[group] = part


def name_groups(listing: Listing, by: str) -> list[str]:
    """The group of each entry (see split_set); unknown ones are groups of their own. Raises DataError, UsageError."""
    if by == "file":
        told = [""] * len(listing.entries)
    elif by == "folder":
        told = [str(PurePosixPath(entry.file).parent) for entry in listing.entries]
    elif by.startswith("name:"):
        told = _by_pattern(listing, by.removeprefix("name:"))
    elif by == "group" or (by == "speaker" and listing.form == "folders"):
        told = [entry.group for entry in listing.entries]
        if not any(told):
            raise DataError(
                f"{listing.source} tells no speaker, group, site or day of any file",
                next_step="give --by a column, folder, name:REGEX, or file where files have nothing in common",
            )
    else:
        told = _by_column(listing, by)
    # a file's own name cannot be the name of a group: the sign before it tells them apart
    return [
        f"={group}" if group else f"/{entry.file}" for entry, group in zip(listing.entries, told, strict=True)
    ]


def _by_pattern(listing: Listing, pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--by name: {pattern!r} is no pattern: {error}") from None
    if compiled.groups < 1:
        raise UsageError(
            f"--by name: {pattern!r} needs a group in round brackets, such as name:^(cam[0-9]+)_"
        )
    found = [compiled.search(PurePosixPath(entry.file).name) for entry in listing.entries]
    absent = next(
        (entry.file for entry, match in zip(listing.entries, found, strict=True) if match is None), None
    )
    if absent is not None:
        raise DataError(f"--by name: {pattern!r} does not fit {absent!r}")
    return [match[1] or "" for match in found if match is not None]


def _by_column(listing: Listing, by: str) -> list[str]:
    if listing.form == "folders":
        raise DataError(
            f"{listing.source} is folders, which have no column {by!r}", next_step="--by speaker or file"
        )
    rows = _read_rows(listing)
    known = sorted(
        {key for row in rows for key, value in row.items() if isinstance(value, str | int) and key}
    )
    if by not in known:
        raise DataError(f"{listing.source} has no column {by!r}; it has {', '.join(known)}")
    values = [str(rows[entry.row].get(by) or "").strip() for entry in listing.entries]
    return ["" if value.lower() in NO_SPEAKER else value for value in values]


def _read_rows(listing: Listing) -> list[dict[str, Any]]:
    if listing.form == "coco":
        images: list[dict[str, Any]] = json.loads(listing.source.read_bytes())["images"]
        return images
    with listing.source.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write_rows(listing: Listing, rows: Sequence[int], path: Path) -> None:
    """Write a list of the same form with the given rows only. Raises DataError where it cannot be written."""
    wanted = set(rows)
    if listing.form == "coco":
        coco: dict[str, Any] = json.loads(listing.source.read_bytes())
        images = [image for row, image in enumerate(coco["images"]) if row in wanted]
        numbers = {image["id"] for image in images}
        boxes = [
            box for box in coco["annotations"] if isinstance(box, dict) and box.get("image_id") in numbers
        ]
        write_whole(path, json.dumps({**coco, "images": images, "annotations": boxes}))
        return
    out = io.StringIO()
    if listing.form == "csv":
        with listing.source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            writer = csv.DictWriter(
                out, list(reader.fieldnames or ()), extrasaction="ignore", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(row for number, row in enumerate(reader) if number in wanted)
    else:
        plain = csv.writer(out, lineterminator="\n")
        plain.writerow(("file", "label", "speaker"))
        plain.writerows((e.file, e.label, e.group) for e in listing.entries if e.row in wanted)
    write_whole(path, out.getvalue())


def _file_name(listing: Listing, part: str) -> str:
    return f"instances_{part}.json" if listing.form == "coco" else f"{part}.csv"


def _labels(entry: Entry) -> list[str]:
    return [entry.label] if entry.label else [box.label for box in entry.boxes if not box.crowd]
