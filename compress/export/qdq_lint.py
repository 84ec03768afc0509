"""What TensorRT will not take of an ONNX file with Q/DQ, found before a builder is asked: some of it parses and fails late,
some of it builds and runs in float without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.export.onnx_qdq import PRODUCTS, channel_axis
from edgeai.errors import PassError, first_line

LEAST_OPSET = 13  # per-channel Q/DQ
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Fault:
    """rule: a short name; node: which one; text: what is wrong with it and what would be right."""

    rule: str
    node: str
    text: str


def lint_qdq(content: bytes) -> list[Fault]:
    """Every fault of an ONNX model; an empty list where TensorRT should take it.

    Raises PassError for a file that is no ONNX model.
    """
    return list(_Linter(_load(content)).faults())


def _load(content: bytes) -> Any:
    import onnx

    try:
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker each raise their own
        raise PassError(f"no valid ONNX model: {first_line(error)[:200]}") from error
    return model


class _Linter:
    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self._model, self._graph = model, model.graph
        self._values = {i.name: numpy_helper.to_array(i) for i in self._graph.initializer}
        self._values |= {
            node.output[0]: numpy_helper.to_array(node.attribute[0].t)
            for node in self._graph.node
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
        }
        self._maker = {name: node for node in self._graph.node for name in node.output}

    def faults(self) -> Iterator[Fault]:
        yield from self._whole_model()
        quantized = [node for node in self._graph.node if node.op_type in _QUANTIZERS]
        if not quantized:
            yield Fault("no-qdq", "", "no QuantizeLinear or DequantizeLinear: everything would run in float")
        for node in quantized:
            yield from self._quantizer(node)
        for node in self._graph.node:
            if node.op_type in PRODUCTS and quantized:
                yield from self._product(node)

    def _whole_model(self) -> Iterator[Fault]:
        opset = max((o.version for o in self._model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        if opset < LEAST_OPSET:
            yield Fault("opset", "", f"opset {opset}: Q/DQ by channel need {LEAST_OPSET} or newer")
        constants = {i.name for i in self._graph.initializer}
        for given in self._graph.input:
            if given.name in constants:
                continue
            sides = given.type.tensor_type.shape.dim
            # the first is the batch, for which a plan is built with a profile
            if any(not side.HasField("dim_value") or side.dim_value < 1 for side in sides[1:]):
                text = f"input {given.name!r} has a free side: only its first may be, the batch"
                yield Fault("free-shape", given.name, text)

    def _quantizer(self, node: Any) -> Iterator[Fault]:
        name = node.name or node.output[0]
        scale = self._values.get(node.input[1])
        if scale is None:
            yield Fault("scale", name, "its scale is computed; TensorRT wants a constant")
        elif not (np.isfinite(scale).all() and (scale > 0).all()):
            yield Fault("scale", name, "a scale is not a positive number")
        zero = self._values.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if len(node.input) > 2 and node.input[2] and zero is None:
            yield Fault("zero-point", name, "its zero point is computed; TensorRT wants the constant 0")
        # without one, ONNX means uint8 for QuantizeLinear
        kind = zero.dtype if zero is not None else self._stored_kind(node)
        if zero is not None and np.any(zero != 0):
            yield Fault(
                "asymmetric", name, f"zero point {zero.ravel()[0]}: TensorRT wants 0, symmetric ranges"
            )
        if kind == np.int32 and node.op_type == "DequantizeLinear":
            yield Fault(
                "int32-bias", name, "an int32 bias behind a DequantizeLinear: biases have to be float"
            )
        elif kind is not None and kind != np.int8:
            yield Fault("type", name, f"{kind}: TensorRT takes int8 only")

    def _stored_kind(self, node: Any) -> Any:
        if node.op_type == "QuantizeLinear":
            return np.dtype(np.uint8)
        stored = self._values.get(node.input[0])
        return None if stored is None else stored.dtype

    def _product(self, node: Any) -> Iterator[Fault]:
        name = node.name or node.output[0]
        data, weights = (self._maker.get(node.input[at]) for at in (0, 1))
        left = [
            what
            for what, maker in (("input", data), ("weights", weights))
            if maker is None or maker.op_type != "DequantizeLinear"
        ]
        if len(left) == 1:
            yield Fault("half", name, f"its {left[0]} have no Q/DQ and the other has: it would run in float")
        if weights is not None and weights.op_type == "DequantizeLinear":
            yield from self._channels(node, weights, name)
        if len(node.input) > 2 and node.input[2]:
            bias = self._maker.get(node.input[2])
            if bias is not None and bias.op_type in _QUANTIZERS:
                yield Fault("int32-bias", name, "its bias is quantized: biases have to be float")

    def _channels(self, node: Any, weights: Any, name: str) -> Iterator[Fault]:
        """Whether the weights' scales lie along the output channels."""
        scale = self._values.get(weights.input[1])
        if scale is None or scale.size == 1:
            return
        axis = next((a.i for a in weights.attribute if a.name == "axis"), 1)
        wanted = channel_axis(node)
        if axis != wanted:
            text = (
                f"scales along axis {axis} of the weights: TensorRT wants the output channels, axis {wanted}"
            )
            yield Fault("axis", name, text)
