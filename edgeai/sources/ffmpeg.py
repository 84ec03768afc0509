"""OpenCV's FFmpeg, opened with options of its own for each call, without its messages and without waiting for another."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import cv2

_OPTIONS: Final = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# FFmpeg writes its own complaints to standard output; ours are one clear line. Read once, at the first opening.
_FFMPEG_LEVEL: Final = "OPENCV_FFMPEG_LOGLEVEL"
# OpenCV opens one stream at a time in a process: a camera that does not answer would keep all others from opening. FFmpeg
# itself has been safe without that lock since release 4. Releases of OpenCV that do not know the name keep their lock.
_UNLOCKED: Final = "OPENCV_FFMPEG_IS_THREAD_SAFE"


class _Turns:
    """OpenCV takes FFmpeg's options from the process's environment, at the beginning of an opening that may last seconds.

    Openings with the same options run at once; one with others waits until those have ended.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._options = ""
        self._running = 0

    @contextlib.contextmanager
    def taking(self, options: str, limit_s: float | None) -> Iterator[None]:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running or self._options == options, limit_s):
                raise TimeoutError
            if not self._running:
                # never removed: a name that is there already is replaced in place, and who reads the environment at the
                # same time, as C libraries do, meets the old value or the new
                os.environ[_OPTIONS] = self._options = options
                os.environ[_UNLOCKED] = "1"
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                if not self._running:
                    os.environ[_OPTIONS], os.environ[_UNLOCKED] = "", "0"
                    self._changed.notify_all()


class _Silence:
    """OpenCV's own messages are off while anybody wants them off: they name addresses with their passwords."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._before = 0

    def begin(self) -> None:
        import cv2

        with self._lock:
            if not self._wanted:
                self._before = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._wanted += 1

    def end(self) -> None:
        import cv2

        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                cv2.utils.logging.setLogLevel(self._before)


_TURNS, SILENCE = _Turns(), _Silence()


def open_capture(
    where: str, *, options: str = "", parameters: Sequence[int] = (), turn_s: float | None = None
) -> cv2.VideoCapture | None:
    """A file or stream, opened; None where it cannot be. Raises cv2.error where OpenCV does.

    options: for FFmpeg's demuxer, as `name;value|name;value`. parameters: OpenCV's, property and value in turn.
    turn_s: how long to wait while others are opened with other options, None for ever; raises TimeoutError after that.
    """
    os.environ.setdefault(_FFMPEG_LEVEL, "-8")
    import cv2

    # FFmpeg alone where it is there: the others that OpenCV would try next take fewer files and talk more
    ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends()
    SILENCE.begin()
    try:
        with _TURNS.taking(options, turn_s):
            capture = cv2.VideoCapture(where, cv2.CAP_FFMPEG if ffmpeg else cv2.CAP_ANY, list(parameters))
        if capture.isOpened():
            return capture
        capture.release()
        return None
    finally:
        SILENCE.end()
