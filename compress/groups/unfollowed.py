"""What is not followed: why, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from compress.groups.convolutions import positions
from compress.groups.wiring import Call

_RECURRENT = ("SimpleRNN", "GRU", "LSTM", "Bidirectional")


def why_unknown(operation: Any) -> str:
    kind = type(operation)
    if kind.__name__ == "Lambda" or not kind.__module__.startswith("keras."):
        return "its code is unknown"
    return "there is no rule for it"


def macs_of_call(call: Call) -> int:
    """Multiplications of one call of a weighted layer, 0 for what has no weights."""
    layer, kind, output = call.op, type(call.op).__name__, call.outputs[0]
    if kind in _RECURRENT:  # every matrix (of both directions) once a step
        return int(call.inputs[0].shape[1] or 1) * _matrices(layer)
    if kind == "MultiHeadAttention":  # the projections, and each position against each other one, twice
        keys, queries = positions(call.inputs[-1]), positions(output)
        against = queries * keys * layer.num_heads * (layer.key_dim + layer.value_dim)
        return queries * _matrices(layer) + int(against)
    kernel = getattr(getattr(layer, "layer", layer), "kernel", None)
    if kernel is None:
        return 0
    area = positions(call.inputs[0] if kind.endswith("Transpose") else output)
    return area * int(np.prod(kernel.shape))


def _matrices(layer: Any) -> int:
    """Weights that multiply what the layer reads or remembers: all but the biases."""
    named = ((w.name, w.shape) for w in layer.weights)
    return sum(int(np.prod(shape)) for name, shape in named if "bias" not in name and len(shape) > 1)
