"""Which layers int8 hurts most, and the fewest of them to leave in float so that a figure holds.

A layer's harm is the noise at the network's outputs when it alone is int8. (What leaving it alone in float wins says less:
where two layers share a tensor that int8 cannot resolve, neither wins without the other.) From the most harmful on, layers
are left in float, twice as many at each try, and the last step back is halved until the fewest are found that hold: some ten
measurements for a hundred layers instead of one a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from compress.quantize.graph import Step, TFLiteGraph
from compress.quantize.linear import linear_steps
from compress.quantize.observe import Floats, Observer, Sample, bar_where

Build = Callable[[tuple[str, ...]], bytes]
_SMALL = 1e-12


@dataclass(frozen=True, slots=True)
class Sensitive:
    """A layer with what belongs to it. names: of the outputs that stay float with it, its own first. sqnr_db: signal to
    noise at the network's outputs when it alone is int8. weight_bytes: of its weights in float32.
    """

    names: tuple[str, ...]
    sqnr_db: float
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """kept: layers left in float. holds: whether the figure did."""

    kept: int
    holds: bool


def rank_sensitive(
    floats: bytes, build: Build, samples: Sequence[Sample], *, progress: bool = False
) -> list[Sensitive]:
    """Every layer with weights, the most harmful first.

    floats: a float32 TFLite model. build: the int8 model of it in which operations with the named outputs stay float.
    samples: a few inputs (1, ...).
    """
    graph = TFLiteGraph(floats)
    truth = _told(floats, samples)
    everything = dict.fromkeys(graph.name(t) for step in graph.steps for t in step.outputs)
    found = []
    layers = linear_steps(graph)
    with bar_where(progress, "sensitivity", len(layers)) as advance:
        for layer in layers:
            names = tuple(graph.name(t) for t in _unit(graph, layer.step))
            others = tuple(name for name in everything if name not in names)
            noise = _noise(truth, build(others), samples)
            size = 4 * int(np.prod(graph.shape(layer.weights)))
            found.append(Sensitive(names, -10 * float(np.log10(noise)), size))
            advance(1)
    return sorted(found, key=lambda one: one.sqnr_db)


def fewest_kept(
    ranked: Sequence[Sensitive], holds: Callable[[tuple[str, ...]], bool], *, most: int | None = None
) -> tuple[tuple[str, ...] | None, list[Trial]]:
    """(names to keep in float so that `holds` of them, what was tried); None where it does not hold with `most` layers.

    holds: of the names of outputs that stay float; of none it was asked before. most: layers, all where not given.
    """
    trials: list[Trial] = []

    def tried(count: int) -> bool:
        held = holds(_names(ranked[:count]))
        trials.append(Trial(count, held))
        return held

    limit = len(ranked) if most is None else min(most, len(ranked))
    low, high = 0, min(1, limit)
    while high == 0 or not tried(high):
        if high == limit:
            return None, trials
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tried(middle) else (middle, high)
    return _names(ranked[:high]), trials


def _names(layers: Sequence[Sensitive]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for layer in layers for name in layer.names))


def _unit(graph: TFLiteGraph, step: Step) -> list[int]:
    """The layer's output, and those of operations without weights that are made of nothing else: an activation function's."""
    unit = list(step.outputs)
    for later in graph.steps[step.number + 1 :]:
        computed = [t for t in later.inputs if t in graph.maker]
        if later.weighted is None and computed and set(computed) <= set(unit):
            unit += later.outputs
    return unit


def _told(content: bytes, samples: Sequence[Sample]) -> list[Floats]:
    """Each output over all samples."""
    observer, graph = Observer(content), TFLiteGraph(content)
    told: list[list[Floats]] = [[] for _ in graph.outputs]
    for sample in samples:
        observer.run(sample)
        for values, tensor in zip(told, graph.outputs, strict=True):
            values.append(observer.value(tensor).ravel())
    return [np.concatenate(values) for values in told]


def _noise(truth: list[Floats], content: bytes, samples: Sequence[Sample]) -> float:
    """Squared error over variance, the mean of all outputs: each counts alike."""
    told = _told(content, samples)
    shares = [
        float(np.mean((a - b) ** 2) / max(float(np.var(a)), _SMALL)) for a, b in zip(truth, told, strict=True)
    ]
    return max(float(np.mean(shares)), _SMALL)
