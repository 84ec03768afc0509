"""What one more camera adds to a device's memory. To be called in a process of its own: what ran before would hide it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from edgeai.bench.held_frames import HeldCamera, PacedFrames, held_settings
from edgeai.bench.overhead import Model
from edgeai.schedule.pool import EnginePool
from edgeai.types import Frame

MORE: Final = 4
FRAMES: Final = 12
_FPS: Final = 10.0
_END_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class CameraMemory:
    """camera_mb: MiB of one more camera, the mean of MORE. worker_mb: MiB of the model opened once more, None where it is
    opened once only.
    """

    camera_mb: float
    worker_mb: float | None


def measure_camera_memory(model: Model, held: Sequence[Frame]) -> CameraMemory:
    """MORE cameras beside those for which the model is opened anew, one a core; each fed FRAMES frames in memory of their own."""
    pool = EnginePool(host=model.host, threads=model.threads)
    streams: list[HeldCamera] = []
    try:
        _add(streams, 1, model, held, pool)
        one = _rss_bytes()
        workers = _add_until_shared(streams, model, held, pool)
        shared = _rss_bytes()
        _add(streams, MORE, model, held, pool)
        camera_bytes = (_rss_bytes() - shared) / MORE
    finally:
        for stream in streams:
            stream.end()
        for stream in streams:
            stream.join(_END_S)
            stream.close()
        pool.close(_END_S)
    worker_mb = None
    if workers > 1:
        worker_mb = max(0.0, ((shared - one) / (workers - 1) - camera_bytes) / 2**20)
    return CameraMemory(max(0.0, camera_bytes / 2**20), worker_mb)


def _add_until_shared(
    streams: list[HeldCamera], model: Model, held: Sequence[Frame], pool: EnginePool
) -> int:
    """Cameras until one more brings no worker more; how many workers there are."""
    workers = 1
    while True:
        _add(streams, 1, model, held, pool)
        (group,) = pool.groups
        if len(group.workers) == workers:
            return workers
        workers = len(group.workers)


def _add(
    streams: list[HeldCamera], count: int, model: Model, held: Sequence[Frame], pool: EnginePool
) -> None:
    """Cameras that have had all their frames; they stay as they are then."""
    fresh = []
    for number in range(len(streams), len(streams) + count):
        name = f"cam{number}"
        source = PacedFrames(held, stream=name, fps=_FPS * 1000, count=FRAMES, copied=True)
        settings = held_settings(name, model.path, engine=model.engine, realtime=False)
        fresh.append(HeldCamera(settings, source, pool=pool))
    streams += fresh
    for stream in fresh:
        stream.start(lambda events, report: None)
    for stream in fresh:
        stream.join(_END_S)


def _rss_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
