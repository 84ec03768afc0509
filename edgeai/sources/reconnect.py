"""A camera that goes away and comes back: one source after the other, time and index running on."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from edgeai.clock import Clock, SystemClock
from edgeai.errors import SourceError, first_line
from edgeai.pulse import Pulse
from edgeai.sources.connection import PROVEN_S, TRANSITIONS, Backoff, ConnectionFacts, Happening
from edgeai.sources.settings import CaptureSettings
from edgeai.sources.source import Source
from edgeai.types import Frame

log = logging.getLogger("edgeai")

# a source is itself bound to give up in its time: only one that does not is taken for hung
GRACE_S: Final = 0.5


class Reconnecting(Source[Frame]):
    """The frames of a live source, of a new one after each failure; waits in between grow from capture.retry_s to
    retry_max_s and start over once a connection has lasted. It never ends by itself.

    time_s is monotonic time since the first opening, and indices never repeat. Lost and back are logged once each. The
    pulse is held around opening and reading. Raises only what `make` itself raises: an address that is wrong stays wrong.
    """

    live = True

    def __init__(
        self,
        make: Callable[[], Source[Frame]],
        *,
        label: str,
        capture: CaptureSettings,
        pulse: Pulse,
        on_change: Callable[[ConnectionFacts], None] = lambda facts: None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """make: a new source, not yet opened. on_change: told each state, from the reading thread; returns at once."""
        self.label = label
        self._make = make
        self._settings = capture
        self._pulse = pulse
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._backoff = Backoff(capture.retry_s, capture.retry_max_s, chance)
        self._facts = ConnectionFacts(since_s=self._clock.monotonic_s())
        self._source: Source[Frame] | None = None
        self._before_capped = self._before_bad = 0
        self._ended = False
        self._woken = threading.Event()
        self._faulty = False
        self._lost_s: float | None = None  # when it was lost, or first not found

    @property
    def facts(self) -> ConnectionFacts:
        return self._facts

    @property
    def capped(self) -> int:  # type: ignore[override]
        source = self._source
        return self._before_capped + (source.capped if source is not None else 0)

    @property
    def bad(self) -> int:  # type: ignore[override]
        source = self._source
        return self._before_bad + (source.bad if source is not None else 0)

    def retry_now(self) -> None:
        """End the wait before the next attempt; from any thread."""
        self._woken.set()

    def cancel(self) -> None:
        self._ended = True
        self._woken.set()
        source = self._source
        if source is not None:
            source.cancel()

    def close(self) -> None:
        self._ended = True
        self._woken.set()

    def __iter__(self) -> Iterator[Frame]:
        began_s = self._clock.monotonic_s()
        index, last_s = -1, -1.0
        try:
            while not self._ended:
                source = self._source = self._make()
                first_index = index + 1
                live_s: float | None = None
                fault: SourceError | None = None
                try:
                    with self._pulse.during("opening the camera", self._settings.open_s + GRACE_S):
                        source.open()
                    for frame in self._frames(source):
                        now_s = self._clock.monotonic_s()
                        if live_s is None:
                            live_s = now_s
                            self._found(now_s)
                        elif now_s - live_s >= PROVEN_S:
                            self._backoff.reset()
                        index = first_index + frame.index
                        last_s = max(last_s, now_s - began_s)
                        yield replace(frame, index=index, time_s=last_s)
                except SourceError as error:
                    fault = error
                except (
                    Exception
                ) as error:  # of a driver: a camera that could be back in a second must not be gone for good
                    if not self._faulty:
                        self._faulty = True
                        log.exception("%s met a fault of the program, tried again; said once", self.label)
                    fault = SourceError(
                        f"a fault of the program: {type(error).__name__}: {first_line(error)}"
                    )
                finally:
                    self._let_go(source)
                if not self._ended:
                    self._rest(fault)
        finally:
            self._change("end")

    def _frames(self, source: Source[Frame]) -> Iterator[Frame]:
        """Its frames, the pulse held while one is waited for."""
        frames = iter(source)
        while not self._ended:
            self._pulse.begin("reading the camera", self._settings.stall_s + GRACE_S)
            try:
                frame = next(frames, None)
            finally:
                self._pulse.end()
            if frame is None:
                return
            yield frame

    def _let_go(self, source: Source[Frame]) -> None:
        self._before_capped += source.capped
        self._before_bad += source.bad
        self._source = None
        with (
            contextlib.suppress(SourceError),
            self._pulse.during("closing the camera", self._settings.stall_s + GRACE_S),
        ):
            source.close()

    def _found(self, now_s: float) -> None:
        first = not self._facts.connections
        if self._lost_s is not None:
            what = "found" if first else "back"
            log.info("%s: %s after %s", self.label, what, duration(now_s - self._lost_s))
        self._lost_s = None
        self._facts = replace(
            self._facts, connections=self._facts.connections + 1, problem="", retry_in_s=None
        )
        self._change("opened")

    def _rest(self, fault: SourceError | None) -> None:
        """Wait between two sources. fault: why the last one ended, None where it came to an end."""
        self._wait_after(fault or SourceError("it ended"))

    def _wait_after(self, fault: SourceError) -> None:
        wait_s = self._backoff.next_s()
        if self._lost_s is None:
            self._lost_s = self._clock.monotonic_s()
            what = "lost" if self._facts.connections else "not there"
            log.warning("%s: %s, tried again until it is back: %s", self.label, what, fault)
        else:
            log.debug("%s: attempt failed, the next in %.1f s: %s", self.label, wait_s, fault)
        self._facts = replace(
            self._facts, failures=self._facts.failures + 1, problem=str(fault), retry_in_s=round(wait_s, 1)
        )
        self._change("failed")
        if self._wait(wait_s):
            self._backoff.reset()
        self._change("retry")

    def _wait(self, seconds: float) -> bool:
        """Whether somebody ended it early."""
        self._woken.clear()
        return not self._ended and self._clock.wait(self._woken, seconds) and not self._ended

    def _change(self, happening: Happening) -> None:
        state = TRANSITIONS[self._facts.state][happening]
        if state != self._facts.state or happening == "failed":
            self._facts = replace(self._facts, state=state, since_s=self._clock.monotonic_s())
            self._on_change(self._facts)


def duration(seconds: float) -> str:
    """For people.

    >>> duration(3.21), duration(200), duration(7300)
    ('3.2 s', '3 min 20 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
