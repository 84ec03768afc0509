"""Batch norms folded into the layers before them: int8 kernels know none, so training has to see the folded weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.rebuild import rebuild_model
from compress.groups.wiring import Call, Wiring, open_wiring

Array = NDArray[np.float32]
# activations that int8 kernels take into the layer before them
FUSED_ACTIVATIONS = ("relu", "relu6")


def fold_norms(network: Any) -> Any:
    """The same function as in inference, flat: every batch norm that follows a convolution or dense layer of its own is in
    its weights, and activations that no kernel takes in are layers of their own.

    A batch norm anywhere else stays. Raises PassError for a network that is not functional.
    """
    wiring = open_wiring(network)
    pairs = _pairs(wiring)
    split: dict[str, Any] = {}
    folded = {pair.call.name for pair in pairs}

    def change_config(call: Call, config: dict[str, Any]) -> None:
        if call.name in folded:
            config["use_bias"] = True
        if is_weighted(call.op) and activation_name(call.op) not in ("linear", *FUSED_ACTIVATIONS):
            split[call.name] = config["activation"]
            config["activation"] = "linear"

    def change_tensor(call: Call | None, tensor: Any) -> Any:
        import keras

        if call is None or call.name not in split:
            return tensor
        return keras.layers.Activation(split[call.name], name=f"{call.name}_activation_{call.number}")(tensor)

    return rebuild_model(
        network,
        wiring,
        change_config=change_config,
        change_tensor=change_tensor,
        weights={pair.call.name: pair.weights() for pair in pairs},
        left_out={pair.norm.number for pair in pairs},
    )


def kernel_axes(layer: Any) -> dict[int, tuple[int, ...]]:
    """The axes of output channels of each kernel of a layer, by its index in `layer.weights`; none for other layers.

    A kernel has one scale for each place along them, or for all of it where there are none.
    """
    import keras

    layers = keras.layers
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return {0: (-2, -1), 1: (-1,)}
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return {0: (-2, -1)}
    if isinstance(layer, layers.Conv2DTranspose):
        return {0: (-2,)}
    if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Dense)):
        return {0: (-1,)}
    return {}


def is_weighted(layer: Any) -> bool:
    """Whether it is a convolution or dense layer as int8 kernels know them."""
    return bool(kernel_axes(layer))


def activation_name(layer: Any) -> str:
    """Of a layer's own activation, "linear" where it has none; "" for one without a name."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(getattr(activation, "__name__", ""))


@dataclass(frozen=True)
class _Pair:
    """A layer and the batch norm that reads it and nothing else."""

    call: Call
    norm: Call

    def weights(self) -> list[Array]:
        """The layer's, with the norm in them: the kernel times gamma / sqrt(variance + epsilon), by output channel."""
        norm = self.norm.op
        scale = 1 / np.sqrt(np.asarray(norm.moving_variance.numpy(), np.float64) + norm.epsilon)
        if norm.gamma is not None:
            scale *= norm.gamma.numpy()
        shift = 0.0 if norm.beta is None else norm.beta.numpy().astype(np.float64)
        layer = self.call.op
        arrays = [np.asarray(w.numpy(), np.float64) for w in layer.weights]
        kernels = kernel_axes(layer)
        biases = arrays.pop() if layer.use_bias else 0.0
        last = max(kernels)
        arrays[last] *= scale.reshape(_broadcast(arrays[last].shape, kernels[last]))
        biases = (biases - norm.moving_mean.numpy()) * scale + shift
        return [a.astype(np.float32) for a in (*arrays, biases)]


def _broadcast(shape: tuple[int, ...], axes: Sequence[int]) -> list[int]:
    kept = {axis % len(shape) for axis in axes}
    return [side if axis in kept else 1 for axis, side in enumerate(shape)]


def _pairs(wiring: Wiring) -> list[_Pair]:
    import keras

    made = {id(tensor): call for call in wiring.calls for tensor in call.outputs}
    reads = Counter(id(tensor) for call in wiring.calls for tensor in call.inputs)
    reads.update(id(tensor) for tensor in keras.tree.flatten(wiring.outputs))
    times = Counter(call.name for call in wiring.calls)
    pairs = []
    for norm in wiring.calls:
        if not isinstance(norm.op, keras.layers.BatchNormalization):
            continue
        call = made.get(id(norm.inputs[0]))
        if call is None or not is_weighted(call.op) or activation_name(call.op) != "linear":
            continue
        alone = times[call.name] == times[norm.name] == reads[id(norm.inputs[0])] == 1
        last = norm.op.axis in (-1, len(norm.inputs[0].shape) - 1)
        if alone and last and getattr(call.op, "data_format", "channels_last") == "channels_last":
            pairs.append(_Pair(call, norm))
    return pairs
