"""Cross-layer equalization of Keras layers, for a network that is going to learn to round (compress.quantize.equalize)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.groups.wiring import Call, open_wiring, readers_of
from compress.quantize.aware.fold import activation_name, is_weighted
from compress.quantize.equalize import Floats, balance, largest_along
from compress.quantize.graph import along

# f(s x) = s f(x) for s > 0, channel by channel
_HOMOGENEOUS = frozenset({
    "AveragePooling1D", "AveragePooling2D", "Cropping1D", "Cropping2D", "Dropout", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Identity", "LeakyReLU", "MaxPooling1D",
    "MaxPooling2D", "PReLU", "Relu", "SpatialDropout1D", "SpatialDropout2D", "UpSampling1D", "ZeroPadding1D", "ZeroPadding2D",
})  # fmt: skip


def equalize_layers(network: Any) -> int:
    """Scale the channels of a functional model in place, batch norms folded before: it says the same. How many pairs of
    layers were scaled. Raises PassError for a network that is not functional.
    """
    import keras

    wiring = open_wiring(network)
    times = Counter(call.name for call in wiring.calls)
    ends = {id(tensor) for tensor in keras.tree.flatten(wiring.outputs)}
    readers = readers_of(wiring)

    def follower(call: Call) -> Call | None:
        """The one layer with weights that reads a call's output, past what is homogeneous."""
        if activation_name(call.op) not in ("linear", "relu"):
            return None
        while id(call.outputs[0]) not in ends and len(readers.get(id(call.outputs[0]), [])) == 1:
            (call,) = readers[id(call.outputs[0])]
            if is_weighted(call.op):
                return call
            if not is_homogeneous(call.op):
                return None
        return None

    pairs = []
    for call in wiring.calls:
        made = made_axis(call.op)
        second = follower(call) if made is not None and times[call.name] == 1 else None
        read = None if second is None or times[second.name] > 1 else read_axis(second.op)
        if made is not None and second is not None and read is not None:
            pairs.append(_Layers(call.op, made, second.op, read))
    balance(pairs)
    return len(pairs)


@dataclass(frozen=True)
class _Layers:
    """A pair of layers, and the axis of the channels between them in either's kernel."""

    first: Any
    made: int
    second: Any
    read: int

    def largest(self) -> tuple[Floats, Floats]:
        return largest_along(_kernel(self.first), self.made), largest_along(_kernel(self.second), self.read)

    def divide(self, scale: Floats) -> None:
        before, after = _kernel(self.first), _kernel(self.second)
        self.first.weights[0].assign(before / along(scale, before.ndim, self.made))
        if self.first.use_bias:
            self.first.bias.assign(self.first.bias.numpy() / scale)
        self.second.weights[0].assign(after * along(scale, after.ndim, self.read))


def _kernel(layer: Any) -> Floats:
    return np.asarray(layer.weights[0].numpy(), np.float32)


def made_axis(layer: Any) -> int | None:
    """The axis of the output channels in a layer's kernel; None for layers that are not looked at."""
    import keras

    layers = keras.layers
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return -2 if layer.depth_multiplier == 1 else None
    if isinstance(layer, layers.Conv2DTranspose):
        return -2
    return -1 if type(layer) in (layers.Conv1D, layers.Conv2D, layers.Dense) else None


def read_axis(layer: Any) -> int | None:
    """The axis of the input channels in a layer's kernel; None where there is none of them all."""
    import keras

    if made_axis(layer) is None or getattr(layer, "groups", 1) != 1:
        return None
    return -1 if isinstance(layer, keras.layers.Conv2DTranspose) else -2


def is_homogeneous(op: Any) -> bool:
    """Whether f(s x) = s f(x) for s > 0, channel by channel."""
    kind = type(op).__name__
    if kind == "Activation":
        return activation_name(op) in ("linear", "relu")
    if kind == "ReLU":
        return op.max_value is None and not op.threshold
    return kind in _HOMOGENEOUS
