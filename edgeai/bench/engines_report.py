"""What a bench of engines is told as: JSON in the shape of every bench, and tables for people."""

from __future__ import annotations

from edgeai.bench.engines import EngineFigures, EnginesReport, Throughput
from edgeai.bench.peaks import MEMORY_BYTES
from edgeai.engines.measured import bundle_key
from edgeai.metrics import Measurement
from edgeai.report.tables import Table
from edgeai.types import JsonValue


def engine_results(report: EnginesReport) -> list[Measurement]:
    """The "results" of the JSON. First the names that others rely on: DESIGN, "Machine-readable figures"."""
    name = report.bundle.name
    results: list[Measurement] = []
    for each in report.engines:
        results += [each.latency(name), each.overhead(name)]
    worst = report.worst_overhead
    results.append(Measurement("overhead_us", "us", worst.n, worst.p50, worst.p90, worst.p99))
    for each in report.engines:
        stem = f"{name}/{each.label}"
        results += [
            Measurement(f"{stem}_load_ms", "ms", 1, value=each.load_ms),
            Measurement(f"{stem}_first_ms", "ms", 1, value=each.first_ms),
            Measurement(f"{stem}_rss_mib", "MiB", 1, value=each.rss_mib),
        ]
        for window in each.throughput:
            if window.inputs_per_s is None:
                continue
            setting = f"{window.threads}_threads_{window.instances}_instances"
            setting += f"_batch_{window.batch}" if window.batch > 1 else ""
            results.append(Measurement(f"{stem}_inputs_per_s_{setting}", "1/s", 1, value=window.inputs_per_s))
        if each.power_w is not None:
            results.append(Measurement(f"{stem}_power_w", "W", 1, value=each.power_w))
        if each.limit is not None:
            results.append(Measurement(f"{stem}_limit_percent", "%", 1, value=each.limit.percent))
    return results + list(report.peaks.values())


def engine_details(report: EnginesReport) -> dict[str, JsonValue]:
    """What the JSON says beside "results": verdict, each engine's accuracy, raw tools and limits, the machine, warnings."""
    manifest = report.bundle.manifest
    start, warm, end = report.states
    return {
        "bundle": {"name": manifest.name, "version": manifest.version, "model": bundle_key(report.bundle)},
        "verdict": {
            "winner": report.verdict.winner,
            "text": report.verdict.text,
            "ratios": {label: ratio.to_json() for label, ratio in report.verdict.ratios.items()},
        },
        "engines": [_engine_json(each) for each in report.engines],
        "failed": list(report.failed),
        "skipped": list(report.skipped),
        "machine": {"start": start.to_json(), "warm": warm.to_json(), "end": end.to_json()},
        "power": {
            "source": report.power.name if report.power else None,
            "of": report.power.what if report.power else "",
            "idle_w": None if report.idle_w is None else round(report.idle_w, 3),
        },
        "warnings": list(report.warnings),
    }


def engine_tables(report: EnginesReport) -> list[Table]:
    """Latency, accuracy, raw tools, throughput, roofline: each at most 80 columns wide."""
    return [
        _latency_table(report),
        _accuracy_table(report),
        _raw_table(report),
        *_throughput_tables(report),
        *_roofline_tables(report),
    ]


def machine_lines(report: EnginesReport) -> list[str]:
    """The machine's state and what power is known of, for people."""
    start, _, end = report.states
    lines = [f"machine: {start.line}; at the end {end.line}"]
    if report.power is None:
        lines.append("power: not measurable here")
    else:
        idle = "" if report.idle_w is None else f", {report.idle_w:.2f} W idle"
        lines.append(f"power: {report.power.what}, by {report.power.name}{idle}")
    return lines


def _latency_table(report: EnginesReport) -> Table:
    name = report.bundle.name
    power = report.power is not None
    rows = []
    for each in report.engines:
        latency = each.latency(name)
        row = [
            each.label,
            *(f"{ms:.3f}" for ms in (latency.p50, latency.p90, latency.p99, each.first_ms)),
            f"{each.load_ms:.0f}",
            f"{each.rss_mib:.1f}",
        ]
        rows.append([*row, "-" if each.power_w is None else f"{each.power_w:.2f}"] if power else row)
    threads = report.settings.threads[0]
    return Table(
        f"{name}: ms a call, {threads} thread{'s' if threads > 1 else ''}, {report.engines[0].latency(name).n} calls",
        ["engine", "p50", "p90", "p99", "first", "load", "MiB", *(["W"] if power else [])],
        rows,
    )


def _accuracy_table(report: EnginesReport) -> Table:
    rows = []
    for each in report.engines:
        measured = each.accuracy
        size = f"{each.candidate.entry.bytes / 1024:,.0f}"
        if measured is None:
            rows.append([each.label, f"{each.p50_ms:.3f}", size, "not measured", "-", "-"])
            continue
        interval = f"{measured.ci95[0]:.3f} to {measured.ci95[1]:.3f}" if measured.ci95 else "-"
        rows.append(
            [each.label, f"{each.p50_ms:.3f}", size, measured.metric, f"{measured.value:.3f}", interval]
        )
    return Table(
        "what each is worth, from the manifest",
        ["engine", "p50 ms", "KiB", "metric", "value", "95 % interval"],
        rows,
    )


def _raw_table(report: EnginesReport) -> Table:
    rows = [
        [
            each.label,
            raw.tool if raw.statistic == "median" else f"{raw.tool} ({raw.statistic})",
            f"{raw.ms:.3f}",
            f"{raw.difference_us:+.1f}",
            f"{raw.percent:+.1f}",
            "yes" if raw.within else "NO",
        ]
        for each in report.engines
        for raw in each.raw
    ]
    return Table(
        "ours beside the libraries' own; within: 3 % or 50 us, the larger",
        ["engine", "beside", "its ms", "ours, us", "%", "within"],
        rows,
    )


def _throughput_tables(report: EnginesReport) -> list[Table]:
    windows = report.engines[0].throughput
    if not windows:
        return []
    rows = [[each.label, *(_inputs(window) for window in each.throughput)] for each in report.engines]
    batched = max(window.batch for window in windows) > 1
    return [
        Table(
            "inputs a second, by threads x engines at once in one process" + " x inputs a call" * batched,
            ["engine", *(_setting(window, batched=batched) for window in windows)],
            rows,
        )
    ]


def _setting(window: Throughput, *, batched: bool) -> str:
    return f"{window.threads} x {window.instances}" + f" x {window.batch}" * batched


def _inputs(window: Throughput) -> str:
    return "-" if window.inputs_per_s is None else f"{window.inputs_per_s:,.1f}"


def _roofline_tables(report: EnginesReport) -> list[Table]:
    limited = [(each.label, each.limit) for each in report.engines if each.limit is not None]
    if not limited:
        return []
    rows = [
        [
            label,
            f"{limit.work.macs / 1e6:,.2f}",
            f"{limit.work.bytes / 1e6:,.2f}",
            f"{limit.gmacs:.1f}",
            f"{limit.least_ms:.3f}",
            limit.bound,
            f"{limit.percent:.1f}",
        ]
        for label, limit in limited
    ]
    return [
        Table(
            "roofline: the least ms that this machine's peaks allow",
            ["engine", "M MAC", "MB", "GMAC/s", "least ms", "bound by", "% reached"],
            rows,
        ),
        Table(
            "this machine's peaks, measured in this run",
            ["peak", "median", "best"],
            [
                [peak_name(each), f"{each.p50:.1f} {each.unit}", f"{each.p99:.1f} {each.unit}"]
                for each in report.peaks.values()
            ],
        ),
    ]


def peak_name(peak: Measurement) -> str:
    """For people: "int8 arithmetic", "memory bandwidth", "bandwidth in 2 MiB"."""
    if not peak.name.startswith("bandwidth_"):
        return f"{peak.name.split('_')[1]} arithmetic"
    size_bytes = int(peak.name.split("_")[1])
    if size_bytes == MEMORY_BYTES:
        return "memory bandwidth"
    return (
        f"bandwidth in {size_bytes >> 20} MiB" if size_bytes >> 20 else f"bandwidth in {size_bytes >> 10} KiB"
    )


def _engine_json(figures: EngineFigures) -> JsonValue:
    entry, measured = figures.candidate.entry, figures.accuracy
    return {
        "label": figures.label,
        "file": entry.path,
        "bytes": entry.bytes,
        "accuracy": None
        if measured is None
        else {
            "metric": measured.metric,
            "value": measured.value,
            "ci95": None if measured.ci95 is None else list(measured.ci95),
            "data": measured.data,
        },
        "block_ms": [round(ms, 5) for ms in figures.block_ms],
        "raw": [raw.to_json() for raw in figures.raw],
        "roofline": None if figures.limit is None else figures.limit.to_json(),
        "warnings": list(figures.warnings),
    }
