"""Which channels of a functional Keras model belong together, found by following each channel through the graph.

Every channel of every tensor carries an identity. Convolutions and dense layers make new ones, element-wise operations
join those that meet, concatenation lists them side by side, flattening repeats them. What is joined can only be removed
together. Idea: dependency graphs, as in DepGraph (Fang et al. 2023); the identities make it exact for any wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import PassError

Ids = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class WeightedLayer:
    """A layer whose weights shrink: channel identities at its input and output, and multiplications per pair of them.

    kind: "dense" has a kernel (..., in, out) and makes new channels; "depthwise" and "norm" pass theirs on.
    macs: multiply-accumulates for one (in, out) pair ("dense") or one channel ("depthwise"), one picture.
    """

    layer: Any
    kind: str
    in_ids: Ids
    out_ids: Ids
    macs: int


@dataclass
class ChannelGraph:
    """Identities joined into classes, the layers that use them, and what cannot be removed.

    blocked: layers that stopped channels from being removed, name to class. fixed_macs: multiplications of weighted
    layers that are not followed (grouped, shared, transposed).
    """

    layers: list[WeightedLayer] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    fixed_macs: int = 0
    _parents: list[int] = field(default_factory=list)
    _fixed: set[int] = field(default_factory=set)

    def new_ids(self, count: int, *, fixed: bool = False) -> Ids:
        ids = np.arange(len(self._parents), len(self._parents) + count, dtype=np.intp)
        self._parents.extend(int(i) for i in ids)
        if fixed:
            self.fix(ids)
        return ids

    def root(self, channel: int) -> int:
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel

    def roots(self, ids: Ids) -> Ids:
        return np.array([self.root(int(i)) for i in ids], np.intp)

    def kept(self, ids: Ids, removed: frozenset[int]) -> Ids:
        """Positions in `ids` of channels whose class is not in `removed`."""
        return np.flatnonzero([int(r) not in removed for r in self.roots(ids)])

    def join(self, a: Ids, b: Ids) -> None:
        for x, y in zip(a, b, strict=True):
            first, second = sorted((self.root(int(x)), self.root(int(y))))
            if first != second:
                self._parents[second] = first

    def fix(self, ids: Ids) -> None:
        self._fixed.update(int(i) for i in ids)

    def fixed_roots(self) -> set[int]:
        return {self.root(i) for i in self._fixed}

    def components(self) -> list[Ids]:
        """Removable classes (roots), grouped: classes that leave one layer side by side are one component."""
        fixed = self.fixed_roots()
        groups: list[set[int]] = []
        for layer in self.layers:
            if layer.kind != "dense":
                continue
            made = {int(r) for r in self.roots(layer.out_ids)}
            touching = [g for g in groups if g & made]
            groups = [g for g in groups if not g & made]
            groups.append(made.union(*touching))
        free = [np.array(sorted(g - fixed), np.intp) for g in groups if not g & fixed]
        return [g for g in free if len(g)]


def follow_channels(model: Any) -> ChannelGraph:
    """Build the graph of a functional Keras model. Unknown layers keep all their channels and are named in `blocked`.

    Raises PassError for a model that is not functional or has its channels first.
    """
    if not hasattr(model, "_nodes_by_depth"):
        raise PassError(f"a functional Keras model is needed, this is a {type(model).__name__}")
    first = next(
        (la.name for la in model.layers if getattr(la, "data_format", None) == "channels_first"), None
    )
    if first is not None:
        raise PassError(
            f"layer {first!r} has its channels first", next_step="build the network channels_last"
        )
    graph = ChannelGraph()
    known: dict[int, Ids] = {}
    depths = model._nodes_by_depth
    for depth in sorted(depths, reverse=True):
        for node in depths[depth]:
            inputs = [known[id(t)] for t in node.arguments.keras_tensors]
            tensors = list(node.arguments.keras_tensors)
            handle = _HANDLERS.get(type(node.operation).__name__, _unknown)
            ids = handle(graph, node.operation, inputs, tensors, node.outputs[0])
            for output in node.outputs:
                known[id(output)] = ids
    for output in model.outputs:
        graph.fix(known[id(output)])
    return graph


def _area(tensor: Any) -> int:
    return int(np.prod([d for d in tensor.shape[1:-1] if d] or [1]))


def _input(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    return graph.new_ids(int(output.shape[-1]), fixed=True)


def _dense(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    if getattr(layer, "groups", 1) != 1 or any(seen.layer is layer for seen in graph.layers):
        return _unknown(graph, layer, inputs, tensors, output)
    kernel = layer.kernel.shape
    # an activation that mixes channels, as softmax does, is no element-wise one: all of its channels stay
    out_ids = graph.new_ids(int(kernel[-1]), fixed=_mixes(layer))
    graph.layers.append(
        WeightedLayer(layer, "dense", inputs[0], out_ids, _area(output) * int(np.prod(kernel[:-2])))
    )
    return out_ids


def _depthwise(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    if layer.depth_multiplier != 1 or _mixes(layer) or any(seen.layer is layer for seen in graph.layers):
        return _unknown(graph, layer, inputs, tensors, output)
    macs = _area(output) * int(np.prod(layer.kernel.shape[:2]))
    graph.layers.append(WeightedLayer(layer, "depthwise", inputs[0], inputs[0], macs))
    return inputs[0]


def _norm(graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any) -> Ids:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if axis not in (-1, len(output.shape) - 1) or any(seen.layer is layer for seen in graph.layers):
        return _unknown(graph, layer, inputs, tensors, output)
    graph.layers.append(WeightedLayer(layer, "norm", inputs[0], inputs[0], 0))
    return inputs[0]


def _rescaling(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    # one scale a channel is a constant of the layer that would have to shrink too
    plain = np.ndim(layer.scale) == 0 and np.ndim(layer.offset) == 0
    return inputs[0] if plain else _unknown(graph, layer, inputs, tensors, output)


def _pass_on(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    return inputs[0]


def _activation(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    return _unknown(graph, layer, inputs, tensors, output) if _mixes(layer) else inputs[0]


def _mixes(layer: Any) -> bool:
    """Whether the layer's activation looks at all channels together: removing one would change the others."""
    return "softmax" in str(getattr(layer.activation, "__name__", layer.activation))


def _elementwise(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    widest = max(inputs, key=len)
    for ids in inputs:
        if len(ids) == len(widest):
            graph.join(widest, ids)
        elif len(ids) == 1:
            graph.fix(ids)  # broadcast over all channels: must stay one
        else:
            return _unknown(graph, layer, inputs, tensors, output)
    return widest


def _concatenate(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    if layer.axis in (-1, len(output.shape) - 1):
        return np.concatenate(inputs)
    for ids in inputs[1:]:
        graph.join(inputs[0], ids)
    return inputs[0]


def _flatten(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    return np.tile(inputs[0], _area(tensors[0]))


def _reshape(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    # the target shape is a constant of the layer: channels may only shrink where the last axis is inferred from it
    channels, last = len(inputs[0]), output.shape[-1]
    if layer.target_shape[-1] == -1 and last is not None and last % channels == 0:
        return np.tile(inputs[0], last // channels)
    return _unknown(graph, layer, inputs, tensors, output)


def _unknown(
    graph: ChannelGraph, layer: Any, inputs: Sequence[Ids], tensors: Sequence[Any], output: Any
) -> Ids:
    graph.fixed_macs += _macs_of(layer, tensors, output)
    from_channels = [ids for ids in inputs if not set(graph.roots(ids).tolist()) <= graph.fixed_roots()]
    if from_channels:
        graph.blocked[layer.name] = type(layer).__name__
    for ids in inputs:
        graph.fix(ids)
    return graph.new_ids(int(output.shape[-1] or 1), fixed=True)


def _macs_of(layer: Any, inputs: Sequence[Any], output: Any) -> int:
    """Multiplications of one call of a weighted layer that is not followed, 0 for what has no weights."""
    kind = type(layer).__name__
    if kind in _RECURRENT:  # every matrix (of both directions) once a step
        return int(inputs[0].shape[1] or 1) * _matrices(layer)
    if kind == "MultiHeadAttention":  # the projections, and each position against each other one, twice
        keys, positions = int(inputs[-1].shape[1] or 1), int(output.shape[1] or 1)
        against = positions * keys * layer.num_heads * (layer.key_dim + layer.value_dim)
        return positions * _matrices(layer) + int(against)
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return 0
    if kind == "Conv2DTranspose":  # its kernel is laid at every cell of the input
        strides = int(np.prod(layer.strides))
        return _area(output) // strides * int(np.prod(kernel.shape))
    return _area(output) * int(np.prod(kernel.shape))


_RECURRENT = ("SimpleRNN", "GRU", "LSTM", "Bidirectional")


def _matrices(layer: Any) -> int:
    """Weights that multiply what the layer reads or remembers: all but the biases."""
    named = ((w.name, w.shape) for w in layer.weights)
    return sum(int(np.prod(shape)) for name, shape in named if "bias" not in name and len(shape) > 1)


Handler = Callable[[ChannelGraph, Any, Sequence[Ids], Sequence[Any], Any], Ids]
_HANDLERS: dict[str, Handler] = {
    "InputLayer": _input,
    "Conv1D": _dense,
    "Conv2D": _dense,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _norm,
    "Activation": _activation,
    "ReLU": _pass_on,
    "LeakyReLU": _pass_on,
    "Dropout": _pass_on,
    "SpatialDropout2D": _pass_on,
    "ZeroPadding2D": _pass_on,
    "Cropping2D": _pass_on,
    "MaxPooling2D": _pass_on,
    "AveragePooling2D": _pass_on,
    "GlobalAveragePooling2D": _pass_on,
    "GlobalMaxPooling2D": _pass_on,
    "UpSampling2D": _pass_on,
    "Rescaling": _rescaling,
    "Add": _elementwise,
    "Subtract": _elementwise,
    "Multiply": _elementwise,
    "Average": _elementwise,
    "Maximum": _elementwise,
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
}
