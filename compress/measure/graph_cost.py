"""Parameters and multiply-accumulates, counted in an engine file's own graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.bench.graph import count_tflite
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
    except (OSError, EngineError):
        raise
    except Exception as error:  # protobuf has a dozen ways to fall over a broken file
        raise EngineError(f"{path}: its graph cannot be read: {type(error).__name__}: {error}") from error


def _count_tflite(path: Path) -> GraphCost:
    work = count_tflite(path)
    return GraphCost(work.parameters, work.macs)


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
