"""The demo's report: one page that shows what happened, without any request to the outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.demo.footage import Footage
from compress.demo.live import KeywordResult, LiveResult
from compress.run import RunResult
from edgeai.report.html import paragraph, picture, table
from edgeai.report.page import write_page
from edgeai.report.svg import bar_chart


def write_demo_page(
    path: Path,
    *,
    footage: Footage,
    summary: dict[str, Any],
    trained: RunResult,
    agreement: Any,
    live: LiveResult,
    heard: Sequence[KeywordResult],
    speech_origin: str,
) -> None:
    """Write report.html."""
    teacher, student = summary["teacher"], summary["student"]
    sections: list[tuple[str, list[str]]] = [
        (
            "In short",
            [
                paragraph(
                    f"A big detector ({teacher['name']}) labelled the first half of {footage.origin}. A small network "
                    f"learnt that scene from it, was pruned, quantized to int8, and then watched the second half, which "
                    f"it had never seen: AP50 {student['ap50_vs_teacher']:.3f} against the teacher on {agreement.frames} "
                    f"frames with {agreement.boxes_a_frame:.1f} people each."
                ),
                *_size_table(teacher, student),
            ],
        ),
        (
            "On the device",
            [
                paragraph(
                    f"{live.frames} frames gave {live.sent} events. The broker was away for {live.outage_s:.1f} s and "
                    f"{live.during_outage} events came up meanwhile; {live.received} of {live.sent} arrived at a "
                    "subscriber in a process of its own."
                ),
                picture(live.frame_jpeg, "A frame from the middle of the second half, as the student saw it"),
                table(
                    ["line", *next(iter(live.counts.values()), {})],
                    [[name, *counts.values()] for name, counts in live.counts.items()],
                ),
            ],
        ),
        ("Pass by pass", _passes(trained)),
        ("Keywords", _keywords(heard, speech_origin)),
    ]
    write_page(path, "A camera's own footage teaches a tiny model", sections)


def _size_table(teacher: dict[str, Any], student: dict[str, Any]) -> list[str]:
    if not teacher["bytes"]:
        return [
            paragraph(
                f"The student has {student['bytes']:,} bytes and takes {student['ms_p50']:.2f} ms a frame."
            )
        ]
    rows = [
        [
            "bytes",
            f"{teacher['bytes']:,}",
            f"{student['bytes']:,}",
            f"{teacher['bytes'] / student['bytes']:.1f} x smaller",
        ],
        [
            "ms a frame, one thread",
            f"{teacher['ms_p50']:.2f}",
            f"{student['ms_p50']:.2f}",
            f"{teacher['ms_p50'] / student['ms_p50']:.1f} x faster",
        ],
    ]
    return [table(["", "teacher", "student", ""], rows)]


def _passes(trained: RunResult) -> list[str]:
    rows = [
        [
            r.kind + ("" if r.kept else " (undone)"),
            f"{r.measured.metric.value:.3f}",
            f"{r.measured.parameters:,}",
            f"{r.measured.macs / 1e6:.1f} M",
            f"{r.measured.cost.bytes:,}",
            f"{r.measured.cost.ms_p50:.2f}",
            f"{r.seconds:.0f} s",
        ]
        for r in trained.records
    ]
    headings = ["pass", "AP50 (held out)", "parameters", "MACs", "bytes", "ms", "took"]
    chart = bar_chart(
        "Bytes of the engine after each pass",
        [(r.kind, float(r.measured.cost.bytes)) for r in trained.records],
    )
    note = paragraph(
        "AP50 here is on held-out pictures of the first half; the figure above is on the second half."
    )
    return [note, table(headings, rows), chart]


def _keywords(heard: Sequence[KeywordResult], origin: str) -> list[str]:
    if not heard:
        return [paragraph("There was no recorded speech to listen to.")]
    rows = [[k.file, k.said or "-", k.heard or "nothing", f"{k.score:.2f}"] for k in heard]
    return [paragraph(f"Recorded speech: {origin}."), table(["file", "said", "heard", "score"], rows)]
