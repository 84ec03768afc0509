"""`edgeai-compress data convert` and `data prelabel`: what they print. The work is in compress.data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeai.console import print_json, print_note, print_table

_LOST = {"crowd": "crowd regions", "score": "boxes' scores", "group": "pictures' groups"}
TOLD = 5


def convert(
    folder: Path,
    out: Path,
    *,
    to: str,
    source: str,
    splits: Sequence[str] | None,
    link: bool,
    json_output: bool,
) -> int:
    """Convert a folder and print a row a split. Raises UsageError, DataError, DataMissingError."""
    from compress.data.convert import convert_folder

    done = convert_folder(
        folder, out, to=to, source=source, splits=splits, pictures="link" if link else "copy"
    )
    if json_output:
        rows = [
            {"split": s.split, "pictures": s.pictures, "boxes": s.boxes, "left_out": s.lost}
            for s in done.splits
        ]
        print_json({"out": str(out), "from": done.kind, "to": to, "labels": done.labels, "splits": rows})
        return 0
    table = [[s.split, s.pictures, s.boxes] for s in done.splits]
    print_table(["split", "pictures", "boxes"], table, title=f"{done.kind} to {to}")
    for split in done.splits:
        for what, count in split.lost.items():
            print_note(f"{split.split}: {count} {_LOST[what]} left out: {to} has no place for them")
    return 0


def prelabel(folder: Path, out: Path, *, bundle: str, to: str, min_score: float, json_output: bool) -> int:
    """Pre-label a folder and say what to do with the file. Raises what prelabel_folder raises."""
    from compress.data.prelabel import prelabel_folder

    done = prelabel_folder(folder, out, bundle=bundle, to=to, min_score=min_score)
    for path, why in done.skipped[:TOLD]:
        print_note(f"skipped {path}: {why}")
    if len(done.skipped) > TOLD:
        print_note(f"skipped {len(done.skipped) - TOLD} more")
    boxes = [len(picture.xyxy_px) for picture in done.found.pictures]
    if json_output:
        print_json(
            {
                "written": [str(path) for path in done.written],
                "pictures": len(boxes),
                "boxes": sum(boxes),
                "without_boxes": boxes.count(0),
                "skipped": [str(path) for path, _ in done.skipped],
            }
        )
        return 0
    row = [bundle, len(boxes), sum(boxes), boxes.count(0), len(done.skipped)]
    print_table(["bundle", "pictures", "boxes", "without", "skipped"], [row], title=f"pre-labels, {to}")
    print_note(_next_step(to, out, folder, done.written))
    return 0


def _next_step(to: str, out: Path, folder: Path, written: Sequence[Path]) -> str:
    if to == "label-studio" and out.suffix:
        return (
            f"Label Studio: paste {written[1].name} as the labelling interface, serve local files from "
            f"{folder.resolve().parent} (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), import {out.name}"
        )
    if to == "cvat" and out.suffix:
        return f"CVAT: upload {folder} as a task with the same labels, then Upload annotations, CVAT 1.1, {out.name}"
    return f"wrote {', '.join(str(path) for path in written)}"
