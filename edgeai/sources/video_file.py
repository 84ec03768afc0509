"""Frames from a video file."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeai.clock import Clock, SystemClock
from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.ffmpeg import open_capture
from edgeai.sources.request import FpsCap
from edgeai.sources.source import Source
from edgeai.types import Frame

if TYPE_CHECKING:
    import cv2

_LOG = logging.getLogger(__name__)


class VideoFile(Source[Frame]):
    """Every frame of a video file, or of a part of it, in order.

    realtime: frames come no faster than their times say; none is dropped (`Latest` does that). loop: begin again at
    the end, time and index running on. max_fps: frames a second at most, by their times; the others are decoded, since
    later ones build on them, and no more. start, stop: the part to read, as fractions of the file's frames; frames
    before it are decoded and thrown away, since seeking is inexact in many formats: 0.5 of one file and 0.5 of the
    same file meet without a gap or a shared frame.
    `Frame.index` and `Frame.time_s` are the position in the file (the whole file, not the part).

    Raises SourceMissingError where there is no such file, SourceFormatError where it holds no picture that can be
    read, or does not say its frame count and a part of it is asked for.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stream: str,
        realtime: bool = False,
        loop: bool = False,
        max_fps: float | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        if not 0.0 <= start < stop <= 1.0:
            raise SourceError(
                f"0 <= start < stop <= 1 must hold for the part of {path}, got {start} and {stop}"
            )
        self.path = Path(path)
        self.stream = stream
        self.fps = 0.0
        self.frame_count = 0
        self.width_px = 0
        self.height_px = 0
        self._realtime = realtime
        self._loop = loop
        self._max_fps = max_fps
        self._part = (start, stop)
        self._clock = clock or SystemClock()
        self._capture: cv2.VideoCapture | None = None
        self._closing = threading.Event()

    def open(self) -> None:
        """Open the file, and read its facts: fps, frame_count (0 where not said), width_px, height_px."""
        import cv2

        self.close()
        self._capture = self._opened()
        if not self._capture.grab():
            self.close()
            raise SourceFormatError(f"{self.path} holds no frame that can be read")
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not (math.isfinite(self.fps) and 0.0 < self.fps <= 1000.0):
            self.fps = 25.0  # a file that does not know: frames must have some distance
        self.frame_count = _whole(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.width_px = _whole(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height_px = _whole(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._capture.release()
        self._capture = self._opened()  # back before the frame that was tried
        self._closing.clear()
        if self._part != (0.0, 1.0) and not self.frame_count:
            self.close()
            raise SourceFormatError(
                f"{self.path} does not say how many frames it has, so no part of it can be read",
                next_step="convert it to MP4, or read the whole file",
            )

    def cancel(self) -> None:
        """A wait for a frame's time ends at once."""
        self._closing.set()

    def close(self) -> None:
        self._closing.set()
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __iter__(self) -> Iterator[Frame]:
        if self._capture is None:
            raise SourceError(f"{self.path} is not open", next_step="use `with`, or call open() first")
        began_s = self._clock.monotonic_s()
        first_s: float | None = None
        index_offset, time_offset_s = 0, 0.0
        cap = FpsCap(self._max_fps)
        while True:
            last: tuple[int, float] | None = None
            for index, in_file_s in self._pass():
                first_s = in_file_s if first_s is None else first_s
                last = index, in_file_s
                time_s = in_file_s + time_offset_s
                if not cap.takes(time_s):
                    self.capped += 1
                    continue
                image = self._picture(index)
                if image is None:
                    break
                wait_s = began_s + time_s - first_s - self._clock.monotonic_s()
                if self._realtime and wait_s > 0 and self._clock.wait(self._closing, wait_s):
                    return
                yield Frame(image, index + index_offset, time_s, self.stream)
                if self._closing.is_set():
                    return
            if last is None or first_s is None:
                raise SourceFormatError(f"{self.path} has no frame that can be read in the part asked for")
            if not self._loop or self._closing.is_set():
                return
            index_offset += last[0] + 1 - self._bounds()[0]
            time_offset_s += last[1] + 1.0 / self.fps - first_s
            if self._capture is not None:
                self._capture.release()
            self._capture = self._opened()

    def _pass(self) -> Iterator[tuple[int, float]]:
        """Index and time in the file of the part's frames, once, each decoded and not yet converted."""
        import cv2

        first, end = self._bounds()
        index, last_s = 0, -math.inf
        while index < end and not self._closing.is_set() and (capture := self._capture) is not None:
            if not capture.grab():
                self._warn_if_short(index)
                return
            if index >= first:
                time_s = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
                if not (math.isfinite(time_s) and time_s > last_s):
                    # files without timestamps give 0 for all frames
                    time_s = max(index / self.fps, last_s + 1.0 / self.fps)
                last_s = time_s
                yield index, time_s
            index += 1

    def _picture(self, index: int) -> NDArray[np.uint8] | None:
        """The frame that `_pass` stands at; None where the file ends in the middle of it."""
        capture = self._capture
        read, image = capture.retrieve() if capture is not None else (False, None)
        if not read or image is None:
            self._warn_if_short(index)
            return None
        return np.asarray(image, np.uint8)

    def _bounds(self) -> tuple[int, float]:
        start, stop = self._part
        first = round(start * self.frame_count)
        return first, (math.inf if stop == 1.0 else max(round(stop * self.frame_count), first + 1))

    def _warn_if_short(self, read: int) -> None:
        promised = min(self._bounds()[1], self.frame_count)
        # the count of some containers is an estimate from the duration: a few frames are no news
        if read < 0.95 * promised - 2:
            _LOG.warning(
                "%s ends after %d of %d frames: it is cut short or damaged", self.path, read, promised
            )

    def _opened(self) -> cv2.VideoCapture:
        import cv2

        self._see_that_it_is_a_file()
        try:
            capture = open_capture(str(self.path))
        except cv2.error as error:
            why = " ".join(str(error).split())
            raise SourceFormatError(f"{self.path} is not a video that can be read: {why}") from None
        if capture is None:
            raise SourceFormatError(f"{self.path} is not a video that can be read")
        return capture

    def _see_that_it_is_a_file(self) -> None:
        if not self.path.is_file():
            if self.path.exists() and not self.path.is_dir():
                raise SourceFormatError(
                    f"{self.path} is a pipe or a device, not a video file",
                    next_step="a camera is usb:<index or /dev path>",
                )
            raise SourceMissingError(f"there is no video file {self.path}")
        if not is_text(self.path):
            raise SourceFormatError(
                f"{str(self.path)!r} has a name that is not UTF-8 text", next_step="rename the file"
            )


def is_text(path: Path) -> bool:
    """Whether OpenCV can be given this path: one that is not UTF-8 crashes the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(value: float) -> int:
    return round(value) if math.isfinite(value) and value > 0 else 0
