"""How fast a training goes, and how much of its time it waits for batches."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

WINDOW_S = 1.0


class Pace:
    """Counts examples in windows of at least a second; the first step, which builds the graph, is left out."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._windows: list[float] = []
        self._begun: float | None = None
        self._examples = 0
        self._waited_s = self._whole_s = self._pause_s = 0.0

    def now(self) -> float:
        """Seconds."""
        return self._clock()

    def step(self, began: float, got: float, examples: int) -> None:
        """A step that asked for its batch at `began`, had it at `got`, and is done now."""
        now = self._clock()
        if self._begun is None:
            self._begun = now
            return
        self._waited_s += got - began
        self._whole_s += now - began
        self._examples += examples
        if now - self._begun - self._pause_s >= WINDOW_S:
            self._close(now)

    def pause(self, seconds: float) -> None:
        """Time that went into a check or a checkpoint: not the steps' own."""
        self._pause_s += seconds

    def _close(self, now: float) -> None:
        if self._begun is not None:
            self._windows.append(self._examples / max(now - self._begun - self._pause_s, 1e-9))
        self._begun, self._examples, self._pause_s = now, 0, 0.0

    @property
    def examples_per_s(self) -> float:
        """The median over windows; 0 where there was no second step."""
        if self._windows:
            return float(np.median(self._windows))
        return self._examples / self._whole_s if self._whole_s > 0 else 0.0

    @property
    def input_wait(self) -> float:
        """Fraction of the time, 0..1."""
        return self._waited_s / self._whole_s if self._whole_s > 0 else 0.0
