"""An int8 TFLite model as the float model that it stands for: the same layers, weights and biases as real numbers.

What other formats are made of, so that they hold the very integers of the TFLite file and the ranges of its tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.quantize.graph import TFLiteGraph
from compress.quantize.observe import real_values
from compress.quantize.slim import slim_tflite
from edgeai.errors import PassError

_FLOAT32, _INT8, _INT32, _INT4 = 0, 9, 2, 17  # schema.TensorType


@dataclass(frozen=True)
class Dequantized:
    """flatbuffer: float32 TFLite. ranges: low and high of each activation that was int8, by the tensor's name."""

    flatbuffer: bytes
    ranges: dict[str, tuple[float, float]]


def dequantize(flatbuffer: bytes) -> Dequantized:
    """Raises PassError for a model without int8 tensors, or with four-bit weights."""
    graph = TFLiteGraph(slim_tflite(flatbuffer))  # whose names are all different
    ranges: dict[str, tuple[float, float]] = {}
    for number in range(len(graph.model.subgraphs[0].tensors)):
        tensor, scales = graph.tensor(number), graph.scales(number)
        if tensor.type == _INT4:
            raise PassError("weights of four bits have no other form", next_step="export the int8 file")
        if scales is None or tensor.type not in (_INT8, _INT32):
            continue
        integers = graph.constant(number)
        if integers is not None:
            graph.set_bytes(number, real_values(integers, *scales).tobytes())
        elif tensor.type == _INT8:
            scale, zero = float(scales[0][0]), int(scales[1][0])
            ranges[graph.name(number)] = ((-128 - zero) * scale, (127 - zero) * scale)
        tensor.type, tensor.quantization = _FLOAT32, None
    if not ranges:
        raise PassError(
            "the TFLite file has no int8 tensors", next_step='quantize it first (precision = "int8")'
        )
    _skip_conversions(graph)
    return Dequantized(graph.to_bytes(), ranges)


def _skip_conversions(graph: TFLiteGraph) -> None:
    """Take out what turned floats to integers, back, or to other integers: all are floats now."""
    plain = graph.model.subgraphs[0]
    same = {
        step.outputs[0]: step.inputs[0]
        for step in graph.steps
        if step.kind in ("QUANTIZE", "DEQUANTIZE")
        and step.inputs[0] in graph.maker | dict.fromkeys(graph.inputs)
    }

    def source(number: int) -> int:
        while number in same:
            number = same[number]
        return number

    kept = []
    for step, operator in zip(graph.steps, plain.operators, strict=True):
        if step.outputs and step.outputs[0] in same:
            continue
        operator.inputs = np.array([source(t) if t >= 0 else t for t in step.inputs], np.int32)
        kept.append(operator)
    plain.operators = kept
    ends = {number: source(number) for number in graph.outputs}
    plain.outputs = np.array([ends[number] for number in graph.outputs], np.int32)
    for signature in graph.model.signatureDefs or ():
        for entry in signature.outputs:
            entry.tensorIndex = ends.get(int(entry.tensorIndex), int(entry.tensorIndex))
