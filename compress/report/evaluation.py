"""The page of an evaluation: the figure, where the model fails, and what a threshold would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.measure.cost import Cost
from compress.measure.matches import RECALLS
from compress.measure.metric import Metric
from compress.measure.scored import NOTHING, Scored
from compress.measure.slices import MIN_TO_JUDGE, SliceMetric, worst_slice
from compress.measure.thresholds import OperatingPoint, ThresholdCurve
from edgeai.report.curves import COLOURS, Line, line_chart, matrix_chart
from edgeai.report.page import Html, cards, dot_chart, paragraph, side_by_side, table, write_page

# more cells than this are too small to see; the most frequent mistakes are told in a table then
MAX_MATRIX = 24
# slices of one kind that are drawn, the worst of them
_SHOWN = 12


def write_evaluation_report(
    path: Path,
    *,
    title: str,
    scored: Scored,
    metric: Metric,
    cost: Cost,
    engine: str,
    slices: Sequence[SliceMetric] = (),
    points: dict[str, OperatingPoint] | None = None,
    precision: float | None = None,
) -> Path:
    """Write the page. points: thresholds for the wanted `precision`. Raises EdgeError where it cannot be written."""
    sections: list[tuple[str, Sequence[str]]] = [
        ("In short", [_key_figures(metric, cost, engine, scored.unit)])
    ]
    curves = _curves(scored)
    if curves:
        sections.append(("Precision, recall, threshold", [side_by_side(*curves)]))
    if points and precision is not None:
        sections.append((f"Thresholds for a precision of {precision:g}", [_points(points)]))
    sections += _confusion(scored)
    if slices:
        sections.append(("Slice by slice", [*_worst(slices, metric), _slices(slices, metric)]))
    return write_page(
        path,
        title,
        sections,
        subtitle=f"{metric.n:,} {scored.unit}, {engine}",
        footer="Intervals are 95 %, by bootstrap; of whole speakers or sites where ten or more are known.",
    )


def _key_figures(metric: Metric, cost: Cost, engine: str, unit: str) -> Html:
    low, high = metric.ci95
    return cards(
        [
            (metric.name, f"{metric.value:.3f}", f"95 %: {low:.3f} to {high:.3f}"),
            (unit, f"{metric.n:,}", "measured on"),
            (
                "engine file",
                f"{cost.bytes / 1e3:,.0f} kB",
                f"{engine}; {cost.gzip_bytes / 1e3:,.0f} kB gzipped",
            ),
            ("engine call", f"{cost.ms_p50:.2f} ms", "one thread, median, on this machine"),
        ]
    )


def _worst(slices: Sequence[SliceMetric], metric: Metric) -> list[Html]:
    worst = worst_slice(slices)
    if worst is None:
        return []
    low, high = worst.ci95
    return [
        paragraph(
            f"Worst slice: {worst.kind} {worst.name}, {metric.name} {worst.value:.3f} ({low:.3f} to {high:.3f}), "
            f"n = {worst.n:,} {worst.unit}."
        )
    ]


def _curves(scored: Scored) -> list[Html]:
    curves = scored.curves()
    if not curves:
        return []
    lines = [_precision_recall(label, curve) for label, curve in curves.items()]
    # the area under a line is about its AP: what is weak is worth a look
    lines.sort(key=lambda line: float(np.sum(line.ys)))
    shown = lines[: len(COLOURS)]
    of = "" if len(shown) == len(lines) else f", the {len(shown)} weakest of {len(lines)} labels"
    made = [line_chart(f"Precision over recall{of}", shown, x="recall", y="precision")]
    pooled = scored.curve()
    if len(pooled.threshold) and pooled.threshold[-1] >= 0 and pooled.threshold[0] <= 1:
        # thresholds fall along the curve; a chart goes from left to right
        xs = pooled.threshold[::-1]
        lines = [
            Line("precision", xs, pooled.precision[::-1]),
            Line("recall", xs, np.minimum(1, pooled.recall[::-1])),
        ]
        made.append(line_chart("All labels together, over the threshold", lines, x="threshold", y="share"))
    calibration = scored.calibration()
    if calibration is not None and calibration.score:
        lines = [
            Line(f"as measured (ECE {calibration.error:.3f})", calibration.score, calibration.right),
            Line("a score that means what it says", (0.0, 1.0), (0.0, 1.0), dashed=True),
        ]
        made.append(line_chart("How often a score is right", lines, x="score", y="right"))
    return made


def _precision_recall(label: str, curve: ThresholdCurve) -> Line:
    """The best precision at each recall or beyond, as AP sees it; 0 where a recall is never reached."""
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    at = np.searchsorted(curve.recall, RECALLS, side="left")
    reached = at < len(best)
    ys = np.zeros(len(RECALLS))
    ys[reached] = best[at[reached]]
    # the line ends where the recall does, so that "never found" does not look like "found wrongly"
    stop = max(1, int(reached.sum()))
    return Line(label, RECALLS[:stop], ys[:stop])


def _points(points: dict[str, OperatingPoint]) -> Html:
    rows = [
        [
            label,
            "none" if point.threshold is None else f"{point.threshold:.4f}",
            f"{point.precision:.3f}",
            f"{point.precision_low:.3f}",
            f"{point.recall:.3f}",
            f"{point.n:,}",
        ]
        for label, point in points.items()
    ]
    return table(["label", "threshold", "precision", "95 % sure of at least", "recall", "said"], rows)


def _confusion(scored: Scored) -> list[tuple[str, Sequence[str]]]:
    confusion = scored.confusion()
    if confusion is None:
        return []
    labels, counts = confusion
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:8]
    rows = [
        [labels[r], labels[c], f"{int(mistakes[r, c]):,}"]
        for r, c in zip(*np.unravel_index(order, counts.shape), strict=True)
        if mistakes[r, c]
    ]
    parts: list[str] = []
    if len(labels) <= MAX_MATRIX:
        parts.append(
            matrix_chart(
                "Row: what it is. Column: what the model says.",
                labels,
                counts,
                totals=_row_totals(labels, counts),
            )
        )
    if rows:
        parts.append(table(["what it is", "what was said", "times"], rows))
    return [("What is taken for what", [side_by_side(*(Html(part) for part in parts))])] if parts else []


def _row_totals(labels: Sequence[str], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of rows; "nothing" is no class with a number of its own, so its row is seen against the largest."""
    totals = counts.sum(axis=1)
    if labels[-1] == NOTHING:
        totals[-1] = max(1, int(totals.max()))
    return np.asarray(totals)


def _slices(slices: Sequence[SliceMetric], metric: Metric) -> Html:
    charts = []
    for kind in dict.fromkeys(part.kind for part in slices):
        parts = [part for part in slices if part.kind == kind]
        if len(parts) > _SHOWN:
            parts = sorted(parts, key=lambda part: (part.n < MIN_TO_JUDGE, part.value))[:_SHOWN]
        rows = [("all", metric.value, metric.ci95)]
        rows += [(part.name.partition(" (")[0], part.value, part.ci95) for part in parts]
        # limits are too long for a label
        limits = "; ".join(part.name for part in parts if " (" in part.name)
        charts.append(
            dot_chart(f"{metric.name} by {kind}" + (f": {limits}" if limits else ""), rows, muted={0})
        )
    return side_by_side(*charts)
