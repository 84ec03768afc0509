"""How old frames are, and how fair the shares, where a model is far too slow for its cameras."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgeai.bench.held_frames import HeldCamera, PacedFrames, held_settings
from edgeai.bench.overhead import Model
from edgeai.bench.padded_engine import PaddedPool
from edgeai.engines import open_engine
from edgeai.metrics import measure_calls_ms
from edgeai.types import Frame

CAMERAS: Final = 4
LEAST_S: Final = 0.025
_PADDED: Final = 2.5
_END_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """age_ms: of each frame when it was done, since its capture. limit_ms: one frame interval and one inference, the latter as
    measured, 99th percentile. shares: frames done of each camera. dropped: frames that were replaced by newer ones.
    """

    age_ms: list[float]
    limit_ms: float
    shares: list[int]
    dropped: int

    @property
    def share_ratio(self) -> float:
        """The largest share over the smallest."""
        return max(self.shares) / max(1, min(self.shares))


def measure_freshness(
    model: Model,
    held: Sequence[Frame],
    *,
    frames: int,
    advance: Callable[[int], object] = lambda n: None,
) -> Freshness:
    """CAMERAS cameras on one worker whose model takes four times as long as they would need, until `frames` frames are done.

    The model is padded to LEAST_S a call, to more where it takes nearly that really.
    """
    least_s = max(LEAST_S, _PADDED * _engine_s(model))
    pool = PaddedPool(host=model.host, threads=model.threads, workers=1, least_s=least_s)
    ages_ms: list[float] = []
    enough = threading.Event()
    warm_up = 2 * CAMERAS

    def shown(taken: Any, seen: Any) -> None:
        ages_ms.append((time.monotonic() - taken.arrived_s) * 1e3)
        advance(1)
        if len(ages_ms) >= frames + warm_up:
            enough.set()

    streams = [
        HeldCamera(
            held_settings(f"cam{number}", model.path, engine=model.engine, realtime=True),
            # all of them together ask for four times what one worker gives
            PacedFrames(
                held,
                stream=f"cam{number}",
                fps=4.0 / (CAMERAS * least_s),
                phase=number / CAMERAS,
                copied=True,
            ),
            pool=pool,
            shown=shown,
        )
        for number in range(CAMERAS)
    ]
    try:
        for stream in streams:
            stream.start(lambda events, report: None)
        enough.wait(_END_S + 4 * frames * least_s)
        shares = [stream.report.frames for stream in streams]
        dropped = sum(stream.capture.dropped for stream in streams)
    finally:
        for stream in streams:
            stream.end()
        for stream in streams:
            stream.join(_END_S)
            stream.close()
        pool.close(_END_S)
    inference_ms = sorted(pool.calls_s)[int(0.99 * (len(pool.calls_s) - 1))] * 1e3
    return Freshness(ages_ms[warm_up:], inference_ms + CAMERAS * least_s * 1e3 / 4.0, shares, dropped)


def _engine_s(model: Model) -> float:
    """What one call really takes."""
    with open_engine(model.bundle, host=model.host, file=model.engine, threads=model.threads) as edges:
        return statistics.median(measure_calls_ms(edges.engine.bare_call(), n=5, warm_up=2)) / 1e3
