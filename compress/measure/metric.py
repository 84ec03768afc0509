"""One figure with its 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWER_IS_BETTER = frozenset(("CER", "SER"))
Picks = NDArray[np.intp]
Statistic = Callable[[Picks], float]

# with fewer, resampling groups says little (Cameron, Gelbach & Miller 2008 call up to 30 few)
MIN_GROUPS = 10
# the 97.5 percentile of the normal distribution
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Metric:
    """name: what was measured; value: 0..1; ci95: bootstrap interval over pictures or clips; n: how many of them.

    An error rate of transcripts may exceed 1.
    """

    name: str
    value: float
    ci95: tuple[float, float]
    n: int
    details: dict[str, Any] = field(default_factory=dict)


def group_numbers(groups: Sequence[str] | None) -> Picks | None:
    """(N,) the number of each example's group, or None where groups give nothing to resample.

    That is: none are told, each example is its own group, or there are fewer than ten.
    """
    if not groups:
        return None
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    return numbers.astype(np.intp) if MIN_GROUPS <= len(names) < len(groups) else None


def resamples(n: int, *, groups: Picks | None = None, rounds: int, seed: int = 0) -> list[Picks]:
    """`rounds` index arrays into 0..n-1, drawn with replacement (Efron 1979).

    With `groups` (N,) whole groups are drawn, as many as there are (cluster bootstrap, Field & Welsh 2007): clips of one
    speaker are no independent evidence.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return [rng.integers(0, n, n) for _ in range(rounds)]
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [
        np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])
        for _ in range(rounds)
    ]


def bootstrap_ci95(
    n: int, statistic: Statistic, *, groups: Picks | None = None, rounds: int = 300, seed: int = 0
) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of `statistic(indices)` over resamples; those where it is NaN are left out."""
    values = [statistic(picks) for picks in resamples(n, groups=groups, rounds=rounds, seed=seed)]
    values = [value for value in values if not np.isnan(value)]
    if not values:
        return float("nan"), float("nan")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def interval95(
    n: int, statistic: Statistic, *, groups: Picks | None = None, rounds: int = 300
) -> tuple[float, float]:
    """bootstrap_ci95 that does not promise what few examples cannot.

    Where all of them are right, or all wrong, every resample says the same; the interval is then that of a proportion of
    n out of n, or none (groups instead of examples where they are told).
    """
    low, high = bootstrap_ci95(n, statistic, groups=groups, rounds=rounds)
    if low == high and low in (0.0, 1.0):
        count = n if groups is None else len(np.unique(groups))
        return wilson_ci95(count * low, count)
    return low, high


def wilson_ci95(hits: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a proportion hits / n (Wilson 1927); (0, 1) without examples.

    >>> [round(end, 3) for end in wilson_ci95(10, 10)]
    [0.722, 1.0]
    """
    low, high = wilson_bounds(np.array([hits]), np.array([n]))
    return float(low[0]), float(high[0])


def wilson_bounds(
    hits: NDArray[Any], n: NDArray[Any], *, z: float = _Z95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """wilson_ci95 of arrays (N,); z: how many standard deviations, 1.645 for a one-sided bound of 95 %."""
    n = np.asarray(n, np.float64)
    safe = np.maximum(n, 1e-12)
    share = hits / safe
    middle = (share + z**2 / (2 * safe)) / (1 + z**2 / safe)
    half = z * np.sqrt(share * (1 - share) / safe + z**2 / (4 * safe**2)) / (1 + z**2 / safe)
    low = np.where(hits <= 0, 0.0, np.clip(middle - half, 0.0, 1.0))
    high = np.where(hits >= n, 1.0, np.clip(middle + half, 0.0, 1.0))
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)
