"""Percentiles and the one JSON shape of every benchmark."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeai.types import JsonValue


@dataclass(frozen=True, slots=True)
class Measurement:
    """One named figure: percentiles over `n` samples, or a single `value`."""

    name: str
    unit: str
    n: int
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    value: float | None = None

    def to_json(self) -> dict[str, JsonValue]:
        if self.value is not None:
            return {"name": self.name, "unit": self.unit, "value": round(self.value, 4), "n": self.n}
        row: dict[str, JsonValue] = {"name": self.name, "unit": self.unit}
        row.update({key: round(getattr(self, key), 4) for key in ("p50", "p90", "p99")})
        return row | {"n": self.n}


def summarize(name: str, unit: str, samples: Sequence[float]) -> Measurement:
    """Percentiles of `samples` (at least one), by linear interpolation.

    >>> summarize("engine_ms", "ms", [1.0, 2.0, 3.0]).p50
    2.0
    """
    p50, p90, p99 = np.percentile(np.asarray(samples, dtype=np.float64), (50, 90, 99))
    return Measurement(name, unit, len(samples), float(p50), float(p90), float(p99))


class Latencies:
    """The newest `size` durations of something, in a ring: one thread adds, any other asks."""

    def __init__(self, size: int = 512) -> None:
        self._seconds = array("d", bytes(8 * size))
        self._count = 0

    def add(self, seconds: float) -> None:
        self._seconds[self._count % len(self._seconds)] = seconds
        self._count += 1

    def percentiles_ms(self) -> tuple[float, float, float] | None:
        """The 50th, 90th and 99th, by linear interpolation; None before the first."""
        count = min(self._count, len(self._seconds))
        if not count:
            return None
        p50, p90, p99 = np.percentile(np.array(self._seconds[:count]) * 1e3, (50, 90, 99)).tolist()
        return p50, p90, p99


def measure_calls_ms(call: Callable[[], object], *, n: int, warm_up: int = 5) -> list[float]:
    """Milliseconds of each of `n` calls, after `warm_up` that are not counted."""
    for _ in range(warm_up):
        call()
    samples = []
    for _ in range(n):
        began = time.perf_counter_ns()
        call()
        samples.append((time.perf_counter_ns() - began) / 1e6)
    return samples


def bench_report(
    bench: str,
    results: Sequence[Measurement],
    *,
    device: dict[str, JsonValue],
    versions: dict[str, JsonValue],
) -> dict[str, JsonValue]:
    """The object that every benchmark prints with --json."""
    return {
        "bench": bench,
        "device": device,
        "versions": versions,
        "results": [result.to_json() for result in results],
    }
