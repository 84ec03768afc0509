"""How well scores tell two kinds apart: ROC AUC, average precision, and anomaly detection measured by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import Metric, Picks, group_numbers, interval95
from edgeai.errors import DataError


def roc_auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive scores higher than a negative, ties counting half (Mann & Whitney 1947); NaN without both."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = _mean_ranks(np.asarray(scores, np.float64))
    wins = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return wins / (positives * negatives)


def roc_curve(
    scores: NDArray[Any], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false positive rate, true positive rate) from (0, 0) to (1, 1), one point a distinct score."""
    true, false, _ = _cumulate(np.asarray(scores, np.float64), positive)
    start = np.zeros(1)
    return (
        np.concatenate([start, false / max(1, false[-1] if len(false) else 0)]),
        np.concatenate([start, true / max(1, true[-1] if len(true) else 0)]),
    )


def partial_auc(scores: NDArray[Any], positive: NDArray[np.bool_], *, max_false: float) -> float:
    """The ROC's area up to the false positive rate `max_false`, as a share of what is possible there: 0..1.

    What DCASE ranks machine-sound systems by, with 0.1. NaN without both kinds.
    """
    if not positive.any() or positive.all():
        return float("nan")
    x, y = roc_curve(scores, positive)
    stop = int(np.searchsorted(x, max_false, side="right"))
    # the curve may rise straight up at max_false: only what lies behind it is interpolated
    edge = float(np.interp(max_false, x[stop - 1 : stop + 1], y[stop - 1 : stop + 1]))
    xs, ys = np.append(x[:stop], max_false), np.append(y[:stop], edge)
    return float((np.diff(xs) * (ys[1:] + ys[:-1])).sum() / (2 * max_false))


def score_average_precision(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Average precision of binary scores: precision at each distinct score, weighted by the recall gained there.

    Not interpolated (Manning et al. 2008, chapter 8). NaN without positives.
    """
    if not positive.any():
        return float("nan")
    true, false, _ = _cumulate(np.asarray(scores, np.float64), positive)
    gained = np.diff(true, prepend=0.0) / true[-1]
    return float((gained * true / (true + false)).sum())


def measure_anomaly(
    scores: NDArray[Any], is_anomaly: NDArray[Any], groups: Sequence[str] | None = None
) -> Metric:
    """ROC AUC of anomaly scores (N,), higher being stranger. details: "AP" and "pAUC" (up to 10 % false alarms).

    Raises DataError unless there are both kinds, and scores are numbers.
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(is_anomaly, bool)
    if values.shape != positive.shape or values.ndim != 1:
        raise DataError(
            f"anomaly scores {values.shape} and labels {positive.shape} must be two lists of one length"
        )
    if not positive.any() or positive.all():
        raise DataError(
            f"{int(positive.sum())} of {len(positive)} examples are anomalies; AUC needs both kinds",
            next_step="measure on data that holds normal and strange examples",
        )
    if np.isnan(values).any():
        raise DataError(f"{int(np.isnan(values).sum())} anomaly scores are no numbers")

    def auc(picks: Picks) -> float:
        return roc_auc(values[picks], positive[picks])

    details = {
        "AP": round(score_average_precision(values, positive), 4),
        "pAUC": round(partial_auc(values, positive, max_false=0.1), 4),
    }
    ci95 = interval95(len(values), auc, groups=group_numbers(groups))
    return Metric("AUC", roc_auc(values, positive), ci95, len(values), details)


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])


def _cumulate(
    scores: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Positives and negatives with at least each distinct score, and these scores, falling."""
    order = np.argsort(-scores, kind="stable")
    kinds, falling = positive[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1) if len(falling) else np.zeros(0, int)
    true, false = np.cumsum(kinds), np.cumsum(~kinds)
    return true[ends].astype(np.float64), false[ends].astype(np.float64), falling[ends]
