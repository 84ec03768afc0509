"""A bench of engines as one HTML page: verdict, tables, plots, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeai.bench.engines import EnginesReport
from edgeai.bench.engines_report import engine_tables, machine_lines, peak_name
from edgeai.bench.peaks import MEMORY_BYTES
from edgeai.bench.roofline import Limit
from edgeai.metrics import Measurement
from edgeai.report.html import Html, cards, fold, pairs, paragraph, side_by_side
from edgeai.report.page import write_page
from edgeai.report.plots import Axis, Point, Polyline, box_plot, scatter_plot
from edgeai.report.svg import bar_chart
from edgeai.report.tables import Table
from edgeai.types import JsonValue

# not those of the first engines
_ROOF_COLOUR = {"float32": 4, "int8": 5}


def write_engines_page(
    path: Path,
    report: EnginesReport,
    *,
    device: Mapping[str, JsonValue],
    versions: Mapping[str, JsonValue],
    json_text: str,
    compared: Table | None,
    notes: Sequence[str],
) -> Path:
    """Write the page. json_text: what --json prints, kept in the page. compared: the table of --compare.

    Raises EdgeError where it cannot be written.
    """
    tables = engine_tables(report)
    sections: list[tuple[str, Sequence[str]]] = [("In short", _summary(report))]
    told = [*report.failed, *report.warnings, *notes]
    if told:
        sections.append(("Mind", told))
    sections.append(("Latency", [_boxes(report), *_with_title(tables[0])]))
    sections.append(("Accuracy", [*_accuracy_plot(report), *_with_title(tables[1])]))
    sections.append(("Beside the libraries' own", _with_title(tables[2])))
    throughput = [table for table in tables[3:] if table.title.startswith("inputs a second")]
    if throughput:
        sections.append(("Throughput", [_throughput_bars(report), *_with_title(throughput[0])]))
    roofline = [table for table in tables[3:] if table not in throughput]
    if roofline:
        parts = [part for table in roofline for part in _with_title(table)]
        sections.append(("Roofline", [*_roofline_plot(report), *parts]))
    if compared is not None:
        sections.append(("Compared", _with_title(compared)))
    machine = [
        (name, value) for name, value in device.items() if isinstance(value, str | int) and value != ""
    ]
    libraries = [(name, value) for name, value in versions.items() if value]
    sections.append(
        ("The machine", [*machine_lines(report), pairs([*machine, *libraries]), fold("JSON", json_text)])
    )
    bundle = report.bundle.manifest
    return write_page(
        path,
        f"{bundle.name} {bundle.version} on this machine",
        sections,
        subtitle=f"{device.get('board') or device.get('cpu') or 'unknown machine'}, {device.get('cpu_cores')} cores",
        footer="made by edgeai bench engines",
    )


def _summary(report: EnginesReport) -> list[str]:
    fastest = min(report.engines, key=lambda each: each.p50_ms)
    within = [raw.within for each in report.engines for raw in each.raw]
    figures = [
        ("least median", f"{fastest.p50_ms:.3f} ms", fastest.label),
        ("our cost", f"{report.worst_overhead.p50:.0f} µs", "over the bare call, the largest median"),
        ("within 3 % or 50 µs", f"{sum(within)} of {len(within)}", "of the libraries' own"),
    ]
    if fastest.limit is not None:
        figures.append(("of the limit", f"{fastest.limit.percent:.0f} %", f"bound by {fastest.limit.bound}"))
    return [paragraph(report.verdict.text), cards(figures)]


def _with_title(table: Table) -> list[str]:
    return [paragraph(table.title), table.to_html()]


def _boxes(report: EnginesReport) -> Html:
    rows = [(each.label, each.ours_ms) for each in report.engines]
    return box_plot(
        "Every call: quartiles, median, 1st to 99th percentile", rows, x=Axis("milliseconds a call")
    )


def _accuracy_plot(report: EnginesReport) -> list[Html]:
    """One plot for each metric, since two metrics share no axis."""
    plots = []
    metrics = dict.fromkeys(each.accuracy.metric for each in report.engines if each.accuracy)
    for metric in metrics:
        points = [
            Point(each.label, each.p50_ms, each.accuracy.value, each.accuracy.ci95)
            for each in report.engines
            if each.accuracy and each.accuracy.metric == metric
        ]
        plots.append(
            scatter_plot(
                f"{metric} against latency", points, x=Axis("median ms a call"), y=Axis(metric, log=False)
            )
        )
    return plots


def _throughput_bars(report: EnginesReport) -> Html:
    charts = []
    for number, window in enumerate(report.engines[0].throughput):
        told = [(each.label, each.throughput[number].inputs_per_s) for each in report.engines]
        rows = [(label, value) for label, value in told if value is not None]
        title = (
            f"inputs a second: {_many(window.threads, 'thread')}, {_many(window.instances, 'engine')} at once"
        )
        title += f", {window.batch} a call" if window.batch > 1 else ""
        if rows:
            charts.append(bar_chart(title, rows, show="{:,.0f}".format))
    return side_by_side(*charts)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


def _roofline_plot(report: EnginesReport) -> list[Html]:
    limited = [(each.label, each.limit) for each in report.engines if each.limit is not None]
    if not limited:
        return []
    points = [Point(label, limit.intensity, limit.gmacs) for label, limit in limited]
    low = min(limit.intensity for _, limit in limited) / 3
    lines = []
    for arithmetic in dict.fromkeys(limit.work.arithmetic for _, limit in limited):
        peak = report.peaks[f"peak_{arithmetic}_gmacs"]
        for bandwidth in _bandwidths(
            report, [limit for _, limit in limited if limit.work.arithmetic == arithmetic]
        ):
            knee = peak.p99 / bandwidth.p99
            high = max(*(limit.intensity for _, limit in limited), knee) * 3
            start = min(low, knee / 3)
            lines.append(
                Polyline(
                    f"{arithmetic}, {peak_name(bandwidth)}",
                    [(start, start * bandwidth.p99), (knee, peak.p99), (high, peak.p99)],
                    dashed=_is_memory(bandwidth),
                    colour=_ROOF_COLOUR[arithmetic],
                )
            )
    return [
        scatter_plot(
            "Reached, below what this machine can do",
            points,
            x=Axis("multiply-accumulates a byte", log=True),
            y=Axis("GMAC a second", log=True),
            lines=lines,
        )
    ]


def _bandwidths(report: EnginesReport, limits: Sequence[Limit]) -> list[Measurement]:
    """The fastest bandwidth that one of the limits is of, and the memory's."""
    used = [report.peaks[f"bandwidth_{limit.work.copy_bytes}_gbs"] for limit in limits]
    memory = report.peaks.get(f"bandwidth_{MEMORY_BYTES}_gbs")
    best = max(used, key=lambda each: each.p99)
    return [best] if memory is None or memory is best else [best, memory]


def _is_memory(bandwidth: Measurement) -> bool:
    return bandwidth.name == f"bandwidth_{MEMORY_BYTES}_gbs"
