"""So many a second and no more: of what is sent, answered or logged."""

from __future__ import annotations

import math


class Pace:
    """A bucket of tokens: `per_s` of them come each second, `burst` of them at most lie in it; it is full at first.

    per_s None: no limit. burst: a tenth of a second's where None, 1 at least. Its owner locks.
    """

    def __init__(self, per_s: float | None, *, burst: float | None = None) -> None:
        self._per_s = per_s
        self._burst = burst or max(1.0, (per_s or 0.0) / 10)
        self._left = self._burst
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Seconds until there is one to take; 0 for now. now_s: monotonic."""
        if self._per_s is None:
            return 0.0
        if self._at_s != -math.inf:
            self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return 0.0 if self._left >= 1.0 - 1e-9 else (1.0 - self._left) / self._per_s

    def take(self) -> None:
        """One goes."""
        self._left -= 1.0

    def take_one(self, now_s: float) -> bool:
        """Take one where there is one; whether there was."""
        if self.wait_s(now_s) > 0:
            return False
        self.take()
        return True
