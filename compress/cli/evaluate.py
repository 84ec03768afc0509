"""`edgeai-compress eval`: what a bundle is worth on labelled data, through the device's own code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.cli.evaluate_tables import (
    print_details,
    print_false_accepts,
    print_recalls,
    print_slices,
    print_thresholds,
)
from compress.measure.bundle import choose_engine, score_bundle
from compress.measure.cost import Cost, measure_cost
from compress.measure.graph_cost import GraphCost, count_graph
from compress.measure.metric import Metric
from compress.measure.predictions import write_predictions
from compress.measure.scored import Scored
from compress.measure.slices import SliceMetric, measure_slices, worst_slice
from compress.measure.thresholds import OperatingPoint
from edgeai.bench.roofline import recorded_cost
from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import FileEntry
from edgeai.cli.host import this_host
from edgeai.console import print_json, print_table, progress_bar
from edgeai.engines import Candidate, named, open_candidate
from edgeai.errors import UsageError


@dataclass(frozen=True)
class Wanted:
    """What is told beside the metric. thresholds: a wanted precision, 0..1; sure: its lower bound must reach it."""

    slices: bool = False
    details: bool = False
    thresholds: float | None = None
    sure: bool = False
    predictions: Path | None = None
    report: Path | None = None
    worst: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """An engine file's outputs on a data set, their metric, and what the file costs. label: what ran it, if not the plain
    library of its format.
    """

    bundle: Bundle
    entry: FileEntry
    scored: Scored
    metric: Metric
    cost: Cost
    label: str = ""

    @property
    def engine(self) -> str:
        return self.label or f"{self.entry.format}/{self.entry.precision}"

    def to_json(self) -> dict[str, Any]:
        """The figures that other programs rely on, in their order (DESIGN, machine-readable figures)."""
        figures: dict[str, Any] = {
            "metric": self.metric.name,
            "value": round(self.metric.value, 4),
            "ci95": [round(end, 4) for end in self.metric.ci95],
            "n": self.metric.n,
            "engine": self.engine,
            "bytes": self.cost.bytes,
            "ms_p50": round(self.cost.ms_p50, 4),
        }
        wake = {key: self.metric.details.get(key) for key in ("false_accepts", "negative_hours")}
        return figures | {key: value for key, value in wake.items() if value is not None}


def evaluate_bundle(
    where: str,
    *,
    data: Path,
    split: str,
    engine: str | None = None,
    iou: float = 0.5,
    others: Sequence[Path] = (),
    wanted: Wanted = Wanted(),
    json_output: bool = False,
) -> int:
    """Print metric, interval, count, bytes and the median of the engine call on one thread, and what is wanted beside.

    Raises BundleError, EngineError, DataMissingError, DataError and UsageError.
    """
    if wanted.thresholds is not None:
        check_precision(wanted.thresholds)
    bundle = load_bundle(where)
    made = evaluate_engine(bundle, choose_engine(bundle, engine), data, split, iou=iou, others=others)
    slices = cut(made.scored) if wanted.slices or wanted.report else []
    points = _points(made.scored, wanted)
    told = made.to_json()
    if wanted.slices:
        worst = worst_slice(slices)
        told["slices"] = [part.to_json() for part in slices]
        told["worst_slice"] = worst.to_json() if worst is not None else None
    if wanted.details:
        told["details"] = made.scored.details() | {"cost": cost_details(made)}
    if wanted.thresholds is not None:
        told["thresholds"] = {label: point.to_json() for label, point in points.items()}
    if wanted.predictions is not None:
        told["predictions"] = str(write_predictions(made.scored, wanted.predictions))
    if wanted.report is not None:
        from compress.report.evaluation import write_evaluation_report

        title = f"{bundle.name} {bundle.manifest.version} on {split} of {data.name}"
        told["report"] = str(
            write_evaluation_report(
                wanted.report,
                title=title,
                scored=made.scored,
                metric=made.metric,
                cost=made.cost,
                engine=made.engine,
                slices=slices,
                points=points,
                precision=wanted.thresholds,
            )
        )
    if wanted.worst is not None:
        from compress.cli.worst import write_worst

        drawn = write_worst(made, data, split, wanted.worst)
        told["worst"] = str(drawn) if drawn is not None else None
    if json_output:
        print_json(told)
        return 0
    _print_metric(made, f"{bundle.name} on {split} of {data}")
    print_false_accepts(made.metric)
    if wanted.details:
        print_details(made.scored.details(), cost_details(made))
    else:
        print_recalls(made.metric)
    if wanted.slices:
        print_slices(slices, made.metric)
    if wanted.thresholds is not None:
        print_thresholds(points, precision=wanted.thresholds, sure=wanted.sure, split=split)
    for key in ("predictions", "report", "worst"):
        if key in told:
            print(f"{key}: {told[key] or 'nothing went wrong'}")
    return 0


def evaluate_engine(
    bundle: Bundle,
    engine: FileEntry | Candidate,
    data: Path,
    split: str,
    *,
    iou: float,
    others: Sequence[Path] = (),
) -> Evaluated:
    """Run an engine file of a bundle on the split, and time it, on one thread."""
    candidate = engine if isinstance(engine, Candidate) else named(bundle, engine.path)[0]
    entry = candidate.entry
    with open_candidate(bundle, candidate, host=this_host()) as opened:
        scored = score_bundle(bundle, opened, data, split, iou=iou, others=others)
        cost = measure_cost(opened, bundle.path(entry))
    return Evaluated(bundle, entry, scored, scored.metric(), cost, candidate.label)


def cut(scored: Scored) -> list[SliceMetric]:
    """Every slice, measured, with a bar."""
    slices = scored.slices()
    with progress_bar("slices", len(slices)) as advance:
        return measure_slices(slices, scored.groups, advance=advance)


def check_precision(precision: float) -> None:
    """Raises UsageError for a precision that cannot be wanted, before any work starts."""
    if not 0 < precision <= 1:
        raise UsageError(
            f"a wanted precision must be above 0 and at most 1, got {precision:g}",
            next_step="for example --thresholds 0.9",
        )


def cost_details(made: Evaluated) -> dict[str, Any]:
    """Compressed size, percentiles, parameters and MACs: of the file's graph, else as the manifest's last pass has them."""
    counted = count_graph(made.bundle.path(made.entry), made.entry.format) if made.entry.format else None
    recorded = recorded_cost(made.bundle.manifest) if counted is None else None
    if recorded is not None:
        counted = GraphCost(*recorded)
    return {
        "gzip_bytes": made.cost.gzip_bytes,
        "ms_p90": round(made.cost.ms_p90, 4),
        "ms_p99": round(made.cost.ms_p99, 4),
        "parameters": counted.parameters if counted is not None else None,
        "macs": counted.macs if counted is not None else None,
    }


def _points(scored: Scored, wanted: Wanted) -> dict[str, OperatingPoint]:
    if wanted.thresholds is None:
        return {}
    return scored.best_thresholds(wanted.thresholds, lower_bound=wanted.sure)


def _print_metric(made: Evaluated, title: str) -> None:
    metric = made.metric
    row = [
        f"{metric.value:.4f}",
        f"{metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}",
        metric.n,
        made.engine,
        f"{made.cost.bytes:,}",
        f"{made.cost.ms_p50:.3f}",
    ]
    print_table([metric.name, "95 % interval", "n", "engine", "bytes", "ms p50"], [row], title=title)
