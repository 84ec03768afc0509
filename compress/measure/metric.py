"""One figure with its 95 % interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Metric:
    """name: what was measured; value: 0..1; ci95: bootstrap interval over pictures or clips; n: how many of them."""

    name: str
    value: float
    ci95: tuple[float, float]
    n: int
    details: dict[str, Any] = field(default_factory=dict)


def bootstrap_ci95(
    n: int, statistic: Callable[[NDArray[np.intp]], float], *, rounds: int = 300, seed: int = 0
) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of `statistic(indices)` over resamples of 0..n-1 with replacement (Efron 1979)."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, n, n)) for _ in range(rounds)]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
