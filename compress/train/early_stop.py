"""Keep the best of the weights that were validated, and know when to stop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Averages = tuple[NDArray[np.float32], NDArray[np.float32]]


class BestKept:
    """The lowest value so far, its step and its weights. A value that is no number is no improvement.

    patience: checks without improvement after which `stop` becomes true; 0 = never.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.value = math.inf
        self.step = 0
        self.checked = 0
        self.misses = 0
        self.averages: Averages | None = None

    def tell(self, step: int, value: float, averages: Averages) -> bool:
        """What `averages`, of `step`, are worth; whether they are the best so far."""
        self.checked = step
        if not value < self.value:
            self.misses += 1
            return False
        self.value, self.step, self.misses, self.averages = value, step, 0, averages
        return True

    @property
    def stop(self) -> bool:
        return 0 < self._patience <= self.misses

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """(numbers, arrays) for a checkpoint."""
        numbers = {"step": self.step, "checked": self.checked, "misses": self.misses}
        if self.averages is None:
            return numbers, {}
        weights, stats = self.averages
        return numbers | {"value": self.value}, {"best_weights": weights, "best_stats": stats}

    def restore(self, numbers: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Take up what state() gave."""
        self.step, self.checked, self.misses = (int(numbers[k]) for k in ("step", "checked", "misses"))
        if "value" in numbers:
            self.value = float(numbers["value"])
            self.averages = (arrays["best_weights"], arrays["best_stats"])
