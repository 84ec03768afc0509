"""Two models on the same examples: the difference, its interval, and whether it is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import Picks, Statistic, resamples
from edgeai.errors import DataError

ROUNDS = 1000
# up to this many groups every sign is tried, 4096 of them; with more, as many are drawn
_EXACT_GROUPS = 12
_DRAWS = 9999


@dataclass(frozen=True, slots=True)
class Difference:
    """value: the second model's metric less the first's. ci95: paired bootstrap; n: examples."""

    value: float
    ci95: tuple[float, float]
    n: int

    @property
    def seen(self) -> bool:
        """Whether the interval leaves out no difference at all."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


@dataclass(frozen=True, slots=True)
class McNemar:
    """only_a, only_b: examples that only one model has right. p: of a split at least as uneven, were the two equally good."""

    only_a: int
    only_b: int
    p: float


def paired_difference(
    n: int, first: Statistic, second: Statistic, *, groups: Picks | None = None, rounds: int = ROUNDS
) -> Difference:
    """`second` - `first` over the same examples, and over the same resamples of them (of whole groups where told).

    What makes an example hard for both models cancels out, so this sees less than two intervals side by side.
    Resamples in which either is NaN are left out.
    """
    everything = np.arange(n)
    gaps = [second(picks) - first(picks) for picks in resamples(n, groups=groups, rounds=rounds)]
    gaps = [gap for gap in gaps if not np.isnan(gap)]
    value = second(everything) - first(everything)
    if not gaps:
        return Difference(value, (float("nan"), float("nan")), n)
    low, high = np.percentile(gaps, (2.5, 97.5))
    return Difference(value, (float(low), float(high)), n)


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """McNemar's test (1947) with the exact binomial distribution, two-sided; (N,) whether each model is right.

    Raises DataError for two lengths.
    """
    if right_a.shape != right_b.shape:
        raise DataError(f"{len(right_a)} and {len(right_b)} examples cannot be paired")
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    total, fewer = only_a + only_b, min(only_a, only_b)
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
        for k in range(fewer + 1)
    ]
    return McNemar(only_a, only_b, min(1.0, 2 * math.fsum(math.exp(log) for log in logs)))


def sign_flip_p(gains: NDArray[Any], groups: Picks, *, seed: int = 0) -> float:
    """The chance of a total gain at least as far from zero, were the two models alike within each group.

    gains: (N,) second less first, example by example; groups: (N,) numbers. The signs of whole groups' sums are flipped (Fisher's
    randomization test, 1935): all of them up to 12 groups, else 9,999 drawn ones and the one seen. What McNemar's test is for
    clips that are independent, this is for speakers.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    sums = np.bincount(numbers, np.asarray(gains, np.float64))
    seen = abs(float(sums.sum()))
    if len(sums) <= _EXACT_GROUPS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= seen - 1e-9).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (_DRAWS, len(sums)))
    return float(((np.abs(signs @ sums) >= seen - 1e-9).sum() + 1) / (_DRAWS + 1))
