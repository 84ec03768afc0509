"""Weights of four bits in an int8 model: two to a byte, half the file.

Activations stay int8. LiteRT unpacks such weights when it runs them, which costs time: this is for files, not for speed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import WEIGHT_AXIS, TFLiteGraph, along
from compress.quantize.linear import LinearStep, linear_steps
from compress.quantize.slim import slim_tflite
from edgeai.errors import PassError

Floats = NDArray[np.float32]
LEVELS = 7  # symmetric, without the lowest integer
_INT4, _INT8, _INT32 = 17, 9, 2  # schema.TensorType


def pack_four_bits(integer: bytes, floats: bytes, scales: Mapping[int, Floats]) -> bytes:
    """The int8 model with the weights of `floats` in four bits.

    integer: made of `floats` by quantize_ranges, with nothing kept float. floats: its weights lie on the grid of `scales`,
    {number of the weights' tensor in `floats`: (O,)}, as adaround() leaves them with bits=4. Raises PassError where the two
    models are not made alike.
    """
    graph, source = TFLiteGraph(integer), TFLiteGraph(floats)
    ours, theirs = linear_steps(graph), linear_steps(source)
    if [a.step.kind for a in ours] != [b.step.kind for b in theirs]:
        raise PassError("four bits: the int8 model has other layers than the float one")
    for target, given in zip(ours, theirs, strict=True):
        if given.weights in scales:
            _replace(graph, target, source, given, scales[given.weights])
    return slim_tflite(graph.to_bytes())


def _replace(
    graph: TFLiteGraph, target: LinearStep, source: TFLiteGraph, given: LinearStep, scales: Floats
) -> None:
    weights, biases = source.constant(given.weights), source.constant(given.biases)
    data = graph.scales(target.data)
    if weights is None or data is None or graph.shape(target.weights) != weights.shape:
        raise PassError(f"four bits: {source.name(given.output)!r} is another layer in the int8 model")
    axis = WEIGHT_AXIS[target.step.kind]
    steps = along(scales, weights.ndim, axis)
    integers = np.clip(np.rint(weights / steps), -LEVELS, LEVELS).astype(np.int8)
    _set_tensor(graph, target.weights, _INT4, pack_nibbles(integers), scales, axis)
    if target.biases >= 0 and biases is not None:
        steps = (data[0][0] * scales).astype(np.float32)
        limit = 2**31 - 1
        whole = np.clip(np.rint(biases.astype(np.float64) / steps), -limit, limit).astype(np.int32)
        _set_tensor(graph, target.biases, _INT32, whole.tobytes(), steps, 0)


def pack_nibbles(integers: NDArray[np.int8]) -> bytes:
    """-8 to 7 each, in C order, two to a byte: the first in the low half.

    >>> pack_nibbles(np.array([1, -1, 7], np.int8)).hex()
    'f107'
    """
    flat = integers.ravel().view(np.uint8) & 0x0F
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return bytes((flat[::2] | (flat[1::2] << 4)).tobytes())


def _set_tensor(
    graph: TFLiteGraph, number: int, kind: int, content: bytes, scales: Floats, axis: int
) -> None:
    tensor = graph.tensor(number)
    tensor.type = kind
    tensor.quantization.scale = np.asarray(scales, np.float32)
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = axis
    graph.set_bytes(number, content)
