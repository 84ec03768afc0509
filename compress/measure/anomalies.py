"""How well a model's anomaly scores tell the strange from the normal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import Metric, Picks, group_numbers, interval95
from compress.measure.ranking import partial_auc, roc_auc, score_average_precision
from edgeai.errors import DataError


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
