"""Which numbers of a counter came, came twice, came late, or never came, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["new", "late", "duplicate", "old"]

MAX_NUMBER: Final = 2**63 - 1


class Arrival(NamedTuple):
    """kind: "new" is the highest so far, "late" came after a higher one, "old" lies in a gap that was given up, so that
    nobody can tell whether it came before. skipped: numbers between it and the highest before it, 0 where not "new".
    """

    kind: Kind
    skipped: int = 0


class SequenceTracker:
    """Numbers of one counter, in any order, any of them repeated. The first one seen is where the counter begins, until
    a lower one comes.

    received: different numbers. missing: numbers between the lowest and the highest that never came. At most
    `max_holes` separate gaps are remembered: beyond, the lowest is given up, its numbers stay missing for good, and
    `exact` is False.
    """

    def __init__(self, *, max_holes: int = 1024) -> None:
        self.received = self.duplicates = self.late = self.old = 0
        self.missing = 0
        self.lowest = self.highest = 0
        self.exact = True
        self._max_holes = max_holes
        self._floor = 0  # below it nothing is known any more
        # gaps, ascending, by their first and last numbers
        self._starts: list[int] = []
        self._ends: list[int] = []

    def see(self, number: int) -> Arrival:
        """Take in a number, 0 to 2**63 - 1. Raises ValueError for any other."""
        if not 0 <= number <= MAX_NUMBER:
            raise ValueError(f"a sequence number must be 0 to 2**63 - 1, got {number}")
        if not self.received:
            self.received = 1
            self.lowest = self.highest = number
            return Arrival("new")
        if number > self.highest:
            skipped = number - self.highest - 1
            if skipped:
                self._add(len(self._starts), self.highest + 1, number - 1)
            self.highest = number
            self.received += 1
            return Arrival("new", skipped)
        if number < self._floor:
            self.old += 1
            return Arrival("old")
        if number < self.lowest:
            if number + 1 < self.lowest:
                self._add(0, number + 1, self.lowest - 1)
            self.lowest = number
        elif not self._fill(number):
            self.duplicates += 1
            return Arrival("duplicate")
        self.received += 1
        self.late += 1
        return Arrival("late")

    def _add(self, place: int, start: int, end: int) -> None:
        self._starts.insert(place, start)
        self._ends.insert(place, end)
        self.missing += end - start + 1
        self._bound()

    def _fill(self, number: int) -> bool:
        """Take a number out of the gap that holds it; False where none does."""
        place = bisect_right(self._starts, number) - 1
        if place < 0 or number > self._ends[place]:
            return False
        start, end = self._starts[place], self._ends[place]
        self.missing -= 1
        if start == end:
            del self._starts[place], self._ends[place]
        elif number == start:
            self._starts[place] = number + 1
        elif number == end:
            self._ends[place] = number - 1
        else:
            self._ends[place] = number - 1
            self._starts.insert(place + 1, number + 1)
            self._ends.insert(place + 1, end)
            self._bound()
        return True

    def _bound(self) -> None:
        while len(self._starts) > self._max_holes:
            self._floor = self._ends[0] + 1
            self.exact = False
            del self._starts[0], self._ends[0]

    def is_missing(self, number: int) -> bool:
        """Whether a number lies in a gap that is remembered."""
        place = bisect_left(self._ends, number)
        return place < len(self._starts) and self._starts[place] <= number
