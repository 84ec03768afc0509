"""What a thread is in the middle of, so that another one can see that it hangs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doing:
    """A call that is under way. what: as in "a read"; since_s, due_s: on time.monotonic, due_s when it counts as hung."""

    what: str
    since_s: float
    due_s: float


class Pulse:
    """Held around a native call that may never return. One thread begins and ends, any other asks.

    A thread that only waits for its next work, or to try again, is doing nothing.
    """

    def __init__(self) -> None:
        self._doing: Doing | None = None  # one reference, replaced whole: no lock is needed to read it

    @contextlib.contextmanager
    def during(self, what: str, limit_s: float) -> Iterator[None]:
        """The call inside counts as hung after limit_s seconds."""
        self.begin(what, limit_s)
        try:
            yield
        finally:
            self.end()

    def begin(self, what: str, limit_s: float) -> None:
        """As `during`, without its cost of a microsecond; `end` must follow whatever happens."""
        now_s = time.monotonic()
        self._doing = Doing(what, now_s, now_s + limit_s)

    def end(self) -> None:
        self._doing = None

    def hung(self, now_s: float) -> Doing | None:
        """The call that has taken longer than its limit at now_s; None where there is none."""
        doing = self._doing
        return doing if doing is not None and now_s >= doing.due_s else None
