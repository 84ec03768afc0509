"""`edgeai-compress data check`: what is wrong with a data set, as a table, JSON, a page, and cleaned lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.data.check.report import FAULT_KINDS, CheckReport, CleanedList, Fault
from compress.data.check.run import run_check
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import UsageError


def check_folder(
    folder: Path,
    splits: Sequence[str],
    *,
    clean: bool = False,
    out: Path | None = None,
    report: Path | None = None,
    rate_hz: int | None = None,
    min_examples: int = 10,
    json_output: bool = False,
) -> int:
    """Check, print, and write what was asked for; 1 where errors were found. Raises EdgeError."""
    if out is not None and not clean:
        raise UsageError(
            "--out says where --clean writes; give both", next_step="the page is --report FILE.html"
        )
    checked = run_check(folder, splits, rate_hz=rate_hz, min_examples=min_examples)
    written: list[CleanedList] = []
    if clean:
        from compress.data.check.clean import write_cleaned

        written = write_cleaned(checked.report, checked.listings, out)
    if report is not None:
        from compress.data.check.page import write_check_page

        write_check_page(checked.report, checked.listings, report)
    if json_output:
        extra = {"cleaned": [one.as_json() for one in written]} if clean else {}
        print_json({**checked.report.as_json(), **extra, **({"report": str(report)} if report else {})})
    else:
        print_report(checked.report)
        for one in written:
            print(_told(one))
        if report is not None:
            print_note(f"page: {report}")
    return checked.report.exit_code


def print_report(report: CheckReport) -> None:
    """Tables of at most 80 columns: the splits, then one line for each fault code."""
    sounds = report.kind == "sounds"
    print_table(
        ["split", "files", "minutes" if sounds else "boxes", "groups", "classes"],
        [
            [
                split.name,
                f"{split.files:,}",
                f"{split.seconds / 60:.1f}" if sounds else f"{split.boxes:,}",
                split.groups or "-",
                sum(1 for count in split.classes.values() if count),
            ]
            for split in report.splits
        ],
        title=str(report.folder),
    )
    rows = [[_line(code, faults), len(faults)] for code, faults in report.by_code().items()]
    if rows:
        print_table(["found, for example, what to do", "how many"], rows)
    errors, warnings, notes = (report.count(severity) for severity in ("error", "warning", "info"))
    print(f"{errors} errors, {warnings} warnings, {notes} notes" if rows else "nothing was found")


def _line(code: str, faults: Sequence[Fault]) -> str:
    kind, fault = FAULT_KINDS[code], faults[0]
    name = f"{fault.split}: {_short(fault.file)}" if fault.file and fault.split else fault.file or fault.split
    lines = [f"{kind.severity} {code}: {kind.what}", f"  {name}"]
    if fault.other:
        lines.append(f"  = {fault.other[0]}: {_short(fault.other[1])}")
    if fault.detail:
        lines.append(f"  {fault.detail}")
    return "\n".join([*lines, f"  -> {kind.todo}"])


def _short(name: str) -> str:
    return name if len(name) <= 52 else f"…{name[-51:]}"


def _told(one: CleanedList) -> str:
    parts = [f"{one.path}: {one.kept:,} kept"]
    for what, counts in (
        ("dropped", one.dropped),
        ("boxes dropped", one.boxes_dropped),
        ("boxes mended", one.boxes_mended),
    ):
        if counts:
            told = ", ".join(f"{count} {code}" for code, count in sorted(counts.items(), key=lambda c: -c[1]))
            parts.append(f"{sum(counts.values()):,} {what} ({told})")
    return "; ".join(parts)
