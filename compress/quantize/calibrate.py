"""The range of each tensor that int8 shall resolve: from what calibration inputs make of it, by one of four rules.

min-max takes all that was seen. The others cut what is rare for finer steps for the rest: percentile at a fixed share of the
values, mse where the mean squared error of rounding and cutting is least, entropy where the rounded distribution tells
least from the real one (Kullback-Leibler, as in Migacz 2017, "8-bit inference with TensorRT").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import TFLiteGraph
from compress.quantize.observe import Floats, Observer, Sample, bar_where
from compress.quantize.settings import CalibrationRule
from edgeai.errors import PassError

Range = tuple[float, float]
Counts = NDArray[np.float64]
Key = TypeVar("Key")
Key_contra = TypeVar("Key_contra", contravariant=True)
BINS = 2048
LEVELS = 256
PERCENTILE = 99.99
# kernels clamp what overflows to float32's largest
_INFINITE = float(np.finfo(np.float32).max)
# shares of each end that a cut may leave; finer where cuts usually are
_CUTS = np.concatenate([np.linspace(0.02, 0.5, 25), np.linspace(0.51, 1.0, 50)])


@dataclass(frozen=True)
class Histogram:
    """counts: (BINS,) values in equal bins from low to high, without those that are 0: any range resolves these exactly."""

    low: float
    high: float
    counts: Counts

    @property
    def centres(self) -> Counts:
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2, np.float64)


def calibrate(
    flatbuffer: bytes,
    samples: Sequence[Sample],
    rule: CalibrationRule = "min-max",
    *,
    progress: bool = False,
) -> dict[int, Range]:
    """The range of every activation of a float32 TFLite model, by tensor number; each holds 0, which padding needs.

    samples: inputs (1, ...) of training data, through the device's pre-processing; at least one. progress: show a bar. Raises
    PassError where a tensor becomes NaN or infinite.

    The converter's own calibration is not used: it looks at tensors after the whole model has run, when an addition has
    already written its sum over one of its inputs (LiteRT adds in place), and took 1.3 to 1.8 times the range for the
    convolutions before residual additions.
    """
    graph = TFLiteGraph(flatbuffer)
    return find_ranges(
        Observer(flatbuffer), graph.activations(), samples, rule, name=graph.name, progress=progress
    )


class Watched(Protocol[Key_contra]):
    """A network whose tensors can be looked at, after each input that it is run on."""

    def run(self, sample: Sample) -> None: ...
    def value(self, tensor: Key_contra, /) -> Floats: ...


def find_ranges(
    network: Watched[Key],
    tensors: Sequence[Key],
    samples: Sequence[Sample],
    rule: CalibrationRule,
    *,
    name: Callable[[Key], str],
    progress: bool = False,
) -> dict[Key, Range]:
    """calibrate() for anything whose tensors can be looked at. name: of a tensor, for messages."""
    rounds = 1 if rule == "min-max" else 2
    with bar_where(progress, "calibration", rounds * len(samples)) as advance:
        extremes = _extremes(network, tensors, samples, advance, name)
        if rule == "min-max":
            return extremes
        counts = {tensor: np.zeros(BINS) for tensor in tensors}
        for sample in samples:
            network.run(sample)
            for tensor in tensors:
                low, high = extremes[tensor]
                if high > low:
                    values = network.value(tensor)
                    counts[tensor] += np.histogram(values[values != 0], BINS, (low, high))[0]
            advance(1)
    choose = RULES[rule]
    return {
        tensor: _with_zero(choose(Histogram(*extremes[tensor], counts[tensor])))
        if extremes[tensor][1] > extremes[tensor][0]
        else extremes[tensor]
        for tensor in tensors
    }


def _extremes(
    network: Watched[Key],
    tensors: Sequence[Key],
    samples: Iterable[Sample],
    advance: Callable[[int], None],
    name: Callable[[Key], str],
) -> dict[Key, Range]:
    seen: dict[Key, Range] = dict.fromkeys(tensors, (0.0, 0.0))
    for sample in samples:
        network.run(sample)
        for tensor in tensors:
            values = network.value(tensor)
            if not values.size:
                continue
            low, high = float(values.min()), float(values.max())
            if not max(-low, high) < _INFINITE:
                raise PassError(
                    f"calibration: tensor {name(tensor)!r} holds NaN or infinity",
                    next_step="check the network's weights and the calibration inputs",
                )
            seen[tensor] = min(seen[tensor][0], low), max(seen[tensor][1], high)
        advance(1)
    return seen


def _with_zero(found: Range) -> Range:
    return min(found[0], 0.0), max(found[1], 0.0)


# -- the rules


def percentile_range(histogram: Histogram, percentile: float = PERCENTILE) -> Range:
    """What leaves 100 - percentile of the values out at each end; an end at 0 stays, for nothing lies beyond it."""
    total = np.cumsum(histogram.counts)
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    share = (100 - percentile) / 100 * total[-1]
    low = edges[np.searchsorted(total, share, side="right")]
    high = edges[min(np.searchsorted(total, total[-1] - share, side="left") + 1, len(edges) - 1)]
    return float(min(low, 0.0)), float(max(high, 0.0))


def mse_range(histogram: Histogram) -> Range:
    """The range of least mean squared error: step ** 2 / 12 for what is inside, the squared distance for what is cut.

    >>> mse_range(Histogram(0.0, 6.0, np.ones(2048)))  # nothing is rare: nothing is cut
    (0.0, 6.0)
    """
    x, n = histogram.centres, histogram.counts
    below = _cut_costs(x, n, -1, _candidates(histogram.low))
    above = _cut_costs(x, n, 1, _candidates(histogram.high))
    lows, highs = _candidates(histogram.low), _candidates(histogram.high)
    total = n.sum()
    steps = (highs[None] - lows[:, None]) / (LEVELS - 1)
    cost = below[:, None] + above[None] + total * steps**2 / 12
    low, high = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return float(lows[low]), float(highs[high])


def _candidates(end: float) -> Counts:
    return end * _CUTS if end else np.zeros(1)


def _cut_costs(x: Counts, n: Counts, sign: int, ends: Counts) -> Counts:
    """What cutting at each of `ends` costs: sum of n (x - end) ** 2 over what lies beyond."""
    beyond = np.maximum(sign * (x[None] - ends[:, None]), 0.0)
    return np.asarray((beyond**2) @ n)


def entropy_range(histogram: Histogram) -> Range:
    """The cut, of both ends by the same share, whose rounded distribution diverges least from the whole one."""
    best, found = np.inf, (histogram.low, histogram.high)
    x = histogram.centres
    for cut in _CUTS[_CUTS >= 0.1]:
        low, high = histogram.low * cut, histogram.high * cut
        inside = (x >= low) & (x <= high)
        if inside.sum() < LEVELS:  # fewer bins than levels: rounding would cost nothing
            continue
        divergence = _divergence(histogram.counts, inside)
        if divergence < best:
            best, found = divergence, (low, high)
    return float(found[0]), float(found[1])


def _divergence(counts: Counts, inside: NDArray[np.bool_]) -> float:
    """KL(P, Q): P has what is cut in its first and last bin, Q spreads each level's values over its bins that hold any."""
    at = np.flatnonzero(inside)
    kept = counts[at[0] : at[-1] + 1]
    p = kept.copy()
    p[0] += counts[: at[0]].sum()
    p[-1] += counts[at[-1] + 1 :].sum()
    level = np.arange(len(kept)) * LEVELS // len(kept)
    holds = kept > 0
    mass = np.bincount(level, kept, LEVELS)
    bins = np.bincount(level, holds, LEVELS)
    q = np.where(holds, mass[level] / np.maximum(bins[level], 1), 0.0)
    p, q = p / p.sum(), q / max(q.sum(), 1e-30)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))))


RULES: dict[str, Callable[[Histogram], Range]] = {
    "percentile": percentile_range,
    "mse": mse_range,
    "entropy": entropy_range,
}
