"""The newest frame wins: a capture thread that never lets a slow reader fall behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from edgeai.clock import Clock, SystemClock
from edgeai.errors import SourceError
from edgeai.sources.source import Source
from edgeai.types import Frame


class Latest(Source[Frame]):
    """Reads `source` in a thread of its own; the reader gets the newest frame, older ones unread are dropped.

    captured: frames read from the source. dropped: those of them that were replaced before anybody took them.
    newest_s: when the newest came, on the clock's monotonic time; None before the first.
    An error of the source comes out in the reader, after the last frame. Iterate in one thread only.
    """

    def __init__(self, source: Source[Frame], *, clock: Clock | None = None, join_s: float = 2.0) -> None:
        self.source = source
        self.captured = 0
        self.dropped = 0
        self.newest_s: float | None = None
        self._clock = clock or SystemClock()
        self._join_s = join_s
        self._changed = threading.Condition()
        self._slot: Frame | None = None
        self._ended = True
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open the source here, so that its errors come out here, then start reading."""
        self.close()
        self.source.open()
        self._slot, self._error, self._ended = None, None, False
        # each thread has its own flag: one that hung in a read must not wake up to a cleared one
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._capture, args=(self._stop,), name="capture", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading and wake the reader. A read that hangs is left behind after join_s seconds.

        The thread closes the source: native readers must not be released under a running read.
        """
        self._stop.set()
        with self._changed:
            self._ended = True
            self._slot = None
            self._changed.notify_all()
        thread, self._thread = self._thread, None  # two threads may close at once
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._join_s)

    def __iter__(self) -> Iterator[Frame]:
        if self._thread is None:
            raise SourceError("the source is not open", next_step="use `with`, or call open() first")
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._ended)
                frame, self._slot = self._slot, None
                error, ended = self._error, self._ended
            if frame is not None:
                yield frame
            elif error is not None:
                raise error
            elif ended:
                return

    def _capture(self, stop: threading.Event) -> None:
        error: BaseException | None = None
        try:
            for frame in self.source:
                if stop.is_set():
                    break
                with self._changed:
                    self.captured += 1
                    self.dropped += self._slot is not None
                    self._slot = frame
                    self.newest_s = self._clock.monotonic_s()
                    self._changed.notify_all()
        except BaseException as raised:  # whatever it is, the reader must hear of it
            error = raised
        finally:
            try:
                self.source.close()
            except Exception as raised:
                error = error or raised
            with self._changed:
                if not stop.is_set():
                    self._error, self._ended = error, True
                    self._changed.notify_all()
