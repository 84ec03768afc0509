"""How long it takes from a frame's capture until what was seen in it has passed the broker."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeai.bench.broker import OpenBroker, Subscriber
from edgeai.bench.held_frames import HeldCamera, PacedFrames, held_settings
from edgeai.bench.overhead import Model, delivering
from edgeai.bench.padded_engine import PaddedPool
from edgeai.sinks import MqttSettings, open_reporting
from edgeai.types import Event, Frame

CAMERAS: Final = 4
FPS: Final = 5.0
PROBE: Final = "frame_seen"
_BODY: Final = b"x" * 400  # an event of a tracked object, in its envelope
_FSYNC_EVERY_S: Final = 0.05
_FLUSH_S: Final = 20.0
_END_S: Final = 10.0
WARM_UP: Final = 2
"""Frames of each camera that are not counted."""


@dataclass(frozen=True, slots=True)
class CaptureToBroker:
    """All in milliseconds. telemetry, durable: from a frame's capture to the subscriber. engine: the model's calls meanwhile.
    fsync: of 400 bytes on the same disk meanwhile. lost: events that did not arrive.
    """

    telemetry: list[float]
    durable: list[float]
    engine: list[float]
    fsync: list[float]
    lost: int


def measure_capture_to_broker(
    model: Model,
    held: Sequence[Frame],
    broker: OpenBroker,
    folder: Path,
    *,
    frames: int,
    advance: Callable[[int], object] = lambda n: None,
) -> CaptureToBroker:
    """CAMERAS cameras at FPS frames a second, `frames` frames in all, through one outbox in `folder` to a broker.

    Each frame brings one event more than its rules do: by turns one of telemetry, whose commit does not wait for the disk,
    and a durable one. Raises SinkError where the subscriber breaks, OutboxError.
    """
    probed = range(WARM_UP, WARM_UP + -(-frames // CAMERAS))
    each = probed.stop + 1  # what the last frame's end tells would take the place of its telemetry
    pool = PaddedPool(host=model.host, threads=model.threads)
    settings = MqttSettings(host=broker.host, port=broker.port)
    with contextlib.ExitStack() as stack:
        subscriber = stack.enter_context(Subscriber(broker))
        subscriber.wait()
        sink = stack.enter_context(open_reporting(settings, folder / "outbox.db", device="bench"))
        stack.callback(pool.close, _END_S)
        streams = [
            HeldCamera(
                held_settings(f"cam{number}", model.path, engine=model.engine, realtime=True),
                PacedFrames(
                    held,
                    stream=f"cam{number}",
                    fps=FPS,
                    phase=number / CAMERAS,
                    count=each,
                    copied=True,
                ),
                pool=pool,
                probe=lambda frame: _probe(frame) if frame.index in probed else None,
                shown=lambda *seen: advance(1),
            )
            for number in range(CAMERAS)
        ]
        sink.send(Event("bench_begins", "bench", 0.0))
        sink.flush(_FLUSH_S)  # connected
        pool.calls_s.clear()
        with _Fsyncs(folder) as fsyncs:
            deliver = delivering(model, sink)
            for stream in streams:
                stream.start(deliver)
            for stream in streams:
                stream.join(each / FPS + _FLUSH_S)
        for stream in streams:
            stream.end()
            stream.join(_END_S)
            stream.close()
        sink.flush(_FLUSH_S)
        arrivals = [one for one in subscriber.arrivals() if one.type == PROBE]
    wanted = len(probed) * CAMERAS
    return CaptureToBroker(
        [one.lag_s * 1e3 for one in arrivals if one.priority == "telemetry"],
        [one.lag_s * 1e3 for one in arrivals if one.priority == "event"],
        [call_s * 1e3 for call_s in pool.calls_s],
        fsyncs.took_ms,
        max(0, wanted - len(arrivals)),
    )


def _probe(frame: Frame) -> Event:
    return Event(
        PROBE,
        frame.stream,
        frame.time_s,
        {"frame": frame.index},
        priority="telemetry" if frame.index % 2 else "event",
    )


class _Fsyncs:
    """A thread that writes 400 bytes and waits for the disk, again and again. took_ms: how long each took."""

    def __init__(self, folder: Path) -> None:
        self.took_ms: list[float] = []
        self._path = folder / "fsync.bin"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="fsync", daemon=True)

    def __enter__(self) -> _Fsyncs:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join(_END_S)

    def _work(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            while True:
                began_s = time.perf_counter()
                file.write(_BODY)
                os.fsync(file.fileno())
                self.took_ms.append((time.perf_counter() - began_s) * 1e3)
                if self._stop.wait(_FSYNC_EVERY_S):
                    return
