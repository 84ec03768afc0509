"""A picture every few minutes, everything asleep in between: a camera in a field, on solar power."""

from __future__ import annotations

from collections.abc import Iterator

from edgeai.errors import SourceError
from edgeai.sources.reconnect import GRACE_S, Reconnecting
from edgeai.sources.source import Source
from edgeai.types import Frame


class TimedStills(Reconnecting):
    """One picture every capture.every_s: the first at once, then at multiples of it on the wall clock, as in :00, :10, :20.

    For each the source is opened, read for capture.settle_s so that its exposure settles, and closed again; in between
    nothing is connected and no thread runs. A camera that is not there is tried again as by Reconnecting, until the next
    picture is due. retry_now takes a picture at once. skipped: pictures that were due and were not taken.
    """

    skipped = 0
    _taken = False

    def _frames(self, source: Source[Frame]) -> Iterator[Frame]:
        """The one that came when the exposure had settled."""
        self._taken = False
        began_s: float | None = None
        for frame in super()._frames(source):
            now_s = self._clock.monotonic_s()
            began_s = now_s if began_s is None else began_s
            if now_s - began_s >= self._settings.settle_s:
                self._taken = True
                yield frame
                return

    def _rest(self, fault: SourceError | None) -> None:
        if not self._taken:
            self._wait_after(fault or SourceError("it gave no picture"))
            return
        self._backoff.reset()
        self._change("slept")
        every_s, wall_s = self._every_s, self._clock.wall_s()
        wait_s = every_s - wall_s % every_s
        if (
            wait_s < every_s / 2 - GRACE_S
        ):  # the first came out of turn, or the clock was set: never two in a burst
            wait_s += every_s
        self._wait(wait_s)
        self._change("retry")

    @property
    def _every_s(self) -> float:
        every_s = self._settings.every_s
        if every_s is None:
            raise SourceError(f"{self.label}: stills need capture.every_s")
        return every_s
