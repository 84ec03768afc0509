"""Turn a convolutional ONNX graph into a trainable Keras model (NHWC), so that its weights can start another training.

Batch normalisation is expected to be folded already, as exporters do. A graph is cut at named tensors, so heads
whose reshapes Keras would not need are left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import DataError, DataMissingError

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Phase:
    """A stride-2 view of the picture that starts at (dy, dx): a quarter of YOLOX's Focus."""

    dy: int
    dx: int


@dataclass(frozen=True, slots=True)
class _Phases:
    views: tuple[_Phase, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where to cut, and what to call it: `tensor` is a Conv node's output, `channels` picks some of its channels."""

    tensor: str
    name: str
    channels: tuple[int, ...] | None = None


class OnnxGraph:
    """A loaded ONNX graph; `build` gives the Keras model.

    Raises DataMissingError or DataError where the file is absent or no ONNX model.
    """

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx import numpy_helper

        if not path.is_file():
            raise DataMissingError(f"no ONNX file at {path}")
        self._path = path
        self._constants: dict[str, Any] = {}
        try:
            graph = onnx.load(str(path)).graph
            self.nodes: list[Any] = list(graph.node)
            self._constants.update((t.name, numpy_helper.to_array(t)) for t in graph.initializer)
            for node in self.nodes:
                if node.op_type == "Constant":
                    self._constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        except Exception as error:  # protobuf, onnx and numpy each have errors of their own for broken bytes
            raise DataError(f"{path} is no ONNX model: {type(error).__name__}") from error
        inputs = [i.name for i in graph.input if i.name not in self._constants]
        if len(inputs) != 1:
            raise DataError(f"{path} is no ONNX model of one picture: it has {len(inputs)} inputs")
        self.input_name: str = inputs[0]

    def conv_output(self, weight_name: str) -> str:
        """The output tensor of the Conv whose weight is called `weight_name`."""
        for node in self.nodes:
            if node.op_type == "Conv" and len(node.input) > 1 and node.input[1] == weight_name:
                return str(node.output[0])
        raise DataError(f"{self._path.name} has no convolution with the weight {weight_name!r}")

    def build(self, *, height: int, width: int, cuts: Sequence[Cut], activation: str = "silu") -> Any:
        """A functional Keras model from a (height, width, 3) picture to the cuts, as a dict of outputs by name.

        activation: what takes the place of SiLU ("silu", "hard_swish" or "relu6"); the last two are cheaper in int8 but
        need fine-tuning. Raises DataError naming the first node that is not understood.
        """
        import keras

        self._activation = activation
        # "backbone" up to the first upsampling, "neck" from there: fine-tuning freezes by these names
        self._part, self._convolutions = "backbone", 0
        self._cut_channels = {cut.tensor: cut for cut in cuts}
        picture = keras.Input((height, width, 3), name="image")
        tensors: dict[str, Any] = {self.input_name: picture}
        for node in self._needed({cut.tensor for cut in cuts}):
            convert = _CONVERTERS.get(node.op_type)
            if convert is None:
                raise DataError(
                    f"{self._path.name}: node {node.output[0]!r} is a {node.op_type}, which is not known"
                )
            try:
                tensors[node.output[0]] = convert(self, node, tensors)
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(
                    f"{self._path.name}: node {node.output[0]!r} ({node.op_type}) cannot be rebuilt: "
                    f"{type(error).__name__}: {str(error)[:120]}"
                ) from error
        missing = next((cut.tensor for cut in cuts if cut.tensor not in tensors), None)
        if missing is not None:
            raise DataError(f"{self._path.name} has no tensor {missing!r} to cut at")
        return keras.Model(picture, {cut.name: tensors[cut.tensor] for cut in cuts})

    def next_name(self) -> str:
        """What the next convolution is called: backbone_conv001, ..., neck_conv061, ..."""
        self._convolutions += 1
        return f"{self._part}_conv{self._convolutions:03d}"

    def constant(self, name: str) -> Any:
        return self._constants[name]

    def _needed(self, wanted: set[str]) -> list[Any]:
        """The nodes that `wanted` depend on, in the graph's own (topological) order."""
        keep: list[Any] = []
        pending = set(wanted)
        for node in reversed(self.nodes):
            if pending & set(node.output) and node.op_type != "Constant":
                keep.append(node)
                pending |= {name for name in node.input if name not in self._constants}
        return keep[::-1]


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _conv(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    given = _attributes(node)
    kernel: Weights = graph.constant(node.input[1])
    bias: Weights = (
        graph.constant(node.input[2]) if len(node.input) > 2 else np.zeros(len(kernel), np.float32)
    )
    x = tensors[node.input[0]]
    group = given.get("group", 1)
    strides = given.get("strides", [1, 1])
    stride = strides[0]
    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    if set(strides) != {stride} or set(given.get("dilations", [1])) != {1}:
        raise DataError(f"node {node.output[0]!r}: strides that differ and dilation are not known")
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise DataError(f"node {node.output[0]!r}: padding must be given in numbers")
    if isinstance(x, _Phases):
        if group != 1 or stride != 1 or (top, left) != (1, 1):
            raise DataError(f"node {node.output[0]!r}: only a plain padded convolution may follow a Focus")
        kernel, x, stride = _unfold_focus(kernel, x), tensors[graph.input_name], 2
        top, left, bottom, right = (2 * pad for pad in (top, left, bottom, right))
    cut = graph._cut_channels.get(node.output[0])
    name = cut.name if cut else graph.next_name()
    if cut and cut.channels is not None:
        kernel, bias = kernel[list(cut.channels)], bias[list(cut.channels)]
    if top or left or bottom or right:
        x = keras.layers.ZeroPadding2D(((top, bottom), (left, right)))(x)
    if group == 1:
        layer = keras.layers.Conv2D(len(kernel), kernel.shape[2:], strides=stride, name=name)
        weights = kernel.transpose(2, 3, 1, 0)
    elif kernel.shape[1] == 1 and group == len(kernel) == x.shape[-1]:
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2:], strides=stride, name=name)
        weights = kernel.transpose(2, 3, 0, 1)
    else:
        raise DataError(f"node {node.output[0]!r}: a convolution in {group} groups is not known")
    y = layer(x)
    layer.set_weights([weights, bias])
    return y


def _unfold_focus(kernel: Weights, phases: _Phases) -> Weights:
    """A 3x3 kernel over four stride-2 views, as the equal 6x6 kernel of stride 2 over the picture itself."""
    out_channels, _, height, width = kernel.shape
    unfolded = np.zeros((out_channels, 3, 2 * height, 2 * width), np.float32)
    for number, view in enumerate(phases.views):
        unfolded[:, :, view.dy :: 2, view.dx :: 2] = kernel[:, 3 * number : 3 * number + 3]
    return unfolded


def _slice(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> _Phase:
    start, axis, step = (int(graph.constant(node.input[i])[0]) for i in (1, 3, 4))
    x = tensors[node.input[0]]
    known = x if isinstance(x, _Phase) else _Phase(0, 0)
    from_picture = isinstance(x, _Phase) or node.input[0] == graph.input_name
    if not from_picture or step != 2 or axis not in (2, 3) or start not in (0, 1):
        raise DataError(f"node {node.output[0]!r}: only the stride-2 slices of a Focus are known")
    return _Phase(start, known.dx) if axis == 2 else _Phase(known.dy, start)


def _concat(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    parts = [tensors[name] for name in node.input]
    if all(isinstance(part, _Phase) for part in parts):
        return _Phases(tuple(parts))
    if _attributes(node)["axis"] != 1:
        raise DataError(f"node {node.output[0]!r}: only a concatenation of channels is known")
    return keras.layers.Concatenate(axis=-1)(parts)


def _sigmoid(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    """Kept open: whether it is half of a SiLU shows at the Mul that follows."""
    return ("sigmoid", node.input[0])


def _mul(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    for gate_name, x_name in (node.input, list(node.input)[::-1]):
        gate = tensors[gate_name]
        if isinstance(gate, tuple) and gate == ("sigmoid", x_name):
            return keras.layers.Activation(graph._activation)(tensors[x_name])
    raise DataError(f"node {node.output[0]!r}: only the product of a SiLU is known")


def _add(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    return keras.layers.Add()([tensors[name] for name in node.input])


def _max_pool(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    given = _attributes(node)
    size, strides, pads = given["kernel_shape"][0], given.get("strides", [1, 1]), given.get("pads", [0])
    if set(strides) != {1} or set(pads) != {size // 2} or set(given["kernel_shape"]) != {size}:
        raise DataError(f"node {node.output[0]!r}: only pooling of stride 1 that keeps the size is known")
    return keras.layers.MaxPooling2D(size, strides=1, padding="same")(tensors[node.input[0]])


def _resize(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    scales = [float(scale) for scale in graph.constant(node.input[2])]
    scale = int(scales[-1])
    graph._part = "neck"
    if scales != [1, 1, scale, scale] or _attributes(node).get("mode", b"nearest") != b"nearest":
        raise DataError(f"node {node.output[0]!r}: only whole nearest-neighbour upsampling is known")
    return keras.layers.UpSampling2D(scale, interpolation="nearest")(tensors[node.input[0]])


def _relu(graph: OnnxGraph, node: Any, tensors: Mapping[str, Any]) -> Any:
    import keras

    return keras.layers.ReLU()(tensors[node.input[0]])


_CONVERTERS: dict[str, Callable[[OnnxGraph, Any, Mapping[str, Any]], Any]] = {
    "Conv": _conv,
    "Slice": _slice,
    "Concat": _concat,
    "Sigmoid": _sigmoid,
    "Mul": _mul,
    "Add": _add,
    "MaxPool": _max_pool,
    "Resize": _resize,
    "Relu": _relu,
}
