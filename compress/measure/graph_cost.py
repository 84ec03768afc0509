"""Parameters and multiply-accumulates, counted in an engine file's own graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.bundle.manifest import FileFormat
from edgeai.errors import EngineError


@dataclass(frozen=True, slots=True)
class GraphCost:
    """parameters: weights and biases, each tensor once; shapes and other constants of the plumbing are none.

    macs: of one inference, in convolutions, dense and recurrent layers and matrix products (what MLPerf Tiny counts).
    """

    parameters: int
    macs: int


def count_graph(path: Path, format: FileFormat) -> GraphCost | None:
    """None for a format that cannot be looked into (TensorRT plans), or without the library that knows it.

    Raises EngineError where the file is no such graph.
    """
    counter = _COUNTERS.get(format)
    if counter is None:
        return None
    try:
        return counter(path)
    except ImportError:
        return None
    except OSError:
        raise
    except Exception as error:  # flatbuffers and protobuf have a dozen ways to fall over a broken file
        raise EngineError(f"{path}: its graph cannot be read: {type(error).__name__}: {error}") from error


# operator of the TFLite schema -> the inputs that are weights and biases
_TFLITE_WEIGHTS = {
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "CONV_3D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
}
_TFLITE_LSTM = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "RNN", "SVDF")


def _count_tflite(path: Path) -> GraphCost:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    parameters = macs = 0
    for graph in model.subgraphs:
        weights: set[int] = set()
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            inputs = [int(i) for i in operator.inputs]
            weights.update(inputs[i] for i in _TFLITE_WEIGHTS.get(kind, ()) if i < len(inputs))
            macs += _tflite_macs(kind, graph.tensors, inputs, [int(i) for i in operator.outputs])
        for number, tensor in enumerate(graph.tensors):
            data = model.buffers[tensor.buffer].data
            if data is None or not len(data):
                continue
            # whole numbers of 32 and 64 bits are shapes and indices, unless a layer adds them as its bias
            if not types[tensor.type].startswith(("INT32", "INT64", "BOOL", "STRING")) or number in weights:
                parameters += _size(tensor.shape)
    return GraphCost(parameters, macs)


def _tflite_macs(kind: str, tensors: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int]) -> int:
    def shape(index: int) -> list[int]:
        return [int(v) for v in tensors[index].shape]

    if kind in _TFLITE_LSTM:
        # every weight matrix is used once a time step: (batch, time, features)
        given = shape(inputs[0])
        steps = given[1] if kind.startswith("UNIDIRECTIONAL") and len(given) == 3 else 1
        matrices = [shape(i) for i in inputs[1:] if i >= 0]
        return steps * sum(_size(matrix) for matrix in matrices if len(matrix) == 2 and min(matrix) > 1)
    if kind == "CONV_2D":
        filters = shape(inputs[1])
        return _size(shape(outputs[0])) * _size(filters[1:])
    if kind == "DEPTHWISE_CONV_2D":
        filters = shape(inputs[1])
        return _size(shape(outputs[0])) * filters[1] * filters[2]
    if kind == "CONV_3D":
        return _size(shape(outputs[0])) * _size(shape(inputs[1])[:4])
    if kind == "FULLY_CONNECTED":
        return _size(shape(outputs[0])) * shape(inputs[1])[-1]
    if kind == "TRANSPOSE_CONV":
        filters = shape(inputs[1])
        return _size(shape(inputs[2])) * filters[0] * filters[1] * filters[2]
    if kind == "BATCH_MATMUL":
        return _size(shape(outputs[0])) * shape(inputs[0])[-1]
    return 0


# weights are stored as these; other initializers are shapes and indices
_ONNX_REAL = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT4", "UINT4")
# operator -> the input that holds the filters, and the input that is a bias
_ONNX_FILTERS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_ONNX_BIASES = {"Conv": 2, "QLinearConv": 8, "Gemm": 2, "ConvTranspose": 2}


def _count_onnx(path: Path) -> GraphCost:
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
    graph = model.graph
    shapes: dict[str, list[int]] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        # an open dimension (the batch) counts as one
        shapes[value.name] = [max(1, d.dim_value) for d in value.type.tensor_type.shape.dim]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    shapes.update({name: list(tensor.dims) for name, tensor in constants.items()})
    biases = {
        node.input[place]
        for node in graph.node
        if (place := _ONNX_BIASES.get(node.op_type, 99)) < len(node.input)
    }
    # scales and zero points of quantization belong to the plumbing
    plumbing = {
        name
        for node in graph.node
        for at, name in enumerate(node.input)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and at > 0
    }
    parameters = sum(
        _size(tensor.dims)
        for name, tensor in constants.items()
        if name not in plumbing
        and (onnx.TensorProto.DataType.Name(tensor.data_type) in _ONNX_REAL or name in biases)
    )
    return GraphCost(parameters, sum(_onnx_macs(node, shapes) for node in graph.node))


def _onnx_macs(node: Any, shapes: dict[str, list[int]]) -> int:
    def shape(name: str) -> list[int]:
        return shapes.get(name, [])

    kind = node.op_type
    if kind in _ONNX_FILTERS:
        return _size(shape(node.output[0])) * _size(shape(node.input[_ONNX_FILTERS[kind]])[1:])
    if kind == "ConvTranspose":
        return _size(shape(node.input[0])) * _size(shape(node.input[1])[1:])
    if kind == "Gemm":
        filters = shape(node.input[1])
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        return _size(shape(node.output[0])) * (filters[-1] if turned else filters[0])
    if kind in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return _size(shape(node.output[0])) * (shape(node.input[0]) or [0])[-1]
    if kind in ("LSTM", "GRU", "RNN"):
        steps = (shape(node.input[0]) or [0])[0]
        return steps * (_size(shape(node.input[1])) + _size(shape(node.input[2])))
    return 0


def _size(shape: Any) -> int:
    return math.prod(int(side) for side in shape)


_COUNTERS: dict[str, Callable[[Path], GraphCost]] = {"tflite": _count_tflite, "onnx": _count_onnx}
