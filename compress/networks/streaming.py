"""A causal keyword network that is fed a few frames at a time, and remembers what it needs of those before.

Wherever the whole-window network puts zeros before its first frame, the streamed one puts the last frames that it saw
there; and it averages over the last positions of a window of its own. Nothing is computed twice. States are inputs and
outputs in pairs, state_<n> and next_state_<n>, so that any engine can run it: all zeros at the start, which then are the
whole-window network's zeros, and from then on what came out goes in again.

From zero states, a window fed in steps gives what the whole-window network says of it, to rounding. Fed on, the states hold
real frames where a window cut out of the stream would have zeros: then it says what the same network says that was given
the whole stream at once, averaged over its last window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import PassError

Floats = NDArray[np.float32]
STATE, NEXT_STATE = "state_", "next_state_"


def stream_network(network: Any, *, step_frames: int) -> Any:
    """A Keras model from {"features": (1, step_frames, mels, 1), "state_0": …} to the outputs and {"next_state_0": …}.

    network: a functional Keras model over (frames, mels, 1), causal, pruned or not; the weights are copied. Scores are
    those of the window that ends with the step's last frames; with a stride over time of s, up to s - 1 of the newest
    frames are heard in the next step only. Raises PassError for a network that looks ahead or mixes time in a way that
    cannot be streamed (naming the layer), and for steps that its strides do not divide or that are as long as its window.
    """
    import keras

    if not hasattr(network, "_nodes_by_depth") or len(network.inputs) != 1:
        raise PassError("a functional Keras model with one input is needed to stream it")
    window = network.inputs[0]
    frames = window.shape[1]
    stride = time_stride(network)
    if not 0 < step_frames < frames or step_frames % stride:
        raise PassError(
            f"steps of {step_frames} frames do not fit a window of {frames} frames and a stride of {stride} over time",
            next_step=f"take a multiple of {stride} below {frames}",
        )
    name = window.name.split(":")[0]
    features = keras.Input((step_frames, *window.shape[2:]), batch_size=1, name=name)
    walk = _Walk(step_frames)
    walk.known[id(window)] = _Step(features, 1)
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            if type(node.operation).__name__ != "InputLayer":
                walk.follow(node)
    outputs = {key: walk.known[id(tensor)].tensor for key, tensor in _named(network.output).items()}
    live = [key for key, tensor in _named(network.output).items() if walk.known[id(tensor)].stride]
    if live:
        raise PassError(f"output {live[0]!r} runs along the frames: only scores of a window can be streamed")
    return keras.Model({name: features, **walk.states}, {**outputs, **walk.next_states})


def time_stride(network: Any) -> int:
    """Input frames for one position of the network's last map: the product of the strides over time along one path."""
    strides = {id(network.inputs[0]): 1}
    longest = 1
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            if type(node.operation).__name__ == "InputLayer":
                continue
            come = max(strides[id(t)] for t in node.arguments.keras_tensors)
            for output in node.outputs:
                strides[id(output)] = come * _layer_stride(node.operation)
                longest = max(longest, strides[id(output)])
    return longest


def zero_states(stream: Any) -> dict[str, Floats]:
    """The states to begin with, by input name."""
    return {
        name: np.zeros(tensor.shape, np.float32)
        for name, tensor in stream.input.items()
        if name.startswith(STATE)
    }


def stream_steps(stream: Any, features: Floats) -> Iterator[tuple[dict[str, Floats], dict[str, Floats]]]:
    """Feed (frames, mels, 1) from zero states, whole steps only: the inputs and the outputs of each step, (1, …) arrays.

    The inputs are what int8 conversion wants to see (compress.quantize.tflite.convert_tflite), states included.
    """
    states = zero_states(stream)
    (name,) = stream.input.keys() - states.keys()
    step_frames = stream.input[name].shape[1]
    run = _compiled(stream)
    for start in range(0, len(features) - step_frames + 1, step_frames):
        inputs = {name: np.asarray(features[np.newaxis, start : start + step_frames], np.float32), **states}
        said = {key: np.asarray(value) for key, value in run(inputs).items()}
        yield inputs, said
        states = {key: said[NEXT_STATE + key.removeprefix(STATE)] for key in states}


def streaming_inputs(stream: Any, windows: Iterable[Floats]) -> Iterator[dict[str, Floats]]:
    """Representative inputs, states included, of streaming through each of `windows` (frames, mels, 1) from zero states."""
    for window in windows:
        for inputs, _ in stream_steps(stream, window):
            yield inputs


@lru_cache(
    maxsize=2
)  # calibration feeds one network hundreds of windows, and tracing takes longer than a window
def _compiled(stream: Any) -> Any:
    import tensorflow as tf

    return tf.function(lambda inputs: stream(inputs, training=False), autograph=False)


@dataclass(frozen=True, slots=True)
class _Step:
    """A tensor of the streamed network. stride: input frames a position; 0 once the time is averaged away."""

    tensor: Any
    stride: int


@dataclass
class _Walk:
    """From the whole-window network's tensors, by id, to the streamed one's; and the states so far."""

    step_frames: int
    known: dict[int, _Step] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    next_states: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Any] = field(default_factory=dict)

    def follow(self, node: Any) -> None:
        layer = node.operation
        tensors = list(node.arguments.keras_tensors)
        steps = [self.known[id(tensor)] for tensor in tensors]
        stride = max(step.stride for step in steps)
        if stride and any(step.stride != stride for step in steps):
            raise PassError(f"layer {layer.name!r} joins maps of different strides over time")
        if stride == 0:
            y = self._again(layer, steps)
        else:
            handle = _STREAMED.get(type(layer).__name__)
            if handle is None:
                raise PassError(
                    f"layer {layer.name!r} ({type(layer).__name__}) may mix frames in a way that cannot be streamed",
                    next_step="a keyword network with causal = true can",
                )
            y = handle(self, layer, tensors, steps)
            stride = 0 if type(layer).__name__ == "GlobalAveragePooling2D" else stride * _layer_stride(layer)
            # what is padded is longer, until the convolution that reads it
            padded = type(layer).__name__ == "ZeroPadding2D"
            if stride and not padded and y.shape[1] * stride != self.step_frames:
                raise PassError(
                    f"layer {layer.name!r} makes {y.shape[1]} positions of a step, not {self.step_frames // stride}: it "
                    "is not padded at the front by what its kernel reaches back",
                    next_step="build the network with causal = true",
                )
        self.known[id(node.outputs[0])] = _Step(y, stride)

    def remember(self, x: Any, count: int) -> Any:
        """`x` (1, n, …) with the `count` positions before it; the last `count` of both are the next state."""
        import keras

        number = len(self.states)
        state = keras.Input((count, *x.shape[2:]), batch_size=1, name=f"{STATE}{number}")
        both = keras.layers.Concatenate(axis=1, name=f"remembered_{number}")([state, x])
        drop = keras.layers.Cropping2D(((x.shape[1], 0), (0, 0)), name=f"{NEXT_STATE}{number}")
        self.states[f"{STATE}{number}"] = state
        self.next_states[f"{NEXT_STATE}{number}"] = drop(both)
        return both

    def _again(self, layer: Any, steps: list[_Step], **changes: Any) -> Any:
        """The same layer with the same weights on the streamed tensors; `changes` of its settings."""
        if layer.name in self.layers:
            raise PassError(f"layer {layer.name!r} is used twice: it cannot be streamed")
        copied = type(layer).from_config({**layer.get_config(), **changes})
        tensors = [step.tensor for step in steps]
        y = copied(tensors if len(tensors) > 1 or _takes_list(layer) else tensors[0])
        copied.set_weights(layer.get_weights())
        self.layers[layer.name] = copied
        return y

    def each_frame(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        return self._again(layer, steps)

    def convolution(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        if layer.kernel_size[0] > 1 and layer.padding != "valid":
            raise PassError(
                f"layer {layer.name!r} looks ahead: its padding is {layer.padding!r}",
                next_step="build the network with causal = true",
            )
        return self._again(layer, steps)

    def padding(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        (front, back), sides = layer.padding
        if back:
            raise PassError(
                f"layer {layer.name!r} pads the end of the time: the network looks ahead",
                next_step="build the network with causal = true",
            )
        (step,) = steps
        before = _Step(self.remember(step.tensor, front), step.stride) if front else step
        return self._again(layer, [before], padding=((0, 0), sides))

    def pooling(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        if layer.pool_size[0] != layer.strides[0] or (layer.pool_size[0] > 1 and layer.padding != "valid"):
            raise PassError(f"layer {layer.name!r} pools over time with an overlap: it cannot be streamed")
        return self._again(layer, steps)

    def cropping(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        if any(layer.cropping[0]):
            raise PassError(f"layer {layer.name!r} cuts off frames: it cannot be streamed")
        return self._again(layer, steps)

    def joining(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        if layer.axis in (1, 1 - len(tensors[0].shape)):
            raise PassError(f"layer {layer.name!r} joins frames of different times: it cannot be streamed")
        return self._again(layer, steps)

    def reshaping(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        if layer.target_shape[0] != tensors[0].shape[1]:
            raise PassError(f"layer {layer.name!r} reshapes the time away: it cannot be streamed")
        return self._again(layer, steps, target_shape=(steps[0].tensor.shape[1], *layer.target_shape[1:]))

    def average(self, layer: Any, tensors: list[Any], steps: list[_Step]) -> Any:
        """The mean over the window's positions, of which a step brings the last ones; bands are averaged first."""
        import keras

        x = steps[0].tensor
        count, bands = tensors[0].shape[1], x.shape[2]
        if bands > 1:
            x = keras.layers.AveragePooling2D((1, bands), name=f"{layer.name}_bands")(x)
        older = count - x.shape[1]
        if older < 0:
            raise PassError(f"layer {layer.name!r} averages over fewer positions than a step has")
        return self._again(layer, [_Step(self.remember(x, older) if older else x, 0)])


def _layer_stride(layer: Any) -> int:
    strides = getattr(layer, "strides", 1)
    return int(strides if isinstance(strides, int) else strides[0])


def _takes_list(layer: Any) -> bool:
    return type(layer).__name__ in ("Add", "Multiply", "Concatenate", "Subtract", "Maximum", "Average")


def _named(output: Any) -> dict[str, Any]:
    return dict(output) if isinstance(output, dict) else {"output": output}


_Handler = Callable[[_Walk, Any, list[Any], list[_Step]], Any]
_STREAMED: dict[str, _Handler] = {
    "Conv2D": _Walk.convolution,
    "DepthwiseConv2D": _Walk.convolution,
    "ZeroPadding2D": _Walk.padding,
    "AveragePooling2D": _Walk.pooling,
    "MaxPooling2D": _Walk.pooling,
    "GlobalAveragePooling2D": _Walk.average,
    "Cropping2D": _Walk.cropping,
    "Concatenate": _Walk.joining,
    "Reshape": _Walk.reshaping,
    "BatchNormalization": _Walk.each_frame,
    "Activation": _Walk.each_frame,
    "ReLU": _Walk.each_frame,
    "Dropout": _Walk.each_frame,
    "SpatialDropout2D": _Walk.each_frame,
    "Rescaling": _Walk.each_frame,
    "Add": _Walk.each_frame,
    "Multiply": _Walk.each_frame,
}
