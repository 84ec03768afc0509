"""How well scores tell two kinds apart: ROC AUC and average precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
