"""What a camera's whole way costs beside the bare engine call: capture, letterbox, decoder, tracker, rules and a real outbox."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from edgeai.bench.held_frames import HandedFrames, HeldCamera, endless, held_settings
from edgeai.bench.padded_engine import PaddedPool, open_padded
from edgeai.bundle import Bundle
from edgeai.config import Config
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError
from edgeai.runtime import Runtime
from edgeai.sinks.sink import Sink
from edgeai.types import Frame

WARM_UP: Final = 5
FRAME_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Model:
    """What runs, and how: a bundle, the engine file asked for, threads of an engine, this device."""

    bundle: Bundle
    engine: str | None
    threads: int
    host: EngineHost

    @property
    def path(self) -> str:
        """As a configuration in any folder names it."""
        return str(self.bundle.folder.resolve())


@dataclass(slots=True)
class Overhead:
    """Samples of the same frames. engine_ms: the bare call. frame_ms: from the frame's capture until its events are stored.
    overhead_ms: the difference. events: how many came of all.
    """

    engine_ms: list[float] = field(default_factory=list)
    frame_ms: list[float] = field(default_factory=list)
    overhead_ms: list[float] = field(default_factory=list)
    events: int = 0


def measure_overhead(
    model: Model,
    held: Sequence[Frame],
    sink: Sink,
    *,
    frames: int,
    least_s: float = 0.0,
    advance: Callable[[], object] = lambda: None,
) -> Overhead:
    """`frames` frames through a camera of a device at work, one after the other, by turns with the bare engine call.

    A frame's way begins in the capture thread and ends when its events are in the sink, which is open; its threads are at
    work meanwhile. least_s: engines are padded to it.
    """
    measured = Overhead()
    with (
        open_padded(
            model.bundle, host=model.host, file=model.engine, threads=model.threads, least_s=least_s
        ) as beside,
        _one_camera(model, sink, least_s) as camera,
    ):
        bare = beside.engine.bare_call()
        for number, frame in enumerate(islice(endless(held), frames + WARM_UP)):
            alone = _timed_ms(bare) if number % 2 else 0.0
            whole = camera.process_ms(frame)
            alone = alone or _timed_ms(bare)
            if number >= WARM_UP:
                measured.engine_ms.append(alone)
                measured.frame_ms.append(whole)
                measured.overhead_ms.append(whole - alone)
            advance()
        measured.events = camera.events
    return measured


class _OneCamera:
    """Hands frames to a camera and waits for each."""

    def __init__(self, model: Model, pool: PaddedPool, deliver: Callable[..., None]) -> None:
        self._source = HandedFrames()
        self._done: SimpleQueue[float] = SimpleQueue()
        settings = held_settings("bench", model.path, engine=model.engine, realtime=False)
        self._stream = HeldCamera(settings, self._source, pool=pool, shown=self._shown)
        self._stream.start(deliver)

    @property
    def events(self) -> int:
        return self._stream.report.events

    def process_ms(self, frame: Frame) -> float:
        self._source.hand(frame)
        try:
            done_s = self._done.get(timeout=FRAME_S)
        except Empty:
            raise EdgeError(
                f"a frame was not done within {FRAME_S:g} s: {self._stream.report.failed or 'no fault was told'}"
            ) from None
        return (done_s - self._source.handed_s) * 1e3

    def close(self) -> None:
        self._stream.end()
        self._stream.join(FRAME_S)
        self._stream.close()

    def _shown(self, *seen: Any) -> None:
        self._done.put(time.perf_counter())


@contextlib.contextmanager
def _one_camera(model: Model, sink: Sink, least_s: float) -> Iterator[_OneCamera]:
    pool = PaddedPool(host=model.host, threads=model.threads, workers=1, least_s=least_s)
    try:
        camera = _OneCamera(model, pool, delivering(model, sink))
        try:
            yield camera
        finally:
            camera.close()
    finally:
        pool.close(FRAME_S)


def delivering(model: Model, sink: Sink) -> Callable[..., None]:
    """How a device at work hands its events to a sink, counted in the report of whose they are."""
    settings = held_settings("bench", model.path, engine=model.engine, realtime=True)
    runtime = Runtime(Config(cameras=(settings,)), sink, host=model.host)

    def deliver(events: Sequence[Any], report: Any) -> None:
        runtime.tell(events)
        report.events += len(events)

    return deliver


def _timed_ms(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1e3


def disk_of(folder: Path) -> str:
    """The file system that `folder` lies on, for notes; "" where it cannot be told."""
    with contextlib.suppress(OSError, ValueError, ImportError):
        import psutil

        device = folder.stat().st_dev
        for part in psutil.disk_partitions(all=True):
            with contextlib.suppress(OSError):
                if Path(part.mountpoint).stat().st_dev == device:
                    return str(part.fstype)
    return ""
