"""How much of what others send is answered, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgeai.clock import Clock

# refusals that are answered: a flood of bad messages must not become a flood of our own
REFUSALS_PER_S: Final = 10.0
REFUSAL_BURST: Final = 50.0


@dataclass(slots=True)
class CommandCounters:
    """Messages since the start. refused: answered with a reason. broken: without an id to answer to. repeated: ids
    seen before. unanswered: refusals beyond what is answered a second. faults: of this program.
    """

    received: int = 0
    accepted: int = 0
    refused: int = 0
    broken: int = 0
    repeated: int = 0
    unanswered: int = 0
    faults: int = 0


class Allowance:
    """A bucket of tokens: `per_s` of them come each second, `burst` of them at most lie in it. Its owner locks."""

    def __init__(self, per_s: float, burst: float, *, clock: Clock) -> None:
        self._per_s = per_s
        self._burst = self._left = burst
        self._clock = clock
        self._filled_s = clock.monotonic_s()

    def take(self) -> bool:
        """Whether there was one."""
        now_s = self._clock.monotonic_s()
        self._left = min(self._burst, self._left + (now_s - self._filled_s) * self._per_s)
        self._filled_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
