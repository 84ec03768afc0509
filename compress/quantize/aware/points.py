"""Where an int8 file rounds: the tensors of a Keras network that get a scale of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from compress.groups.wiring import Call, Wiring, readers_of
from compress.quantize.aware.fold import FUSED_ACTIVATIONS, activation_name, is_weighted
from compress.quantize.calibrate import Range
from compress.quantize.tail import unlike

# what these give has the scale of what they are given
_SAME_SCALE = frozenset({
    "AveragePooling1D", "AveragePooling2D", "Cropping1D", "Cropping2D", "Dropout", "ExpandDims", "Flatten",
    "GaussianDropout", "GaussianNoise", "GetItem", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Identity", "MaxPooling1D",
    "MaxPooling2D", "Permute", "RepeatVector", "Reshape", "SpatialDropout1D", "SpatialDropout2D", "Squeeze", "Swapaxes",
    "Transpose", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D",
})  # fmt: skip
# what only moves values, and joins them
_MOVES = frozenset({"Concatenate", "ExpandDims", "Flatten", "Permute", "Reshape", "Squeeze", "Transpose"})
# kernels that take a ReLU behind them in, besides the weighted ones
_TAKES_RELU = frozenset(
    {"Add", "AveragePooling2D", "BatchNormalization", "MaxPooling2D", "Multiply", "Subtract"}
)
# outputs whose scale the kernel prescribes: 256 steps over these
_FIXED = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


def fixed_range(call: Call) -> tuple[float, float] | None:
    """What int8 kernels prescribe for a call's output; None where they do not."""
    kind = type(call.op).__name__.lower()
    return _FIXED.get(activation_name(call.op) if kind == "activation" else kind)


def rounded_outputs(wiring: Wiring) -> set[int]:
    """Numbers of the calls behind whose outputs an int8 file rounds; it also rounds the network's inputs.

    Not behind what passes values on, nor between a layer and the ReLU that its kernel takes in.
    """
    import keras

    readers = readers_of(wiring)
    ends = Counter(id(tensor) for tensor in keras.tree.flatten(wiring.outputs))
    found = set()
    for call in wiring.calls:
        if type(call.op).__name__ in _SAME_SCALE or len(call.outputs) != 1 or _passes_on(call):
            continue
        tensor = call.outputs[0]
        if not str(tensor.dtype).startswith(("float", "bfloat")):
            continue
        behind = readers.get(id(tensor), [])
        taken_in = len(behind) == 1 and not ends[id(tensor)] and _is_fused_relu(behind[0].op)
        if not (taken_in and (is_weighted(call.op) or type(call.op).__name__ in _TAKES_RELU)):
            found.add(call.number)
    return found


def unlike_joins(wiring: Wiring, ranges: Mapping[int, Range]) -> set[int]:
    """Numbers of the calls that an int8 file leaves in float, for they join unlike parts into an output and move that.

    ranges: of the tensors that are rounded, by id.
    """
    import keras

    ends = {id(tensor) for tensor in keras.tree.flatten(wiring.outputs)}
    # whose readers all move values to an output
    free = {id(tensor) for call in wiring.calls for tensor in call.outputs}
    known = dict(ranges)
    for call in wiring.calls:
        if type(call.op).__name__ in _SAME_SCALE and id(call.inputs[0]) in known:
            known.update(dict.fromkeys(map(id, call.outputs), known[id(call.inputs[0])]))
    read = {id(tensor) for call in wiring.calls for tensor in call.inputs}
    moves = set()
    for call in reversed(wiring.calls):
        made = set(map(id, call.outputs))
        if type(call.op).__name__ in _MOVES and made <= free and made & (ends | read):
            moves.add(call.number)
        else:
            free -= set(map(id, call.inputs))
    found: set[int] = set()
    joined: set[int] = set()
    for call in wiring.calls:
        parts = [known[id(tensor)] for tensor in call.inputs if id(tensor) in known]
        join = type(call.op).__name__ == "Concatenate" and unlike(parts)
        if call.number in moves and (join or joined.intersection(map(id, call.inputs))):
            found.add(call.number)
            joined.update(map(id, call.outputs))
    return found


def _passes_on(call: Call) -> bool:
    return type(call.op).__name__ == "Activation" and activation_name(call.op) == "linear"


def _is_fused_relu(op: Any) -> bool:
    kind = type(op).__name__
    if kind == "Activation":
        return activation_name(op) in FUSED_ACTIVATIONS
    if kind == "ReLU":
        plain = not op.negative_slope and not op.threshold
        return plain and (op.max_value is None or float(op.max_value) == 6.0)
    return kind in ("Relu", "Relu6")
