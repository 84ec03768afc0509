"""What changes from step to step: the learning rate, and how long the averaged weights remember."""

from __future__ import annotations

import math

FLOOR = 0.01  # of the peak: what the cosine falls to


def learning_rate_at(step: int, *, steps: int, peak: float, warm_up: float) -> float:
    """The rate of step 0..steps-1: a linear warm-up over that fraction of them, then half a cosine (Loshchilov & Hutter
    2017) down to 1 % of the peak.

    >>> [round(learning_rate_at(n, steps=4, peak=1.0, warm_up=0.5), 3) for n in range(4)]
    [0.5, 1.0, 1.0, 0.505]
    """
    warm = max(1, int(steps * warm_up))
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))


def average_momentum_at(step: int, average: float) -> float:
    """Of the weights' moving average: short at the start, so that it forgets the untrained weights, `average` in the end."""
    return min(average, (1 + step) / (10 + step))
