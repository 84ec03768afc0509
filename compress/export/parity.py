"""Whether an exported file says what the file that it was made of says, on the same held-out examples.

Classes: the same label comes first for 99 of 100 examples; anything else: the metric is within half a point, or within what one
object more or less makes of it where there are few. What chance explains on so few examples is let through and told; for what
it does not, the first layer where the two files part is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.export.onnx_qdq import traced_qdq
from compress.measure.metric import group_numbers
from compress.measure.pairs import paired_difference
from compress.measure.scored import Scored
from compress.measure.scored_classes import ScoredClasses
from compress.quantize.check import decibels
from compress.quantize.dequantize import dequantize
from compress.quantize.graph import TFLiteGraph
from compress.quantize.observe import Observer, Sample
from edgeai.engines.onnx import open_session

AGREEMENT, DIFFERENCE = 0.99, 0.005
CHANCE = 0.05  # rarer than this is not believed to be chance
PARTED_DB = 12.0  # int8 with symmetric ranges against int8 without: 20 to 40 dB where all is well


@dataclass(frozen=True, slots=True)
class Parity:
    """figure: what is compared. value: share of agreement, or difference of the metric. holds: whether it is within the
    limit, or further off than chance alone makes it on n examples.
    """

    figure: str
    value: float
    holds: bool
    n: int
    unit: str

    def __str__(self) -> str:
        return f"{self.figure} {self.value:+.4f} on {self.n} {self.unit}".replace("agreement +", "agreement ")


def compare_scored(source: Scored, made: Scored, *, max_apart: float | None = None) -> Parity:
    """source, made: what the two files say of the same examples. max_apart: another limit than AGREEMENT and DIFFERENCE set."""
    n = len(source)
    most_apart = 1 - AGREEMENT if max_apart is None else max_apart
    if isinstance(source, ScoredClasses) and isinstance(made, ScoredClasses):
        apart = int(np.sum(source.scores.argmax(1) != made.scores.argmax(1)))
        holds = apart <= most_apart * n or _at_least(apart, n, most_apart) > CHANCE
        return Parity("top-1 agreement", 1 - apart / n, holds, n, source.unit)
    gap = paired_difference(n, source.value, made.value, groups=group_numbers(source.groups))
    objects = sum(source.wanted(k) for k in range(len(source.labels)))
    limit = max(DIFFERENCE if max_apart is None else max_apart, 1 / objects if objects else 0.0)
    holds = abs(gap.value) <= limit or not gap.seen
    return Parity(f"difference of {source.metric().name}", gap.value, holds, n, source.unit)


def _at_least(count: int, n: int, p: float) -> float:
    """The chance of `count` or more of n, each with chance p."""
    below = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(count))
    return max(0.0, 1 - below)


def first_parting(integer: bytes, samples: Sequence[Sample]) -> str:
    """The first layer whose values in the Q/DQ export are not those of the int8 TFLite file, with how far they are off; ""
    where none is.

    samples: inputs (1, ...) of a network with one input.
    """
    import onnxruntime

    content, traced = traced_qdq(integer)
    plain = dequantize(integer).flatbuffer
    graph, observer = TFLiteGraph(plain), Observer(plain)
    numbers = {graph.name(tensor): tensor for tensor in graph.activations()}
    session = open_session(onnxruntime, content)
    given = session.get_inputs()[0]
    wanted = {real: numbers[name] for real, name in traced.items() if name in numbers}
    sums = {real: np.zeros(2) for real in wanted}
    for sample in samples:
        values = next(iter(sample.values())) if isinstance(sample, dict) else sample
        observer.run(sample)
        for real, told in zip(wanted, session.run(list(wanted), {given.name: values}), strict=True):
            truth = observer.value(wanted[real])
            if told.size != truth.size:
                continue
            ours = (
                np.moveaxis(told, 1, -1)
                if told.ndim == truth.ndim > 2 and told.shape != truth.shape
                else told
            )
            sums[real] += np.sum(truth**2), np.sum((truth - ours.reshape(truth.shape)) ** 2)
    for real, (signal, noise) in sums.items():
        if signal > 0 and decibels(signal, noise) < PARTED_DB:
            return f"{graph.name(wanted[real])} ({decibels(signal, noise):.1f} dB)"
    return ""


def parity_json(parity: Parity) -> dict[str, Any]:
    return {
        "figure": parity.figure,
        "value": round(parity.value, 4),
        "n": parity.n,
        "unit": parity.unit,
    }
