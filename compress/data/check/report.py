"""What a check of a data set found: faults with stable codes, counts, and what to do about each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SetKind = Literal["boxes", "pictures", "sounds"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class FaultKind:
    """severity: an error fails the command. what: a few words. todo: what a person does about it."""

    severity: Severity
    what: str
    todo: str


# The codes are an interface: scripts select on them. --clean mends or drops what errors name (see .clean).
FAULT_KINDS: dict[str, FaultKind] = {
    # the list
    "bad-entry": FaultKind("error", "the list has an entry that cannot be used", "mend the entry"),
    "listed-twice": FaultKind("error", "a file is listed more than once", "keep one entry"),
    "not-listed": FaultKind("info", "a file lies there and no list names it", "list or remove it"),
    "orphan-box": FaultKind("error", "a box belongs to no picture", "remove it"),
    "unknown-category": FaultKind(
        "error", "a box has a category that is not declared", "declare or remove it"
    ),
    # files
    "absent": FaultKind("error", "a listed file is not there", "copy it there"),
    "unreadable": FaultKind("error", "a file cannot be decoded", "copy it again"),
    "truncated": FaultKind("error", "a file ends early; the rest is grey or missing", "copy it again"),
    # pictures
    "grey-bottom": FaultKind("warning", "the lower rows are one grey, as after a cut", "look at it"),
    "flat-picture": FaultKind("warning", "a picture of one colour", "look at it: lens cap?"),
    "size-differs": FaultKind("error", "the label file tells another picture size", "label it again"),
    "exif-turned": FaultKind("error", "labelled unturned, shown turned by EXIF", "turn file or boxes"),
    "exif-orientation": FaultKind("warning", "turned by EXIF; labels may not know", "look at the boxes"),
    "cmyk": FaultKind("warning", "a print (CMYK) JPEG: its colours come out wrong", "save it as RGB"),
    "alpha": FaultKind("info", "has transparency, which is dropped", "flatten it"),
    "deep-colour": FaultKind("warning", "more than 8 bits a channel, cut to 8", "scale it to 8 bits"),
    "mixed-colour": FaultKind("info", "grey among colour pictures, or colour among grey", "is that meant?"),
    # boxes
    "box-not-finite": FaultKind("error", "a box is not four finite numbers", "draw it again"),
    "box-empty": FaultKind("error", "a box has no area", "draw it again"),
    "box-normalised": FaultKind("error", "boxes are 0..1 where pixels belong", "multiply by the size"),
    "box-outside": FaultKind("error", "a box lies outside its picture", "draw it again"),
    "box-cut": FaultKind("warning", "a box sticks out of its picture", "clip it (--clean)"),
    "box-tiny": FaultKind("warning", "a box has a side below 1 px", "remove it (--clean)"),
    "box-duplicate": FaultKind("warning", "the same box twice", "remove one (--clean)"),
    "box-conflict": FaultKind("error", "the same box with two classes", "choose one class"),
    "no-boxes": FaultKind("info", "a picture without any box", "empty on purpose?"),
    # duplicates and leakage
    "duplicate": FaultKind("warning", "the same file twice in a split", "keep one (--clean)"),
    "near-duplicate": FaultKind("warning", "the same picture or recording twice", "keep one (--clean)"),
    "conflicting-labels": FaultKind("error", "duplicates with different labels", "choose one label"),
    "leak-file": FaultKind("error", "the same file in two splits", "drop from train (--clean)"),
    "leak-near": FaultKind(
        "error", "the same picture or recording in two splits", "drop from train (--clean)"
    ),
    "leak-span": FaultKind("error", "two splits share a span of one recording", "drop from train (--clean)"),
    "leak-group": FaultKind("error", "a speaker or group is in two splits", "drop from train (--clean)"),
    "same-scene": FaultKind(
        "warning", "one scene, changed a little, in two splits", "split by camera or day"
    ),
    "shared-span": FaultKind("info", "clips of a split overlap in one recording", "is that meant?"),
    # classes
    "class-imbalance": FaultKind("warning", "one class far outnumbers another", "gather more of the rare"),
    "few-examples": FaultKind("warning", "a class with few examples", "gather more"),
    "class-absent": FaultKind("warning", "a class that this split lacks", "gather or split again"),
    "label-spelling": FaultKind("warning", "labels that differ in case or spaces only", "use one spelling"),
    # sounds
    "clipped": FaultKind("warning", "overdriven: flat at its loudest", "record less loud"),
    "silent": FaultKind("error", "no sound at all", "record it again"),
    "too-quiet": FaultKind("warning", "hardly any sound (below -60 dBFS)", "listen to it"),
    "mostly-silent": FaultKind("warning", "sound in under a tenth of it", "cut it"),
    "dc-offset": FaultKind("warning", "its mean is off zero", "mend the recorder"),
    "wrong-rate": FaultKind("error", "another sample rate than told", "mend list or file"),
    "mixed-rate": FaultKind("warning", "another sample rate than most", "record at one rate"),
    "mixed-channels": FaultKind("info", "another count of channels than most", "is that meant?"),
    "length-differs": FaultKind("error", "another length than the list tells", "copy it again"),
    "too-short": FaultKind("warning", "under a quarter of the usual length", "listen to it"),
    "too-long": FaultKind("warning", "over four times the usual length", "cut it"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """code: a key of FAULT_KINDS. file: as the list names it, "" where the whole split is meant.

    detail: figures or names. box: which box of the picture, by its place in the label file. other: the (split, file)
    that it clashes with.
    """

    code: str
    split: str
    file: str
    detail: str = ""
    box: int | None = None
    other: tuple[str, str] | None = None

    @property
    def severity(self) -> Severity:
        return FAULT_KINDS[self.code].severity

    def as_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "code": self.code,
            "severity": self.severity,
            "split": self.split,
            "file": self.file,
            "detail": self.detail,
        }
        if self.box is not None:
            row["box"] = self.box
        if self.other is not None:
            row["other"] = {"split": self.other[0], "file": self.other[1]}
        return row


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """classes: examples of each class (boxes, or files). seconds: of sound, 0 for pictures. groups: 0 where none is told."""

    name: str
    files: int
    boxes: int
    groups: int
    seconds: float
    classes: dict[str, int]


@dataclass(frozen=True, slots=True)
class CleanedList:
    """A list that was written: path, entries kept, entries and boxes dropped by fault code, boxes mended by fault code."""

    split: str
    path: Path
    kept: int
    dropped: dict[str, int]
    boxes_dropped: dict[str, int] = field(default_factory=dict)
    boxes_mended: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "path": str(self.path),
            "kept": self.kept,
            "dropped": self.dropped,
            "boxes_dropped": self.boxes_dropped,
            "boxes_mended": self.boxes_mended,
        }


@dataclass(frozen=True, slots=True)
class CheckReport:
    """faults: errors first, then by code, split and file."""

    folder: Path
    kind: SetKind
    splits: tuple[SplitCounts, ...]
    faults: tuple[Fault, ...]

    def count(self, severity: Severity) -> int:
        return sum(fault.severity == severity for fault in self.faults)

    def by_code(self) -> dict[str, list[Fault]]:
        """The faults of each code, in the order of severity and of the table of codes."""
        found: dict[str, list[Fault]] = {}
        for fault in self.faults:
            found.setdefault(fault.code, []).append(fault)
        return found

    def codes(self) -> Counter[str]:
        return Counter(fault.code for fault in self.faults)

    @property
    def exit_code(self) -> int:
        return 1 if self.count("error") else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "infos": self.count("info"),
            "splits": [
                {
                    "name": split.name,
                    "files": split.files,
                    "boxes": split.boxes,
                    "groups": split.groups,
                    "seconds": round(split.seconds, 1),
                    "classes": split.classes,
                }
                for split in self.splits
            ],
            "faults": [fault.as_json() for fault in self.faults],
        }


def sort_faults(faults: list[Fault]) -> tuple[Fault, ...]:
    """Errors first, then in the order of the table of codes, then by split, file and box."""
    order = {code: (SEVERITIES.index(kind.severity), i) for i, (code, kind) in enumerate(FAULT_KINDS.items())}
    return tuple(
        sorted(
            faults, key=lambda f: (order[f.code], f.split, f.file, -1 if f.box is None else f.box, f.detail)
        )
    )
