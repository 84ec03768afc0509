"""TFLite files of one convolution, made on the spot: a device needs no TensorFlow to measure what its CPU can compute."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from edgeai.bench.graph import load_schema

ConvType = Literal["float32", "int8"]
_SCHEMA_VERSION = 3


def conv_model(
    height: int,
    width: int,
    channels_in: int,
    channels_out: int,
    *,
    kernel: int = 1,
    dtype: ConvType,
    seed: int = 0,
    input_scale: float = 1 / 255,
) -> bytes:
    """One CONV_2D of stride `kernel` and no padding over (1, height, width, channels_in), random weights.

    It has height // kernel x width // kernel x channels_out x kernel x kernel x channels_in multiply-accumulates. int8: per
    channel weights, input of `input_scale` and zero point -128. Raises EngineUnavailableError without LiteRT's schema.
    """
    schema = load_schema()
    import flatbuffers  # the schema's own dependency

    random = np.random.default_rng(seed)
    shape = (channels_out, kernel, kernel, channels_in)
    out_shape = (1, height // kernel, width // kernel, channels_out)
    if dtype == "int8":
        kind, bias_kind = schema.TensorType.INT8, schema.TensorType.INT32
        weights = random.integers(-127, 128, shape, dtype=np.int8)
        bias = np.zeros(channels_out, np.int32)
        scales = [1.0 / 127] * channels_out
        # of the order of the sums, so that outputs are not all clipped
        out_scale = input_scale * 8 * float(np.sqrt(kernel * kernel * channels_in))
        tensors = [
            (b"input", (1, height, width, channels_in), kind, 0, _quantization(schema, [input_scale], -128)),
            (b"weights", shape, kind, 1, _quantization(schema, scales, 0)),
            (
                b"bias",
                (channels_out,),
                bias_kind,
                2,
                _quantization(schema, [s * input_scale for s in scales], 0),
            ),
            (b"output", out_shape, kind, 0, _quantization(schema, [out_scale], 0)),
        ]
    else:
        kind = schema.TensorType.FLOAT32
        weights = random.uniform(-1, 1, shape).astype(np.float32)
        bias = np.zeros(channels_out, np.float32)
        tensors = [
            (b"input", (1, height, width, channels_in), kind, 0, None),
            (b"weights", shape, kind, 1, None),
            (b"bias", (channels_out,), kind, 2, None),
            (b"output", out_shape, kind, 0, None),
        ]
    model = _model(schema, tensors, [b"", weights.tobytes(), bias.tobytes()], kernel)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _model(schema: Any, tensors: list[Any], buffers: list[bytes], stride: int) -> Any:
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideH = options.strideW = stride
    options.dilationHFactor = options.dilationWFactor = 1
    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = options
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(schema, *described) for described in tensors]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model = schema.ModelT()
    model.version = _SCHEMA_VERSION
    model.operatorCodes, model.subgraphs = [code], [graph]
    model.buffers = []
    for content in buffers:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8) if content else None
        model.buffers.append(buffer)
    return model


def _tensor(schema: Any, name: bytes, shape: tuple[int, ...], kind: int, buffer: int, quantized: Any) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = name, list(shape), kind
    tensor.buffer, tensor.quantization = buffer, quantized
    return tensor


def _quantization(schema: Any, scales: list[float], zero_point: int) -> Any:
    quantized = schema.QuantizationParametersT()
    quantized.scale, quantized.zeroPoint = scales, [zero_point] * len(scales)
    quantized.quantizedDimension = 0
    return quantized
