"""Cross-layer equalization: channels of unlike size are scaled alike, and the next layer scaled back.

Where an integer step is shared by a whole tensor, a channel a hundred times smaller than its neighbour is left with one or
two levels. Between two layers with nothing but homogeneous operations (f(s x) = s f(x) for s > 0: none, ReLU, pooling) a
channel may be divided by any s > 0 and the next layer's weights for it multiplied: the network says the same. s makes both
ranges their geometric mean (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import WEIGHT_AXIS, Step, TFLiteGraph, along
from compress.quantize.linear import LinearStep, linear_steps, parameters

Floats = NDArray[np.float32]
SWEEPS = 40
ENOUGH = 1e-3  # of the logarithm of a scale: nothing moves any more
_HOMOGENEOUS = frozenset({"RELU", "LEAKY_RELU", "PRELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "MEAN"})
_NONE, _RELU = 0, 1  # schema.ActivationFunctionType


class Pair(Protocol):
    """Two layers between which a channel may be scaled."""

    def largest(self) -> tuple[Floats, Floats]:
        """Of each channel in between: the largest weight that makes it, and the largest that reads it."""

    def divide(self, scale: Floats) -> None:
        """What makes a channel by its scale; what reads it is multiplied."""


def balance(pairs: Sequence[Pair]) -> None:
    """Bring the ranges of all pairs together: layers are in several, so again and again until nothing moves."""
    for _ in range(SWEEPS):
        if max((_bring_together(pair) for pair in pairs), default=0.0) < ENOUGH:
            break


def _bring_together(pair: Pair) -> float:
    """The largest change of one pair, as the logarithm of its scale."""
    ones, others = pair.largest()
    scale = np.ones_like(ones)
    live = (ones > 0) & (others > 0)
    scale[live] = np.sqrt(ones[live] / others[live])
    pair.divide(scale)
    return float(np.abs(np.log(scale)).max())


def largest_along(weights: Floats, axis: int) -> Floats:
    """The largest magnitude at each place of `axis`."""
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    return np.asarray(np.abs(weights).max(others), np.float32)


def equalize(flatbuffer: bytes) -> tuple[bytes, int]:
    """(a float32 TFLite model that says the same with channels of like size, how many pairs of layers were scaled)."""
    graph = TFLiteGraph(flatbuffer)
    pairs = _pairs(graph)
    balance(pairs)
    return (graph.to_bytes() if pairs else flatbuffer), len(pairs)


@dataclass(frozen=True, slots=True)
class _Steps:
    """A pair in a TFLite graph."""

    graph: TFLiteGraph
    first: LinearStep
    second: LinearStep

    def largest(self) -> tuple[Floats, Floats]:
        before, _ = parameters(self.graph, self.first)
        after, _ = parameters(self.graph, self.second)
        return largest_along(before, WEIGHT_AXIS[self.first.step.kind]), largest_along(after, -1)

    def divide(self, scale: Floats) -> None:
        before, biases = parameters(self.graph, self.first)
        after, _ = parameters(self.graph, self.second)
        axis = WEIGHT_AXIS[self.first.step.kind]
        self.graph.set_constant(self.first.weights, before / along(scale, before.ndim, axis))
        if biases is not None:
            self.graph.set_constant(self.first.biases, biases / scale)
        self.graph.set_constant(self.second.weights, after * scale)  # its inputs are its last axis


def _pairs(graph: TFLiteGraph) -> list[_Steps]:
    by_number = {linear.step.number: linear for linear in linear_steps(graph)}
    pairs = []
    for first in by_number.values():
        follower = _follower(graph, first.step)
        second = by_number.get(follower.number) if follower is not None else None
        if second is None or not all(_alone(graph, linear) for linear in (first, second)):
            continue
        if _inputs_of(graph, second) == graph.shape(first.output)[-1]:
            pairs.append(_Steps(graph, first, second))
    return pairs


def _follower(graph: TFLiteGraph, step: Step) -> Step | None:
    """The one operation that reads `step`'s output, past homogeneous ones; None where there are several or an obstacle."""
    while True:
        if getattr(step.options, "fusedActivationFunction", _NONE) not in (_NONE, _RELU):
            return None
        (tensor,) = step.outputs
        readers = graph.readers.get(tensor, [])
        if tensor in graph.outputs or len(readers) != 1 or readers[0].inputs[0] != tensor:
            return None
        (step,) = readers
        if step.weighted is not None:
            return step
        if step.kind not in _HOMOGENEOUS or not _keeps_channels(graph, step):
            return None


def _keeps_channels(graph: TFLiteGraph, step: Step) -> bool:
    before, after = graph.shape(step.inputs[0]), graph.shape(step.outputs[0])
    if step.kind != "MEAN":
        return bool(before) and before[-1] == after[-1]
    axes = graph.constant(step.inputs[1])
    return axes is not None and all(int(axis) % len(before) != len(before) - 1 for axis in axes.ravel())


def _alone(graph: TFLiteGraph, linear: LinearStep) -> bool:
    """Whether nothing else reads its constants."""
    return all(len(graph.readers[t]) == 1 for t in (linear.weights, linear.biases) if t >= 0)


def _inputs_of(graph: TFLiteGraph, linear: LinearStep) -> int:
    """Channels that its weights can be scaled by; 0 where they cannot."""
    shape = graph.shape(linear.weights)
    if linear.step.kind == "DEPTHWISE_CONV_2D":
        return linear.groups if shape[3] == linear.groups else 0
    return shape[-1] if linear.groups == 1 else 0
