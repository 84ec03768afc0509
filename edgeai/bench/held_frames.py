"""Frames that were decoded before anything is measured, and a camera that reads them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Final, TypeAlias

import numpy as np

from edgeai.config import CameraSettings
from edgeai.errors import SourceError
from edgeai.pipeline import Seen
from edgeai.schedule.pool import EnginePool
from edgeai.sources import Source, open_camera
from edgeai.sources.capture import Taken
from edgeai.stages.rules import LineSettings, TrackSettings
from edgeai.stream import CameraStream
from edgeai.types import Event, Frame

MAX_HELD_BYTES: Final = 256 << 20

Shown: TypeAlias = Callable[[Taken, Seen], object]
"""Called when all of a frame is done, its events handed over."""


def decode_frames(video: str, most: int, *, size: tuple[int, int] | None = None) -> list[Frame]:
    """The first `most` frames of a video, fewer where they would take more than MAX_HELD_BYTES.

    size: (width, height) in pixels to scale them to. Raises SourceError for a video of one frame, and what opening raises.
    """
    import cv2

    held: list[Frame] = []
    size_bytes = 0
    with open_camera(video, stream="bench") as source:
        for frame in source:
            if size is not None and frame.image.shape[1::-1] != size:
                scaled = np.asarray(cv2.resize(frame.image, size), np.uint8)
                frame = replace(frame, image=scaled)  # noqa: PLW2901
            held.append(frame)
            size_bytes += frame.image.nbytes
            if len(held) >= most or size_bytes > MAX_HELD_BYTES:
                break
    if len(held) < 2:
        raise SourceError(f"{video} has {len(held)} frames, at least 2 are needed")
    return held


def endless(held: Sequence[Frame]) -> Iterator[Frame]:
    """The frames again and again, index and time running on."""
    step_s = (held[-1].time_s - held[0].time_s) / (len(held) - 1)
    for index, frame in enumerate(itertools.cycle(held)):
        yield replace(frame, index=index, time_s=held[0].time_s + index * step_s)


class PacedFrames(Source[Frame]):
    """Frames at `fps` a second, as a camera gives them, the first after `phase` of the distance between two (0 to 1).

    `count` frames, endless where None. copied: each in memory of its own, as a decoder gives them.
    """

    def __init__(
        self,
        held: Sequence[Frame],
        *,
        stream: str,
        fps: float,
        phase: float = 0.0,
        count: int | None = None,
        copied: bool = False,
    ) -> None:
        self._held = held
        self._stream = stream
        self._step_s = 1.0 / fps
        self._phase = phase
        self._count = count
        self._copied = copied
        self._stop = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        began_s = time.monotonic() + self._phase * self._step_s
        for index, frame in enumerate(itertools.islice(itertools.cycle(self._held), self._count)):
            time_s = index * self._step_s
            if self._stop.wait(max(0.0, began_s + time_s - time.monotonic())):
                return
            image = frame.image.copy() if self._copied else frame.image
            yield Frame(image, index, time_s, self._stream)

    def cancel(self) -> None:
        self._stop.set()


class HandedFrames(Source[Frame]):
    """Frames that `hand` gives it, one by one; None ends it. handed_s: when the newest left it, on time.perf_counter.

    Each is copied before, into memory of its own: a decoder has just written a frame too, so that caches hold it.
    """

    def __init__(self) -> None:
        self.handed_s = 0.0
        self._queue: SimpleQueue[Frame | None] = SimpleQueue()

    def hand(self, frame: Frame | None) -> None:
        self._queue.put(frame)

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._queue.get()) is not None:
            written = replace(frame, image=frame.image.copy())
            self.handed_s = time.perf_counter()
            yield written

    def cancel(self) -> None:
        self._queue.put(None)


class HeldCamera(CameraStream):
    """A camera of a device at work, but for its source. shown: told of every frame that is done.

    probe: an event that it adds to a frame's own, None for none.
    """

    def __init__(
        self,
        settings: CameraSettings,
        source: Source[Frame],
        *,
        pool: EnginePool,
        shown: Shown = lambda taken, seen: None,
        probe: Callable[[Frame], Event | None] = lambda frame: None,
    ) -> None:
        self._held = source
        self._shown = shown
        self._probe = probe
        super().__init__(settings, pool=pool)

    def _driver(self, expect: Callable[[float], None] | None = None) -> Source[Frame]:
        return self._held

    def _tell(self, taken: Taken, seen: Seen) -> None:
        probe = self._probe(seen.frame)
        if probe is not None:
            seen = replace(seen, events=(*seen.events, probe))
        super()._tell(taken, seen)
        self._shown(taken, seen)


def held_settings(name: str, model: str, *, engine: str | None, realtime: bool) -> CameraSettings:
    """A camera that counts at a line and tells of every track.

    realtime: the newest frame wins; else every frame is taken.
    """
    return CameraSettings(
        name=name,
        source="held frames",
        model=model,
        engine=engine,
        realtime=realtime,
        rules=(
            LineSettings(name="line", a=(0.1, 0.5), b=(0.9, 0.5)),
            TrackSettings(),
        ),
    )
