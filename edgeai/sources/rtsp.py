"""Frames from a network camera by RTSP, decoded by the processor through OpenCV's FFmpeg."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeai.errors import SourceError
from edgeai.sources.addresses import Address, with_login
from edgeai.sources.ffmpeg import SILENCE, open_capture
from edgeai.sources.request import CameraRequest, FpsCap
from edgeai.sources.rtsp_describe import Description, describe, greet
from edgeai.sources.source import Source
from edgeai.sources.wire import Wire
from edgeai.types import Frame

if TYPE_CHECKING:
    import cv2

MAX_BAD_IN_A_ROW: Final = 30
_BUSY: Final = (453, 503)
_BUSY_S: Final = 0.5
_DESCRIBE_S: Final = 2.0  # how long a camera that plays may take to describe itself
_BACKLOG_S: Final = 2.0  # what a device has not decoded by then, it is too slow for

# fpsprobesize: not to wait for twenty frames only to guess their rate (1.9 s became 0.6 s at 15 frames a second).
# allowed_media_types: sound is not fetched. buffer_size: of UDP's socket, for a key frame that comes at once.
_OPTIONS: Final = "rtsp_transport;{transport}|allowed_media_types;video|fpsprobesize;0|buffer_size;2097152"


def open_rtsp(address: Address, request: CameraRequest) -> Source[Frame]:
    """The reader of an RTSP address: the board's own decoder where it is asked for and there, else the processor."""
    if request.capture.decoder != "software":
        from edgeai.sources.gstreamer.boards import hardware_rtsp

        hardware = hardware_rtsp(address, request)
        if hardware is not None:
            return hardware
    return RtspCamera(address, request)


class RtspCamera(Source[Frame]):
    """The frames of an RTSP camera as they come, in any codec that FFmpeg decodes.

    Opening asks the camera to describe itself first, so that one that is away, refuses the password or has no video says
    which in one line, and never enters FFmpeg. Frames that max_fps leaves out are decoded, since others build on them, and
    not converted. What came in while FFmpeg looked at the stream is decoded and left out: it is old.

    Raises at opening SourceMissingError where the camera is away, SourceFormatError where there is no video, SourceError
    where it refuses the user or plays nothing within capture.open_s; while reading SourceError where no frame came for
    capture.stall_s, where the connection ends, where too much in a row is damaged, and where the size of its pictures
    changed under the same connection (FFmpeg would stretch them to the old size), so that it is opened anew.
    """

    live = True

    def __init__(self, address: Address, request: CameraRequest) -> None:
        self.capped = self.bad = 0
        self._address = address
        self._request = request
        self._called = f"the camera {address}"
        self._url = ""
        self._capture: cv2.VideoCapture | None = None
        self._closing = threading.Event()
        self._wire: Wire | None = None
        self._watch = _SizeWatch(Description())

    def open(self) -> None:
        self.close()
        self._closing.clear()
        capture = self._request.capture
        self._url = with_login(self._address, self._request.login)
        until_s = time.monotonic() + capture.open_s
        with self._wired() as wire:
            greet(self._url, called=self._called, limit_s=capture.open_s, wire=wire)
        SILENCE.begin()
        try:
            self._capture = self._opened(until_s)
        finally:
            if self._capture is None:
                SILENCE.end()
        self._watch = _SizeWatch(self._described(until_s - time.monotonic()))
        if self._closing.is_set():
            self.close()
            raise SourceError(f"{self._called} was closed while it was opened")

    def _opened(self, until_s: float) -> cv2.VideoCapture:
        import cv2

        settings = self._request.capture
        # some of the time is kept for asking why not
        limit_s = max(0.2, 0.9 * (until_s - time.monotonic()))
        try:
            capture = open_capture(
                self._url,
                options=_OPTIONS.format(transport=settings.transport),
                parameters=(
                    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(limit_s * 1e3)),
                    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(settings.stall_s * 1e3)),
                    # FFmpeg decodes a frame in each of its threads at once: with two every frame comes one later
                    *(cv2.CAP_PROP_N_THREADS, 1),
                ),
                turn_s=limit_s / 2,
            )
        except cv2.error:
            capture = None
        except TimeoutError:
            raise SourceError(f"{self._called} had to wait too long for others to be opened") from None
        if capture is None:
            raise self._why_not(limit_s, until_s)
        return capture

    def _why_not(self, limit_s: float, until_s: float) -> SourceError:
        """FFmpeg has no reasons that OpenCV would pass on: the camera is asked for them."""
        try:
            described = self._describe(until_s - time.monotonic())
            if described.status in _BUSY and not self._closing.wait(_BUSY_S):
                # some are for a moment, while they take down what the last viewer watched
                described = self._describe(until_s - time.monotonic())
        except SourceError as error:
            return error
        if described.status in _BUSY:
            return SourceError(f"{self._called} is too busy, or has too many viewers ({described.status})")
        if described.status != 200:
            return SourceError(f"{self._called} does not play its stream: it answers {described.status}")
        if self._request.capture.transport == "udp":
            return SourceError(
                f"{self._called} plays nothing over UDP",
                next_step='set transport = "tcp", or open the firewall for UDP from the camera',
            )
        offers = described.codec or "a stream"
        return SourceError(f"{self._called} offers {offers}, of which no picture came within {limit_s:.0f} s")

    def _describe(self, limit_s: float) -> Description:
        limit_s = max(0.1, min(_DESCRIBE_S, limit_s))
        with self._wired() as wire:
            return describe(self._url, called=self._called, limit_s=limit_s, wire=wire)

    def _described(self, limit_s: float = _DESCRIBE_S) -> Description:
        """What the camera says of itself while it plays; nothing where it would rather not."""
        try:
            return self._describe(limit_s)
        except SourceError:
            return Description()

    @contextlib.contextmanager
    def _wired(self) -> Iterator[Callable[[Wire], None]]:
        """A connection of our own is cancelled when this source is."""

        def hold(wire: Wire) -> None:
            self._wire = wire
            if self._closing.is_set():
                wire.cancel()

        try:
            yield hold
        finally:
            self._wire = None

    def cancel(self) -> None:
        """Asking the camera ends at once; a read in FFmpeg within capture.stall_s, as it cannot be interrupted."""
        self._closing.set()
        if (wire := self._wire) is not None:
            wire.cancel()

    def close(self) -> None:
        self.cancel()
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()
            SILENCE.end()

    def __iter__(self) -> Iterator[Frame]:
        if self._capture is None:
            raise SourceError(f"{self._called} is not open", next_step="use `with`, or call open() first")
        import cv2

        clock, cap, expect = self._request.clock, FpsCap(self._request.max_fps), self._request.expect
        opened_s = clock.monotonic_s()
        backlog = _Backlog()
        index = bad_in_a_row = 0
        last_s = time.monotonic()
        while (capture := self._capture) is not None and not self._closing.is_set():
            expect(self._request.capture.stall_s)
            grabbed = _grabbed(capture)
            if self._closing.is_set():
                return
            if not grabbed:
                bad_in_a_row += 1
                self._end_if_lost(last_s, bad_in_a_row)
                continue
            # what was damaged before a picture came; what is lost at the end is no damage
            self.bad, bad_in_a_row, last_s = self.bad + bad_in_a_row, 0, time.monotonic()
            time_s = clock.monotonic_s() - opened_s
            index += 1
            key = capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) == 1.0
            if backlog.holds(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, last_s):
                continue
            if self._watch.suspects(key=key, now_s=last_s):
                expect(_DESCRIBE_S)
                if self._watch.changed(self._described()):
                    raise SourceError(f"{self._called} changed its pictures' size or coding under way")
            if not cap.takes(time_s):
                self.capped += 1
                continue
            try:
                read, image = capture.retrieve()
            except cv2.error:
                read = False
            if not read:
                self.bad += 1
                continue
            yield Frame(np.asarray(image, np.uint8), index - 1, time_s, self._request.stream)

    def _end_if_lost(self, last_s: float, failures: int) -> None:
        stall_s = self._request.capture.stall_s
        if time.monotonic() - last_s >= 0.95 * stall_s:
            raise SourceError(f"{self._called} gave no picture for {stall_s:g} s")
        # a damaged packet fails once; an end that FFmpeg has reached fails for good, at once
        if failures >= MAX_BAD_IN_A_ROW:
            raise SourceError(f"{self._called} ended its stream, or sends nothing that can be decoded")


def _grabbed(capture: cv2.VideoCapture) -> bool:
    import cv2

    try:
        return capture.grab()
    except cv2.error:
        return False


class _Backlog:
    """Tells frames that FFmpeg had gathered before it called the stream open: they come faster than they were taken."""

    def __init__(self) -> None:
        self._began_s = self._last_s = time.monotonic()
        self._last_taken_s = 0.0
        self._over = False

    def holds(self, taken_s: float, now_s: float) -> bool:
        """Whether the frame that the camera took at taken_s, seconds of its stream, and that came at now_s, is old.

        Where the camera does not tell the time, what comes within 5 ms of the one before is old.
        """
        if not self._over:
            passed_s, step_s = now_s - self._last_s, max(taken_s - self._last_taken_s, 0.01)
            self._last_s, self._last_taken_s = now_s, taken_s
            self._over = passed_s > step_s / 2 or now_s - self._began_s > _BACKLOG_S
        return not self._over


class _SizeWatch:
    """When to ask a camera whether its pictures are still what they were.

    OpenCV does not tell that their size changed. A change brings a key frame out of its turn, and new parameter sets in the
    camera's description. Cameras that set key frames as they please are asked more and more rarely.
    """

    def __init__(self, described: Description) -> None:
        self.described = described
        self._since_key = 0
        self._distance = 0
        self._suspicious = False
        self._wait_s = 2.0
        self._next_s = -math.inf

    def suspects(self, *, key: bool, now_s: float) -> bool:
        """Whether to ask, at this frame."""
        if not self.described.parameter_sets:
            return False
        if key:
            self._suspicious |= bool(self._distance) and self._since_key != self._distance
            self._distance, self._since_key = self._since_key, 0
        self._since_key += 1
        if not self._suspicious or now_s < self._next_s:
            return False
        self._suspicious, self._next_s = False, now_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, 300.0)
        return True

    def changed(self, now: Description) -> bool:
        return bool(now.parameter_sets) and now.parameter_sets != self.described.parameter_sets
