"""Cross-layer equalization: channels of unlike size are scaled alike, and the next layer scaled back.

Where an integer step is shared by a whole tensor, a channel a hundred times smaller than its neighbour is left with one or
two levels. Between two layers with nothing but homogeneous operations (f(s x) = s f(x) for s > 0: none, ReLU, pooling) a
channel may be divided by any s > 0 and the next layer's weights for it multiplied: the network says the same. s makes both
ranges their geometric mean (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import WEIGHT_AXIS, Step, TFLiteGraph, along
from compress.quantize.linear import LinearStep, linear_steps, parameters

SWEEPS = 40
ENOUGH = 1e-3  # of the logarithm of a scale: nothing moves any more
_HOMOGENEOUS = frozenset({"RELU", "LEAKY_RELU", "PRELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "MEAN"})
_NONE, _RELU = 0, 1  # schema.ActivationFunctionType


@dataclass(frozen=True, slots=True)
class _Pair:
    first: LinearStep
    second: LinearStep


def equalize(flatbuffer: bytes) -> tuple[bytes, int]:
    """(a float32 TFLite model that says the same with channels of like size, how many pairs of layers were scaled)."""
    graph = TFLiteGraph(flatbuffer)
    pairs = _pairs(graph)
    for _ in range(SWEEPS):
        if max((_scale(graph, pair) for pair in pairs), default=0.0) < ENOUGH:
            break
    return (graph.to_bytes() if pairs else flatbuffer), len(pairs)


def _pairs(graph: TFLiteGraph) -> list[_Pair]:
    by_number = {linear.step.number: linear for linear in linear_steps(graph)}
    pairs = []
    for first in by_number.values():
        follower = _follower(graph, first.step)
        second = by_number.get(follower.number) if follower is not None else None
        if second is None or not all(_alone(graph, linear) for linear in (first, second)):
            continue
        if _inputs_of(graph, second) == graph.shape(first.output)[-1]:
            pairs.append(_Pair(first, second))
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


def _scale(graph: TFLiteGraph, pair: _Pair) -> float:
    """Bring one pair's ranges together; the largest change, as the logarithm of its scale."""
    before, biases = parameters(graph, pair.first)
    after, _ = parameters(graph, pair.second)
    axis = WEIGHT_AXIS[pair.first.step.kind]
    ones = _largest(before, axis)
    others = _largest(after, after.ndim - 1)
    scale = np.ones_like(ones)
    live = (ones > 0) & (others > 0)
    scale[live] = np.sqrt(ones[live] / others[live])
    graph.set_constant(pair.first.weights, before / along(scale, before.ndim, axis))
    if biases is not None:
        graph.set_constant(pair.first.biases, biases / scale)
    graph.set_constant(pair.second.weights, after * scale)  # its inputs are its last axis
    return float(np.abs(np.log(scale)).max())


def _largest(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    others = tuple(i for i in range(weights.ndim) if i != axis)
    return np.asarray(np.abs(weights).max(others), np.float32)
