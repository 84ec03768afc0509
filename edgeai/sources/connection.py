"""Whether a camera can be read: its states, and the waits between attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

ConnectionState: TypeAlias = Literal["opening", "live", "waiting", "asleep", "ended"]
Happening: TypeAlias = Literal["opened", "failed", "retry", "slept", "end"]

# opened: it gives pictures. failed: opening, or reading, came to nothing. slept: a still was taken, the next is due later
TRANSITIONS: dict[ConnectionState, dict[Happening, ConnectionState]] = {
    "opening": {"opened": "live", "failed": "waiting", "retry": "opening", "slept": "asleep", "end": "ended"},
    "live": {"opened": "live", "failed": "waiting", "retry": "live", "slept": "asleep", "end": "ended"},
    "waiting": {"opened": "live", "failed": "waiting", "retry": "opening", "slept": "asleep", "end": "ended"},
    "asleep": {"opened": "live", "failed": "waiting", "retry": "opening", "slept": "asleep", "end": "ended"},
    "ended": {"opened": "ended", "failed": "ended", "retry": "ended", "slept": "ended", "end": "ended"},
}

# a camera that takes connections and drops them is one that does not work: only this long is it believed to be back
PROVEN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """How a camera's connection is. since_s: on the clock's monotonic time, when the state began.

    connections: how often it was opened and gave a picture. failures: attempts, and connections, that failed. problem: the
    last error on one line, "" while it is live and where nothing has failed yet. retry_in_s: of the last wait, how long it is.
    """

    state: ConnectionState = "opening"
    since_s: float = 0.0
    connections: int = 0
    failures: int = 0
    problem: str = ""
    retry_in_s: float | None = None

    @property
    def lost(self) -> bool:
        """Whether the camera is away."""
        return bool(self.problem) and self.state in {"opening", "waiting"}


class Backoff:
    """How long to wait before the next attempt: doubled from first_s to most_s, the upper half of it left to chance.

    Chance keeps fifty cameras behind one switch from coming back at the same moment ("equal jitter": M. Brooker, Exponential
    Backoff And Jitter, AWS Architecture Blog, 2015); the half that is sure keeps the load of a dead one low.
    """

    def __init__(self, first_s: float, most_s: float, chance: Callable[[], float]) -> None:
        """chance: a number of 0..1, as random.random gives."""
        self._first_s, self._most_s, self._chance = first_s, most_s, chance
        self._step_s = first_s

    def next_s(self) -> float:
        """first_s at least, most_s at most."""
        step_s = self._step_s
        self._step_s = min(self._most_s, step_s * 2.0)
        return max(self._first_s, step_s * (0.5 + 0.5 * self._chance()))

    def reset(self) -> None:
        """The next wait is the first again."""
        self._step_s = self._first_s
