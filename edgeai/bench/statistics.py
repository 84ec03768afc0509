"""What samples of a bench may be taken to say: outliers, throttling, and who is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeai.types import JsonValue

BLOCKS = 20
"""Into how many blocks a run is divided; the candidates take turns block by block."""
MIN_BLOCKS = 5
_RESAMPLES = 2000
# beyond the median by so many standard deviations of a normal distribution with the same median absolute deviation
_OUTLIER_MADS = 8.0
_MAD_TO_SIGMA = 1.4826
_MAX_OUTLIERS = 0.05
_THROTTLED = 1.05
_MIN_SAMPLES = 30


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times longer B takes than A. value: the median. low, high: its 95 % interval. spread: of the blocks."""

    value: float
    low: float
    high: float
    spread: float

    @property
    def told_apart(self) -> bool:
        """Whether the difference is larger than the spread, and the interval leaves out 1."""
        return abs(self.value - 1) > self.spread and not self.low <= 1 <= self.high

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "value": round(self.value, 4),
            "ci95": [round(self.low, 4), round(self.high, 4)],
            "spread": round(self.spread, 4),
            "told_apart": self.told_apart,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """winner: the fastest, None where that cannot be said. text: one sentence for people."""

    winner: str | None
    text: str
    ratios: Mapping[str, Ratio]


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """B over A from block medians of equal number, taken by turns: the k-th of both saw the same machine.

    value: the median of the blocks' ratios. Interval: 2.5 to 97.5 % of that median over 2000 drawings of as many blocks with
    replacement, seed 0. spread: half the distance between the 10th and the 90th percentile of the blocks' ratios, as a
    fraction of value; it does not shrink with the number of blocks, as an interval does.
    """
    ratios = np.asarray(b, np.float64) / np.asarray(a, np.float64)
    drawn = np.median(ratios[_drawings(len(ratios), seed=0)], axis=1)
    return _ratio(float(np.median(ratios)), drawn, _half_range(ratios))


def unpaired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """B over A from block medians of two runs, which saw different machines or hours.

    value: ratio of the medians over blocks; both sides are drawn for themselves, and their spreads added as squares.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    drawn = np.median(second[_drawings(len(second), seed=1)], axis=1) / np.median(
        first[_drawings(len(first), seed=0)], axis=1
    )
    spread = float(np.hypot(_half_range(first), _half_range(second)))
    return _ratio(float(np.median(second) / np.median(first)), drawn, spread)


def decide(block_ms: Mapping[str, Sequence[float]]) -> Verdict:
    """Who is fastest, if anybody, from each candidate's block medians, the k-th of all taken in the same turn.

    The first by median wins if it is told apart from every other: the difference to it is larger than the spread of the
    blocks' ratios and their 95 % interval leaves out 1 (`paired_ratio`). Fewer than MIN_BLOCKS blocks never do.
    """
    order = sorted(block_ms, key=lambda label: float(np.median(block_ms[label])))
    if len(order) < 2:
        return Verdict(None, "no winner: there is nothing to compare with", {})
    best, *others = order
    ratios = {label: paired_ratio(block_ms[best], block_ms[label]) for label in others}
    blocks = len(block_ms[best])
    if blocks < MIN_BLOCKS:
        return Verdict(
            None, f"no winner: {blocks} blocks of calls are too few to tell, {MIN_BLOCKS} are needed", ratios
        )
    for label, ratio in ratios.items():
        if not ratio.told_apart:
            difference, spread = 100 * abs(ratio.value - 1), 100 * ratio.spread
            return Verdict(
                None,
                f"no winner: {best} and {label} differ by {difference:.1f} %, their spread is {spread:.1f} %",
                ratios,
            )
    second, ratio = next(iter(ratios.items()))
    return Verdict(
        best,
        f"fastest: {best}; {second} takes {ratio.value:.2f} times as long "
        f"({ratio.low:.2f} to {ratio.high:.2f}, spread {100 * ratio.spread:.1f} %)",
        ratios,
    )


def outlier_share(samples: Sequence[float]) -> float:
    """The share of samples above the median by more than 8 sigma, sigma taken from the median absolute deviation.

    A deviation below one per cent of the median counts as one: timers and caches alone are not quieter.
    """
    values = np.asarray(samples, np.float64)
    middle = float(np.median(values))
    sigma = max(_MAD_TO_SIGMA * float(np.median(np.abs(values - middle))), 0.01 * middle)
    return float((values > middle + _OUTLIER_MADS * sigma).mean())


def slowed_down(samples: Sequence[float]) -> float | None:
    """The last third's median over the first third's, where the machine got slower; None where it did not.

    Slower is more than 5 %, with three quarters of the last third above the first third's median by as much: a few slow
    calls at the end are outliers. Needs 30 samples, in the order they were taken.
    """
    if len(samples) < _MIN_SAMPLES:
        return None
    third = len(samples) // 3
    first = float(np.median(samples[:third]))
    quarter, last = (float(v) for v in np.percentile(samples[-third:], (25, 50)))
    return last / first if first > 0 and quarter > _THROTTLED * first else None


def sample_warnings(name: str, samples: Sequence[float]) -> list[str]:
    """Sentences about samples that are not what percentiles make of them."""
    told = []
    share = outlier_share(samples)
    if share > _MAX_OUTLIERS:
        told.append(
            f"{name}: {100 * share:.0f} % of the calls are outliers, something else uses this machine"
        )
    slower = slowed_down(samples)
    if slower is not None:
        told.append(f"{name}: got {100 * (slower - 1):.0f} % slower from first to last third: throttled?")
    return told


def block_medians(samples: Sequence[float], blocks: int = BLOCKS) -> list[float]:
    """Medians of `samples` in the order they were taken, in as many near-equal blocks, at most one a sample."""
    parts = np.array_split(np.asarray(samples, np.float64), min(blocks, len(samples)))
    return [float(np.median(part)) for part in parts]


def _ratio(value: float, drawn: NDArray[np.float64], spread: float) -> Ratio:
    low, high = (float(v) for v in np.percentile(drawn, (2.5, 97.5)))
    return Ratio(value, low, high, spread)


def _half_range(values: NDArray[np.float64]) -> float:
    low, middle, high = (float(v) for v in np.percentile(values, (10, 50, 90)))
    return (high - low) / 2 / middle


def _drawings(count: int, *, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, (_RESAMPLES, count))
