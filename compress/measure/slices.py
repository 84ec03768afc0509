"""Parts of a data set on which a model may do worse than on the whole: by speaker, size, light, loudness, label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import Picks, Statistic, group_numbers, interval95

# a smaller slice is told, but never called the worst: its figure is mostly chance
MIN_TO_JUDGE = 10
_ROUNDS = 200


@dataclass(frozen=True)
class Slice:
    """Some of the examples, and the metric on them.

    kind: what the data is cut by; name: which part. picks: the examples. value: of any pick of these. n counts `unit`s, which
    are boxes where the slice is of boxes.
    """

    kind: str
    name: str
    picks: Picks
    n: int
    unit: str
    value: Statistic


@dataclass(frozen=True, slots=True)
class SliceMetric:
    """The metric on one slice; n of `unit`."""

    kind: str
    name: str
    value: float
    ci95: tuple[float, float]
    n: int
    unit: str

    def to_json(self) -> dict[str, Any]:
        return {
            "by": self.kind,
            "slice": self.name,
            "value": round(self.value, 4),
            "ci95": [round(end, 4) for end in self.ci95],
            "n": self.n,
            "unit": self.unit,
        }


def measure_slices(
    slices: Sequence[Slice], groups: Sequence[str] | None, *, advance: Callable[[int], object] | None = None
) -> list[SliceMetric]:
    """Value and interval of each slice on which there is one. groups: (N,) of all examples; advance is called after each."""
    measured = []
    for part in slices:
        value = part.value(part.picks)
        if not np.isnan(value):
            ci95 = interval95(
                len(part.picks),
                lambda inner, part=part: part.value(part.picks[inner]),  # type: ignore[misc]
                groups=groups_of(part, groups),
                rounds=_ROUNDS,
            )
            measured.append(SliceMetric(part.kind, part.name, value, ci95, part.n, part.unit))
        if advance is not None:
            advance(1)
    return measured


def groups_of(part: Slice, groups: Sequence[str] | None) -> Picks | None:
    """Group numbers of a slice's examples, None where they are too few to resample."""
    return group_numbers([groups[i] for i in part.picks]) if groups else None


def worst_slice(measured: Sequence[SliceMetric]) -> SliceMetric | None:
    """The lowest value among the slices with at least ten examples; None where there is none."""
    large = [part for part in measured if part.n >= MIN_TO_JUDGE]
    return min(large, key=lambda part: part.value) if large else None


def third_slices(
    kind: str,
    values: NDArray[Any],
    names: tuple[str, str, str],
    value: Statistic,
    *,
    unit: str,
    value_unit: str,
    among: NDArray[np.bool_] | None = None,
) -> list[Slice]:
    """Three slices of about equal count by `values` (N,), lowest first; fewer where values are the same.

    names: what low, middle and high are called; value_unit: of the values, for people. among: (N,) the examples that are cut at all;
    those whose value is no finite number are left out.
    """
    kept = np.isfinite(values) if among is None else among & np.isfinite(values)
    if kept.sum() < 3:
        return []
    low, high = np.quantile(values[kept], (1 / 3, 2 / 3))
    parts = (
        (f"{names[0]} (below {low:.0f} {value_unit})", kept & (values < low)),
        (f"{names[1]} ({low:.0f} to {high:.0f} {value_unit})", kept & (values >= low) & (values < high)),
        (f"{names[2]} ({high:.0f} {value_unit} and up)", kept & (values >= high)),
    )
    return [
        Slice(kind, name, np.flatnonzero(mask), int(mask.sum()), unit, value)
        for name, mask in parts
        if mask.any()
    ]


def group_slices(groups: Sequence[str] | None, value: Statistic, *, unit: str) -> list[Slice]:
    """One slice a group of at least two examples, by name; none where every example is its own group."""
    if not groups:
        return []
    names, numbers, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return [
        Slice("group", str(names[k]), np.flatnonzero(numbers == k), int(counts[k]), unit, value)
        for k in np.flatnonzero(counts > 1)
    ]


def band_slices(
    kind: str, values: NDArray[Any], bands: Sequence[tuple[str, float, float]], value: Statistic, *, unit: str
) -> list[Slice]:
    """One slice for each (name, from, to) in which values (N,) lie, from <= value < to."""
    parts = [(name, np.flatnonzero((values >= low) & (values < high))) for name, low, high in bands]
    return [Slice(kind, name, picks, len(picks), unit, value) for name, picks in parts if len(picks)]
