"""A camera's thread: it reads as fast as pictures come, and holds the newest until somebody takes it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from edgeai.clock import Clock, SystemClock
from edgeai.errors import SourceError, SourceFormatError
from edgeai.pulse import Doing, Pulse
from edgeai.sources.pictures import as_bgr
from edgeai.sources.source import Source
from edgeai.types import Frame

log = logging.getLogger("edgeai")

MAX_BAD_IN_A_ROW: Final = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame from the slot. arrived_s: when it was read, on the clock's monotonic time."""

    frame: Frame
    arrived_s: float


@dataclass(slots=True, eq=False)
class _Run:
    """One thread's work: a source of its own, and what it is in the middle of. Abandoned, it touches nothing any more."""

    source: Source[Frame]
    pulse: Pulse
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    # what is added to this source's own, which begins at 0: a stream's time and index run on over a replacement
    index_offset: int = 0
    time_offset_s: float = 0.0


class Capture:
    """Reads a source in a thread of its own.

    every: whoever takes frames gets all of them, and the source waits for him; else the newest, older ones unread are
    dropped. wake: called after each frame and at the end, from the capture thread; returns at once.

    captured: frames that were read. dropped: those of them that were replaced before anybody took them. newest_s: when the
    newest came; None before the first. abandoned: threads that hung and were left behind. label: for messages.
    """

    def __init__(
        self,
        make: Callable[[Pulse], Source[Frame]],
        *,
        label: str,
        every: bool = False,
        wake: Callable[[], None] = lambda: None,
        join_s: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
        """make: a new source, not yet opened; it holds its pulse around what may hang. Raises what `make` raises."""
        self.label = label
        self.captured = 0
        self.dropped = 0
        self.newest_s: float | None = None
        self.abandoned = 0
        self._make = make
        self._every = every
        self._wake = wake
        self._join_s = join_s
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._slot: Taken | None = None
        self._newest_index, self._newest_time_s = -1, 0.0
        self._error: BaseException | None = None
        self._ended = False
        self._started = False
        self._bad = 0
        self._before_capped = self._before_bad = 0
        self._run = self._made()

    @property
    def pulse(self) -> Pulse:
        """Of the thread at work."""
        return self._run.pulse

    @property
    def source(self) -> Source[Frame]:
        """What the thread at work reads."""
        return self._run.source

    @property
    def capped(self) -> int:
        """Frames left out for the sake of a highest rate."""
        return self._before_capped + self.source.capped

    @property
    def bad(self) -> int:
        """Pictures that were damaged, or no pictures, and left out."""
        return self._before_bad + self._bad + self.source.bad

    @property
    def ready(self) -> bool:
        """Whether `take` would give a frame."""
        return self._slot is not None

    @property
    def over(self) -> bool:
        """Whether the source came to its end, or failed, and its last frame was taken."""
        return self._ended and self._slot is None

    @property
    def error(self) -> BaseException | None:
        """What ended it, where that was no end."""
        return self._error

    def open(self) -> None:
        """Open the source here, so that its errors come out here, and start reading. Once."""
        self._run.source.open()
        self._started = True
        self._start(self._run)

    def take(self) -> Taken | None:
        """The frame in the slot, which is empty then."""
        with self._changed:
            taken, self._slot = self._slot, None
            if self._every:
                self._changed.notify_all()
        return taken

    def replace(self, doing: Doing) -> None:
        """Abandon the thread that hangs in `doing`, and read on in a new one from a new source.

        Raises what making or opening the source raises; the capture has ended then.
        """
        with self._changed:
            run = self._run
            if run.stop.is_set() or self._ended or run.pulse.hung(doing.due_s) is not doing:
                return  # it came back, or is ending
            run.stop.set()
            self.abandoned += 1
            self._before_capped += run.source.capped
            self._before_bad += run.source.bad
        run.source.cancel()
        try:
            fresh = self._made()
            if self.newest_s is not None:
                fresh.index_offset = self._newest_index + 1
                fresh.time_offset_s = self._newest_time_s + self._clock.monotonic_s() - self.newest_s
            fresh.source.open()
        except Exception as error:
            self._end(run, error)
            raise
        self._run = fresh
        self._start(fresh)

    def cancel(self) -> None:
        """Stop reading, without waiting; from any thread. The thread closes its source: native readers must not be
        released under a running read.
        """
        run = self._run
        run.stop.set()
        with self._changed:
            reading, self._ended = self._started and not self._ended, True
            self._slot = None
            self._changed.notify_all()
        if reading:
            run.source.cancel()
        elif not self._started:
            run.source.close()

    def close(self) -> None:
        """`cancel`, and wait for the thread; a read that hangs is left behind after join_s seconds. Safe to call twice."""
        self.cancel()
        thread = self._run.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._join_s)

    def _made(self) -> _Run:
        pulse = Pulse()
        return _Run(self._make(pulse), pulse)

    def _start(self, run: _Run) -> None:
        thread = threading.Thread(target=self._read, args=(run,), name=f"{self.label} capture", daemon=True)
        thread.start()
        run.thread = thread  # only now: it may be joined from here on

    def _read(self, run: _Run) -> None:
        error: BaseException | None = None
        bad_in_a_row = 0
        try:
            for frame in run.source:
                if run.stop.is_set():
                    break
                try:
                    picture = as_bgr(frame.image)
                except SourceFormatError as fault:
                    self._bad += 1
                    bad_in_a_row += 1
                    if self._bad == 1:
                        log.warning("%s: %s; such pictures are left out and counted", self.label, fault)
                    if bad_in_a_row >= MAX_BAD_IN_A_ROW:
                        raise SourceError(f"{bad_in_a_row} pictures in a row were none: {fault}") from None
                    continue
                bad_in_a_row = 0
                if picture is not frame.image or run.index_offset or run.time_offset_s:
                    frame = replace(  # noqa: PLW2901
                        frame,
                        image=picture,
                        index=frame.index + run.index_offset,
                        time_s=frame.time_s + run.time_offset_s,
                    )
                if not self._put(run, frame):
                    break
        except BaseException as raised:  # whatever it is, who takes must hear of it
            error = raised
        finally:
            with contextlib.suppress(Exception):
                run.source.close()
            self._end(run, error)

    def _put(self, run: _Run, frame: Frame) -> bool:
        """False where this thread shall end."""
        with self._changed:
            if self._every:
                self._changed.wait_for(lambda: self._slot is None or run.stop.is_set())
            if run.stop.is_set():
                return False
            self.captured += 1
            self.dropped += self._slot is not None
            self.newest_s = self._clock.monotonic_s()
            self._newest_index, self._newest_time_s = frame.index, frame.time_s
            self._slot = Taken(frame, self.newest_s)
        self._wake()
        return True

    def _end(self, run: _Run, error: BaseException | None) -> None:
        with self._changed:
            if run is self._run and not self._ended:
                self._error, self._ended = error, True
        self._wake()
