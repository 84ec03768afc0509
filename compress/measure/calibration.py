"""Whether a score of 0.8 is right eight times of ten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True, slots=True)
class Calibration:
    """error: expected calibration error, 0..1 (Guo et al. 2017). The rest is one a bin that holds scores, lowest first:

    score: their mean; right: how many of them are right, 0..1; count.
    """

    error: float
    score: tuple[float, ...]
    right: tuple[float, ...]
    count: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "ece": round(self.error, 4),
            "bins": [
                {"score": round(s, 4), "right": round(r, 4), "n": n}
                for s, r, n in zip(self.score, self.right, self.count, strict=True)
            ],
        }


def measure_calibration(scores: NDArray[Any], right: NDArray[np.bool_], *, bins: int = BINS) -> Calibration:
    """scores: (N,) 0..1, right: (N,). Bins of equal width; the error is the mean gap |right - score|, by count.

    NaN without scores.
    """
    values = np.asarray(scores, np.float64)
    if not len(values):
        return Calibration(float("nan"), (), (), ())
    bin_of = np.minimum((values * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    kept = np.flatnonzero(count)
    score = np.bincount(bin_of, values, bins)[kept] / count[kept]
    share = np.bincount(bin_of, right.astype(np.float64), bins)[kept] / count[kept]
    error = float((np.abs(score - share) * count[kept]).sum() / len(values))
    return Calibration(error, tuple(score.tolist()), tuple(share.tolist()), tuple(count[kept].tolist()))
