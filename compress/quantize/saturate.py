"""Narrower int8 ranges before SiLU: where the activation is flat, the bits are better spent elsewhere.

A converter sets a tensor's range by the smallest and largest value it saw. Before SiLU (x * sigmoid(x)) that wastes bits: a
convolution may reach -117 where everything below -8 ends as 0, and with 256 steps over such a range the bend around 0
has a handful of them left. Saturating at -8 costs at most 8 * sigmoid(-8) = 0.0027.
Only scale and zero point of such tensors change; the kernels take theirs from there when they are prepared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

SILU_FLAT_BELOW = -8.0


def saturate_before_silu(flatbuffer: bytes) -> tuple[bytes, int]:
    """A TFLite int8 model with the ranges of its SiLU inputs cut at -8; and how many were cut.

    Touched are outputs of convolutions that only a LOGISTIC and the MUL of its result read.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    codes = [code.builtinCode for code in model.operatorCodes]
    ops = schema.BuiltinOperator
    cut = 0
    for graph in model.subgraphs:
        for tensor in _silu_inputs(graph, codes, ops):
            quantization = graph.tensors[tensor].quantization
            scale, zero = float(quantization.scale[0]), int(quantization.zeroPoint[0])
            low, high = (-128 - zero) * scale, (127 - zero) * scale
            if low >= SILU_FLAT_BELOW or high <= 0:
                continue
            new_scale = (high - SILU_FLAT_BELOW) / 255
            quantization.scale = np.array([new_scale], np.float32)
            quantization.zeroPoint = np.array([round(-128 - SILU_FLAT_BELOW / new_scale)], np.int64)
            cut += 1
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)), cut


def _silu_inputs(graph: Any, codes: list[int], ops: Any) -> Iterator[int]:
    readers: dict[int, list[Any]] = {}
    makers: dict[int, Any] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            readers.setdefault(int(tensor), []).append(operator)
        for tensor in operator.outputs:
            makers[int(tensor)] = operator
    for operator in graph.operators:
        if codes[operator.opcodeIndex] != ops.LOGISTIC:
            continue
        (tensor,), (gate,) = operator.inputs, operator.outputs
        made_by = makers.get(int(tensor))
        if made_by is None or codes[made_by.opcodeIndex] not in (ops.CONV_2D, ops.DEPTHWISE_CONV_2D):
            continue
        others = [each for each in readers[int(tensor)] if each is not operator]
        is_gated = [
            codes[each.opcodeIndex] == ops.MUL and {int(t) for t in each.inputs} == {int(tensor), int(gate)}
            for each in others
        ]
        if is_gated == [True] and len(readers[int(gate)]) == 1:
            yield int(tensor)
