"""What a TFLite file asks of a machine for one inference: multiply-accumulates, and bytes moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.errors import EngineError, EngineUnavailableError


@dataclass(frozen=True, slots=True)
class GraphWork:
    """parameters: weights and biases, each tensor once; shapes and other constants of the plumbing are none.

    macs: of one inference, in convolutions, dense and recurrent layers and matrix products (what MLPerf Tiny counts).
    weights, activations: numbers that the operations read and write, every tensor once for each operation that reads it and
    once for the one that writes it. weight_bytes, activation_bytes: the same in bytes of the tensors' types. Views (RESHAPE
    and its like) move nothing; weights that the file holds as float16 count as the float32 that the interpreter makes of them.
    largest, largest_bytes: the same of the operation that moves most: what a cache must hold to hold every operation.
    """

    parameters: int
    macs: int
    weights: int
    activations: int
    weight_bytes: int
    activation_bytes: int
    largest: int
    largest_bytes: int

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes


# operator of the TFLite schema -> the inputs that are weights and biases
_WEIGHTS = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "CONV_3D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
}
_RECURRENT = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "RNN", "SVDF")
_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE")
_BITS = {
    "FLOAT64": 64, "INT64": 64, "UINT64": 64, "COMPLEX64": 64, "FLOAT32": 32, "INT32": 32, "UINT32": 32,
    "FLOAT16": 16, "BFLOAT16": 16, "INT16": 16, "UINT16": 16, "INT4": 4, "UINT4": 4, "INT2": 2,
}  # fmt: skip


def count_tflite(path: Path) -> GraphWork:
    """Read the file's own graph; dimensions left open count as one.

    Raises EngineUnavailableError without LiteRT's schema, EngineError where the file is no such graph, OSError where it cannot
    be read.
    """
    schema = load_schema()
    content = path.read_bytes()
    try:
        return _count(schema, content)
    except Exception as error:  # flatbuffers has a dozen ways to fall over a broken file
        raise EngineError(f"{path}: its graph cannot be read: {type(error).__name__}: {error}") from error


def load_schema() -> Any:
    """LiteRT's schema of TFLite files, a module. Raises EngineUnavailableError where LiteRT is not installed."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise EngineUnavailableError(
            f"no schema of TFLite files ({error})", next_step="pip install ai-edge-litert"
        ) from None
    return schema_py_generated


def _count(schema: Any, content: bytes) -> GraphWork:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    parameters = macs = weights = activations = weight_bits = activation_bits = largest = largest_bits = 0
    for graph in model.subgraphs:
        trained: set[int] = set()
        # constants, and what is made of constants alone: float16 weights before DEQUANTIZE
        fixed = {index for index, tensor in enumerate(graph.tensors) if _is_constant(model, tensor)}
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            inputs, outputs = ([int(i) for i in each] for each in (operator.inputs, operator.outputs))
            trained.update(inputs[i] for i in _WEIGHTS.get(kind, ()) if i < len(inputs))
            macs += _macs(kind, graph.tensors, inputs, outputs)
            if kind == "DEQUANTIZE" and inputs[0] in fixed:
                fixed.update(outputs)
                continue
            if kind in _VIEWS:
                fixed.update(outputs if set(inputs) <= fixed else ())
                continue
            of_this = bits_of_this = 0
            for index in (*(i for i in inputs if i >= 0), *outputs):
                numbers, bits = _numbers(graph.tensors[index]), _BITS.get(types[graph.tensors[index].type], 8)
                if index in fixed:
                    weights += numbers
                    weight_bits += numbers * bits
                else:
                    activations += numbers
                    activation_bits += numbers * bits
                of_this += numbers
                bits_of_this += numbers * bits
            largest, largest_bits = max(largest, of_this), max(largest_bits, bits_of_this)
        for index, tensor in enumerate(graph.tensors):
            if not _is_constant(model, tensor):
                continue
            # biases are INT32, INT64 in int16x8; other integers of that size are shapes and the like
            if not types[tensor.type].startswith(("INT32", "INT64", "BOOL", "STRING")) or index in trained:
                parameters += _numbers(tensor)
    return GraphWork(
        parameters,
        macs,
        weights,
        activations,
        weight_bits // 8,
        activation_bits // 8,
        largest,
        largest_bits // 8,
    )


def _macs(kind: str, tensors: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int]) -> int:
    def shape(index: int) -> list[int]:
        return [int(v) for v in tensors[index].shape]

    if kind in _RECURRENT:
        # every weight matrix is used once a time step: (batch, time, features)
        given = shape(inputs[0])
        steps = given[1] if kind.startswith("UNIDIRECTIONAL") and len(given) == 3 else 1
        matrices = [shape(i) for i in inputs[1:] if i >= 0]
        return steps * sum(math.prod(matrix) for matrix in matrices if len(matrix) == 2 and min(matrix) > 1)
    if kind == "CONV_2D":
        filters = shape(inputs[1])
        return math.prod(shape(outputs[0])) * math.prod(filters[1:])
    if kind == "DEPTHWISE_CONV_2D":
        filters = shape(inputs[1])
        return math.prod(shape(outputs[0])) * filters[1] * filters[2]
    if kind == "CONV_3D":
        return math.prod(shape(outputs[0])) * math.prod(shape(inputs[1])[:4])
    if kind == "FULLY_CONNECTED":
        return math.prod(shape(outputs[0])) * shape(inputs[1])[-1]
    if kind == "TRANSPOSE_CONV":
        filters = shape(inputs[1])
        return math.prod(shape(inputs[2])) * filters[0] * filters[1] * filters[2]
    if kind == "BATCH_MATMUL":
        return math.prod(shape(outputs[0])) * shape(inputs[0])[-1]
    return 0


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _numbers(tensor: Any) -> int:
    # a scalar has no shape at all; an open dimension, -1 or 0 in a few writers, counts as one
    return math.prod(max(1, int(side)) for side in (() if tensor.shape is None else tensor.shape))


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
