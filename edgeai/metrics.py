"""Percentiles and the one JSON shape of every benchmark."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

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


@dataclass(frozen=True, slots=True)
class HistogramCounts:
    """A histogram as it was at one moment. counts: of each bound of bounds_s, then of what was longer; not cumulative.

    sum_s: of all, the newest one perhaps not yet in it.
    """

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    def cumulative(self) -> list[int]:
        """How many were at most as long as each bound, and at the end how many there were, as Prometheus has them."""
        return list(accumulate(self.counts))

    def __add__(self, other: HistogramCounts) -> HistogramCounts:
        """Both together. Raises ValueError where their bounds differ."""
        if self.bounds_s != other.bounds_s:
            raise ValueError("histograms of other bounds cannot be added")
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return HistogramCounts(self.bounds_s, counts, self.sum_s + other.sum_s)


class Histogram:
    """How often something took how long: counts by upper bound, as Prometheus has them. One thread adds, any other asks.

    bounds_s: the upper bounds, rising, each within its own count; longer ones count as "more". sum_s: of all. What is below
    0, or no number, counts as 0: a clock that went wrong must not take a counter back.
    """

    BOUNDS_S: Final = (
        *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
        *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    )

    __slots__ = ("bounds_s", "counts", "sum_s")

    def __init__(self, bounds_s: Sequence[float] = BOUNDS_S) -> None:
        self.bounds_s = tuple(bounds_s)
        self.counts = [0] * (len(self.bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        if not seconds > 0.0:
            seconds = 0.0
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds

    def read(self) -> HistogramCounts:
        """As it is now; nothing that was added is ever missing from a later one."""
        # the list is copied in one step of the interpreter, so that buckets and their total are of the same moment
        return HistogramCounts(self.bounds_s, tuple(self.counts), self.sum_s)


STAGES: Final = ("wait", "motion", "prepare", "engine", "decode", "track", "rules", "deliver")
"""Where a camera's frame spends its time: waiting in its slot, the motion gate, the letterbox, the engine's call (of all
that were run at once), decoder and NMS, tracker, rules, and handing over its events, the outbox's commit included."""


class StageTimes:
    """Of one stream: a histogram of each stage, and of the whole, from the frame's capture to its events' handing over.

    A frame that goes only part of the way (nothing moves on it) is in the stages that it went through, and in the whole.
    """

    __slots__ = ("stages", "whole")

    def __init__(self) -> None:
        self.stages = {stage: Histogram() for stage in STAGES}
        self.whole = Histogram()


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
