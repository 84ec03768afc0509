"""What a model costs: bytes, compressed bytes, milliseconds of the engine call on one thread."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeai.engines import EdgeEngine
from edgeai.metrics import measure_calls_ms, summarize


@dataclass(frozen=True, slots=True)
class Cost:
    """bytes, gzip_bytes: of the engine file. ms_*: percentiles of the engine call alone, one thread."""

    bytes: int
    gzip_bytes: int
    ms_p50: float
    ms_p90: float
    ms_p99: float


def measure_cost(engine: EdgeEngine, path: Path, *, calls: int = 100) -> Cost:
    """Run `engine`, opened from `path` with one thread, on a fixed random input."""
    times = summarize("ms", "ms", measure_calls_ms(_call_of(engine), n=calls, warm_up=10))
    content = path.read_bytes()
    return Cost(len(content), len(zlib.compress(content, 6)), times.p50, times.p90, times.p99)


def latency_ratio(engine: EdgeEngine, against: EdgeEngine, *, rounds: int = 10, calls: int = 5) -> float:
    """Milliseconds of `engine` over those of `against`, called by turns on fixed random inputs: what else the machine does
    slows both down.
    """
    ours, theirs = _call_of(engine), _call_of(against)
    ratios = [
        np.median(measure_calls_ms(ours, n=calls, warm_up=1))
        / np.median(measure_calls_ms(theirs, n=calls, warm_up=1))
        for _ in range(rounds)
    ]
    return float(np.median(ratios))


def _call_of(engine: EdgeEngine) -> Callable[[], object]:
    spec = engine.inputs[0]
    rng = np.random.default_rng(0)
    array = (
        rng.integers(0, 256, spec.shape).astype(np.uint8) if spec.dtype == "uint8" else rng.random(spec.shape)
    )
    given = {spec.name: array.astype(spec.dtype)}
    return lambda: engine.run(given)
