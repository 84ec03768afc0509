"""A check's result as one HTML page: counts, every fault code with its first examples seen or heard as a wave."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from compress.data.check.listing import Entry, Listing
from compress.data.check.report import FAULT_KINDS, CheckReport, Fault, SplitCounts
from compress.data.check.sounds import UnreadableSoundError, read_whole
from edgeai.report.page import (
    Html,
    bar_chart,
    cards,
    fold,
    paragraph,
    picture,
    side_by_side,
    table,
    write_page,
)

EXAMPLES = 6
MAX_EXAMPLES = 120
THUMB_SIDE_PX = 240
_MAX_LISTED = 400
_RED, _GREEN = (40, 40, 220), (60, 170, 60)
_SHOWN: dict[str, str] = {"error": "errors", "warning": "warnings", "info": "notes"}


def write_check_page(report: CheckReport, listings: Sequence[Listing], path: Path) -> Path:
    """Write the page. Raises EdgeError where it cannot be written."""
    entries = {(entry.split, entry.file): entry for listing in listings for entry in listing.entries}
    sections: list[tuple[str, Sequence[str]]] = [("In short", [_verdict(report), _figures(report)])]
    sections.append(("Splits and classes", [_split_table(report), *_class_charts(report.splits)]))
    left = MAX_EXAMPLES
    for code, faults in report.by_code().items():
        kind = FAULT_KINDS[code]
        drawn = _examples(faults[: min(EXAMPLES, left)], entries, report)
        left -= len(drawn)
        parts: list[str] = [paragraph(f"{kind.what[0].upper()}{kind.what[1:]}. What to do: {kind.todo}.")]
        if drawn:
            parts.append(side_by_side(*drawn))
        parts.append(fold(f"all {len(faults)}" if len(faults) > 1 else "in words", _lines(faults)))
        sections.append(
            (f"{code}: {len(faults)} {_SHOWN[kind.severity] if len(faults) > 1 else kind.severity}", parts)
        )
    return write_page(
        path,
        f"Data check of {report.folder.resolve().name}",
        sections,
        subtitle=", ".join(f"{split.name}: {split.files:,} files" for split in report.splits),
        footer="edgeai-compress data check",
    )


def _figures(report: CheckReport) -> Html:
    return cards(
        [
            ("errors", str(report.count("error")), "must be mended"),
            ("warnings", str(report.count("warning")), "worth a look"),
            ("notes", str(report.count("info")), "good to know"),
            ("files", f"{sum(split.files for split in report.splits):,}", f"{len(report.splits)} splits"),
        ]
    )


def _verdict(report: CheckReport) -> str:
    if not report.faults:
        return "Nothing was found."
    if not report.count("error"):
        return "No error was found; the rest is worth a look."
    return "Mend what is named below, or let `edgeai-compress data check --clean` write lists without it."


def _split_table(report: CheckReport) -> Html:
    sounds = report.kind == "sounds"
    rows = [
        [
            split.name,
            f"{split.files:,}",
            f"{split.seconds / 60:.1f}" if sounds else f"{split.boxes:,}",
            split.groups or "-",
            len([n for n in split.classes.values() if n]),
        ]
        for split in report.splits
    ]
    return table(["split", "files", "minutes" if sounds else "boxes", "groups", "classes"], rows)


def _class_charts(splits: Sequence[SplitCounts]) -> list[Html]:
    charts = []
    for split in splits:
        counts = sorted(split.classes.items(), key=lambda item: -item[1])
        shown = counts if len(counts) <= 24 else [*counts[:12], *counts[-12:]]
        if shown:
            more = f" (12 most and 12 least of {len(counts)})" if len(counts) > 24 else ""
            charts.append(bar_chart(f"{split.name}{more}", [(_text(label), float(n)) for label, n in shown]))
    return [side_by_side(*charts)] if charts else []


def _lines(faults: Sequence[Fault]) -> str:
    lines = []
    for fault in faults[:_MAX_LISTED]:
        other = f" = {fault.other[0]}: {fault.other[1]}" if fault.other else ""
        lines.append(f"{fault.split}: {fault.file} {fault.detail}{other}".strip())
    if len(faults) > _MAX_LISTED:
        lines.append(f"and {len(faults) - _MAX_LISTED} more: see --json")
    return _text("\n".join(lines))


def _examples(
    faults: Sequence[Fault], entries: dict[tuple[str, str], Entry], report: CheckReport
) -> list[Html]:
    drawn = []
    for fault in faults:
        keys = [(fault.split, fault.file)] + ([fault.other] if fault.other else [])
        shown = [entries[key] for key in keys if key in entries]
        if report.kind == "sounds":
            parts = [_wave(entry, fault) for entry in shown]
        else:
            parts = [_thumb(entry, fault) for entry in shown]
        drawn += [part for part in parts if part is not None]
    return drawn


def _thumb(entry: Entry, fault: Fault) -> Html | None:
    """The picture with its boxes, the faulty one red; None where it cannot be decoded."""
    import cv2

    if entry.path is None or not entry.path.is_file():
        return None
    image = cv2.imread(str(entry.path), cv2.IMREAD_COLOR)
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = min(3.0, THUMB_SIDE_PX / max(height, width))
    small = cv2.resize(
        image, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )
    for box in sorted(entry.boxes, key=lambda box: box.row == fault.box):
        if not np.isfinite(box.xyxy_px).all():
            continue
        faulty = box.row == fault.box
        x1, y1, x2, y2 = (int(np.clip(v * scale, -1e6, 1e6)) for v in box.xyxy_px)
        cv2.rectangle(small, (x1, y1), (x2, y2), _RED if faulty else _GREEN, 2 if faulty else 1)
    done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])
    return picture(jpeg.tobytes(), _caption(entry, fault)) if done else None


def _wave(entry: Entry, fault: Fault) -> Html | None:
    """The clip's envelope as an SVG; None where it cannot be decoded."""
    if entry.path is None or not entry.path.is_file():
        return None
    try:
        samples, rate_hz, *_ = read_whole(entry.path)
    except (UnreadableSoundError, OSError):  # the fault's own line tells it
        return None
    if not len(samples):
        return None
    columns = min(300, len(samples))
    edges = np.linspace(0, len(samples), columns + 1).astype(int)[:-1]
    highs = np.maximum.reduceat(samples, edges)
    lows = np.minimum.reduceat(samples, edges)
    points = [f"{x},{40 - 38 * float(np.clip(v, -1, 1)):.1f}" for x, v in enumerate(highs)]
    points += [f"{x},{40.6 - 38 * float(np.clip(v, -1, 1)):.1f}" for x, v in reversed(list(enumerate(lows)))]
    caption = f"{_caption(entry, fault)} ({len(samples) / rate_hz:.2f} s)"
    return Html(
        f'<figure><svg viewBox="0 0 300 80" role="img" aria-label="{escape(caption)}">'
        f'<line class="grid" x1="0" y1="40" x2="300" y2="40"/><polygon class="bar" points="{" ".join(points)}"/></svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _caption(entry: Entry, fault: Fault) -> str:
    own = entry.file == fault.file and entry.split == fault.split
    return _text(f"{entry.split}: {entry.file}" + (f", {fault.detail}" if own and fault.detail else ""))


def _text(text: str) -> str:
    """Names may hold what is no character in a file."""
    return text.encode("utf-8", "backslashreplace").decode()
