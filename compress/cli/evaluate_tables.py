"""The tables of `edgeai-compress eval` and `compare`, for people; 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compress.measure.false_accepts import false_accepts_text
from compress.measure.metric import Metric
from compress.measure.slices import MIN_TO_JUDGE, SliceMetric, worst_slice
from compress.measure.thresholds import OperatingPoint
from edgeai.console import print_note, print_table

# slices of one kind that a table shows, the worst of them; JSON holds all
SHOWN_SLICES = 8
# as fits 80 columns
_NAME_COLUMNS = 28


def interval_text(ci95: Sequence[float]) -> str:
    return f"{ci95[0]:.3f} to {ci95[1]:.3f}"


def print_recalls(metric: Metric) -> None:
    recalls = metric.details.get("recall")
    if isinstance(recalls, dict):
        print_table(["label", "recall"], [[label, f"{value:.3f}"] for label, value in recalls.items()])


def print_false_accepts(metric: Metric) -> None:
    """Of a wake word: how often other sound was taken for it, and what that says."""
    hours = metric.details.get("negative_hours")
    if not hours:
        return
    print(false_accepts_text(metric.details["false_accepts"], hours))


def print_details(details: dict[str, Any], cost: dict[str, Any]) -> None:
    """details: of Scored.details; cost: names and numbers."""
    at = details.get("at_threshold")
    if details.get("classes"):
        columns = [key for key in next(iter(details["classes"].values())) if key != "n"]
        rows = [
            [label, *(figure_text(row[key]) for key in columns), row["n"]]
            for label, row in details["classes"].items()
        ]
        title = f"boxes with a score of {at['threshold']:g} and more" if at else "classes"
        print_table(["label", *columns, "n"], rows, title=title)
    if details.get("misses"):
        print_table(
            ["at most, an hour", "threshold", "missed", "false accepts"],
            [
                [
                    f"{row['wanted_per_hour']:g}",
                    f"{row['threshold']:.4f}",
                    f"{row['miss_rate']:.3f}",
                    row["false_accepts"],
                ]
                for row in details["misses"]
            ],
            title="the fewest misses",
        )
    flat = {
        **{key: value for key, value in details.items() if isinstance(value, (int, float))},
        **details.get("averages", {}),
        **({f"{key} (at {at['threshold']:g})": at[key] for key in at if key != "threshold"} if at else {}),
    }
    if details.get("calibration"):
        flat["calibration error (ECE)"] = details["calibration"]["ece"]
    rows = [[name, figure_text(value)] for name, value in flat.items()]
    rows += [[name.replace("_", " "), figure_text(value)] for name, value in cost.items()]
    print_table(["figure", "value"], rows)


def print_slices(slices: Sequence[SliceMetric], metric: Metric) -> None:
    for kind in dict.fromkeys(part.kind for part in slices):
        parts = [part for part in slices if part.kind == kind]
        if len(parts) > SHOWN_SLICES:
            # a speaker with two clips is no news
            parts.sort(key=lambda part: (part.n < MIN_TO_JUDGE, part.value))
        shown = parts[:SHOWN_SLICES]
        title = f"by {kind}" + (
            f", the worst {len(shown)} of {len(parts)}" if len(parts) > len(shown) else ""
        )
        print_table(
            ["slice", metric.name, "95 % interval", "n", ""],
            [
                [short_name(part.name), f"{part.value:.3f}", interval_text(part.ci95), part.n, part.unit]
                for part in shown
            ],
            title=title,
        )
    worst = worst_slice(slices)
    if worst is None:
        print(f"no slice has {MIN_TO_JUDGE} examples: none is called the worst")
    else:
        print(worst_sentence(worst, metric))


def worst_sentence(worst: SliceMetric, metric: Metric) -> str:
    """The worst slice in words, and whether it is worse by more than its own uncertainty."""
    sure = worst.ci95[1] < metric.value
    judged = (
        "worse than the whole by more than chance (but of many slices, one in forty is so by chance)"
        if sure
        else "not surely worse than the whole"
    )
    return (
        f"worst: {worst.kind} {worst.name}, {metric.name} {worst.value:.3f} ({interval_text(worst.ci95)}), n = {worst.n}:\n"
        f"{judged}, which has {metric.value:.3f}"
    )


def print_thresholds(points: dict[str, OperatingPoint], *, precision: float, sure: bool, split: str) -> None:
    rows = [
        [
            label,
            "none" if point.threshold is None else f"{point.threshold:.4f}",
            f"{point.precision:.3f}",
            f"{point.precision_low:.3f}",
            f"{point.recall:.3f}",
            point.n,
        ]
        for label, point in points.items()
    ]
    what = "lower bound of the precision" if sure else "precision"
    print_table(
        ["label", "threshold", "precision", "at least", "recall", "said"],
        rows,
        title=f"thresholds for a {what} of {precision:g}",
    )
    if any(point.threshold is None for point in points.values()):
        print('"none": no threshold is precise enough; the row is the nearest to it')
    print_note(f"these thresholds were chosen on {split}: measure what they are worth on another split")


def figure_text(value: object) -> str:
    if value is None:
        return "-"
    return (
        f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


def short_name(name: str, columns: int = _NAME_COLUMNS) -> str:
    """A name as a table of 80 columns takes it."""
    return name if len(name) <= columns else name[: columns - 1] + "…"
