"""From which score on a model is right often enough: thresholds for a wanted precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import wilson_bounds
from edgeai.errors import UsageError

# one-sided 95 %
_Z_ONE_SIDED = 1.644854


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What is said with scores >= threshold: how much of it is right, and how much of what there is it says.

    threshold: None where no threshold gives the wanted precision; the figures are then those of the most precise one.
    precision_low: the one-sided 95 % lower bound of the precision (Wilson 1927). n: how many are said.
    """

    threshold: float | None
    precision: float
    precision_low: float
    recall: float
    n: int

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": None if self.threshold is None else round(self.threshold, 6),
            "precision": round(self.precision, 4),
            "precision_low": round(self.precision_low, 4),
            "recall": round(self.recall, 4),
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class ThresholdCurve:
    """Precision and recall at every threshold that changes them, thresholds falling; all (M,)."""

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    said: NDArray[np.int64]

    def precision_low(self) -> NDArray[np.float64]:
        """(M,) one-sided 95 % lower bounds."""
        return wilson_bounds(self.precision * self.said, self.said, z=_Z_ONE_SIDED)[0]


def threshold_curve(scores: NDArray[Any], right: NDArray[np.bool_], *, wanted: int) -> ThresholdCurve:
    """scores, right: (N,) of what the model says. wanted: how many there are to say, those it never says included.

    A threshold lies halfway to the next lower score, so that rounding it moves nothing over it; the last is the lowest
    score itself.
    """
    values = np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    falling = values[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1) if len(falling) else np.zeros(0, int)
    true = np.cumsum(np.asarray(right, bool)[order])[ends]
    at = falling[ends]
    thresholds = np.append((at[:-1] + at[1:]) / 2, at[-1:])
    said = (ends + 1).astype(np.int64)
    return ThresholdCurve(thresholds, true / np.maximum(1, said), true / max(1, wanted), said)


def best_threshold(
    scores: NDArray[Any],
    right: NDArray[np.bool_],
    *,
    wanted: int,
    precision: float,
    lower_bound: bool = False,
) -> OperatingPoint:
    """The threshold with the most recall among those with at least `precision` (0..1).

    lower_bound: what must reach `precision` is its lower bound, so that few examples do not promise 100 %. A threshold that was
    chosen on data is a little too good on the same data: measure it on other data. Raises UsageError for a precision outside
    0..1.
    """
    if not 0 < precision <= 1:
        raise UsageError(f"a wanted precision must be above 0 and at most 1, got {precision:g}")
    curve = threshold_curve(scores, right, wanted=wanted)
    if not len(curve.threshold):
        return OperatingPoint(None, 0.0, 0.0, 0.0, 0)
    low = curve.precision_low()
    judged = low if lower_bound else curve.precision
    reached = np.flatnonzero(judged >= precision)
    best = int(reached[-1]) if len(reached) else int(np.argmax(judged))
    return OperatingPoint(
        float(curve.threshold[best]) if len(reached) else None,
        float(curve.precision[best]),
        float(low[best]),
        float(curve.recall[best]),
        int(curve.said[best]),
    )
