"""An int8 TFLite model as ONNX with explicit Q/DQ, as TensorRT reads it: the same weights and ranges, in its terms.

TensorRT takes int8 with a zero point of 0 only, for activations too, and biases in float. So each tensor's range is made
symmetric around 0 (what is never negative loses half of the steps), weights are the TFLite file's own integers, and biases
are what the TFLite file's stand for. A pair of QuantizeLinear and DequantizeLinear stands at each input of a convolution or
matrix product, of a pooling, and of an addition where no such product has just made it: there TensorRT adds in the product's
own accumulator (NVIDIA's guide to explicit quantization).
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.export.gelu import write_out_gelus
from compress.export.onnx import convert_lean, rename_edges
from compress.quantize.dequantize import dequantize
from compress.quantize.graph import TFLiteGraph, along
from compress.quiet import quiet_stderr
from edgeai.errors import PassError, first_line

OPSET = 17
WeightForm = Literal["dq", "qdq"]
# operations with weights, and the axis of the output channel in their second input
PRODUCTS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})
# what lies between a product and the addition that TensorRT fuses with it, and what has the range of its input
_SAME_RANGE = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Tile", "Flatten", "Expand"}
)
_CLAMPS = frozenset({"Clip", "Relu"})
# what tf2onnx makes of several operations at once, and calls <TFLite's name>_<operation>__<number>:0
_RENAMED = frozenset({"Gemm", "Concat"})
_MADE_UP_NAME = re.compile(r"(.+)_[A-Za-z]+__\d+(?::0)?")


def export_qdq(flatbuffer: bytes, *, weights: WeightForm = "dq") -> bytes:
    """ONNX with Q/DQ from an int8 TFLite file.

    weights: "dq", integers in the file, which TensorRT reads from 10 on; "qdq", floats through Q and DQ, for TensorRT 8.5
    (JetPack 5), four times the bytes. Raises PassError where the file is not int8, or holds what ONNX has no operation for.
    """
    return bytes(_with_pairs(flatbuffer, weights)[0].SerializeToString())


def traced_qdq(flatbuffer: bytes) -> tuple[bytes, dict[str, str]]:
    """(the same export with the value behind each pair as an output too, {its name: what the TFLite file calls the tensor})."""
    import onnx

    proto, sources = _with_pairs(flatbuffer, "dq")
    outputs = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sources if name not in outputs)
    return bytes(proto.SerializeToString()), sources


def _with_pairs(flatbuffer: bytes, weights: WeightForm) -> tuple[Any, dict[str, str]]:
    """(ONNX, the TFLite tensor behind each pair)."""
    import onnx

    plain = dequantize(flatbuffer)
    graph = TFLiteGraph(plain.flatbuffer)
    edges = _edge_names(graph)
    proto = _float_onnx(plain.flatbuffer)
    write_out_gelus(
        proto, {graph.name(s.outputs[0]) for s in graph.steps if s.kind == "GELU" and s.options.approximate}
    )
    rename_edges(proto, edges)
    ranges = {edges.get(name, name): found for name, found in plain.ranges.items()}
    pairs = _Pairs(proto, ranges, weights)
    pairs.insert()
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        raise PassError(f"the Q/DQ export made no valid ONNX: {str(error).splitlines()[0][:200]}") from error
    named = {new: old for old, new in edges.items()}
    return proto, {real: named.get(source, source) for real, source in pairs.sources.items()}


def _float_onnx(flatbuffer: bytes) -> Any:
    """The float model by tf2onnx, whose tensors keep TFLite's names."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            path.write_bytes(flatbuffer)
            with quiet_stderr():
                proto = convert_lean(lambda: tf2onnx.convert.from_tflite(str(path), opset=OPSET))
    except Exception as error:  # it raises whatever it likes
        raise PassError(
            f"the ONNX exporter failed: {type(error).__name__}: {first_line(error)[:200]}"
        ) from error
    return proto


def _edge_names(graph: TFLiteGraph) -> dict[str, str]:
    """{tensor: name} of inputs and outputs, as the file's signature calls them."""
    return {graph.name(tensor): name for tensor, name in graph.signature_names().items()}


class _Pairs:
    """Puts the pairs into a model."""

    def __init__(self, proto: Any, ranges: Mapping[str, tuple[float, float]], weights: WeightForm) -> None:
        self._graph = proto.graph
        self._ranges, self._weights = ranges, weights
        self._constants = {i.name: i for i in self._graph.initializer}
        self._maker = {name: node for node in self._graph.node for name in node.output}
        self._readers = Counter(name for node in self._graph.node for name in node.input)
        self._done: dict[str, str] = {}
        self._before: dict[str, list[Any]] = {}
        self.sources: dict[str, str] = {}

    def insert(self) -> None:
        nodes = list(self._graph.node)
        for node in nodes:
            new: list[Any] = []
            for at in self._data_inputs(node):
                node.input[at] = self._paired(node.input[at], new)
            if node.op_type in PRODUCTS and node.input[1] in self._constants:
                node.input[1] = self._paired_weights(node, new)
            self._before[node.name] = new
        del self._graph.node[:]
        for node in nodes:
            self._graph.node.extend([*self._before[node.name], node])
        self._drop_unused()

    def _data_inputs(self, node: Any) -> Iterator[int]:
        if self._weighs_by_softmax(node):
            return
        if node.op_type in PRODUCTS:
            yield 0
            if node.op_type == "MatMul" and node.input[1] not in self._constants:
                yield 1
        elif node.op_type in _POOLS:
            yield 0
        elif node.op_type in ("Add", "Mul", "Concat"):
            made_here = [self._only_for_this(name) for name in node.input]
            fused = made_here.index(True) if node.op_type == "Add" and True in made_here else -1
            yield from (
                at for at, name in enumerate(node.input) if at != fused and name not in self._constants
            )

    def _weighs_by_softmax(self, node: Any) -> bool:
        """Whether it is an attention's second product. A softmax over n is 1 / n on average: of the 127 steps that symmetric int8
        has for 0 to 1, a place in 32 would have 4, and values weighed so come out at 12 dB. The product stays float, as
        the softmax before it does.
        """
        if node.op_type != "MatMul" or node.input[1] in self._constants:
            return False
        return any(self._origin(name) == "Softmax" for name in node.input)

    def _origin(self, name: str) -> str:
        """The operation that made a tensor's values, before changes of shape."""
        while (node := self._maker.get(name)) is not None and node.op_type in _SAME_RANGE:
            name = node.input[0]
        return "" if node is None else str(node.op_type)

    def _only_for_this(self, name: str) -> bool:
        """Whether a product made this tensor, without an activation, and one operation alone reads it."""
        node = self._maker.get(name)
        return node is not None and node.op_type in PRODUCTS and self._readers[name] == 1

    def _source_of(self, name: str) -> str | None:
        """The tensor of the TFLite file whose range this one has: itself, or what a bias, an activation or a change of shape
        made it of.
        """
        while name not in self._ranges:
            node = self._maker.get(name)
            if node is None:
                return None
            made = _MADE_UP_NAME.fullmatch(name) if node.op_type in _RENAMED else None
            if made and made[1] in self._ranges:
                return made[1]
            if not (node.op_type in _SAME_RANGE | _CLAMPS or self._adds_bias(node)):
                return None
            name = node.input[0]
        return name

    def _adds_bias(self, node: Any) -> bool:
        """Whether it is the second half of a dense layer, whose product alone has the name of the layer's output."""
        maker = self._maker.get(node.input[0])
        constant = len(node.input) == 2 and node.input[1] in self._constants
        return node.op_type == "Add" and constant and maker is not None and maker.op_type in PRODUCTS

    def _paired(self, name: str, new: list[Any]) -> str:
        """The tensor behind a Q/DQ pair of its own range; itself where it has none: it stayed float in the TFLite file."""
        from onnx import helper

        if name in self._done:
            return self._done[name]
        source = self._source_of(name)
        low, high = (0.0, 0.0) if source is None else self._ranges[source]
        if source is None or max(-low, high) <= 0:
            return name
        scale = np.float32(max(-low, high) / 127)
        ends = [self._constant(f"{name}/scale", np.array(scale)), self._constant(f"{name}/zero", np.int8(0))]
        quantized, back = f"{name}/int8", f"{name}/real"
        new.append(helper.make_node("QuantizeLinear", [name, *ends], [quantized], name=f"{name}/Q"))
        new.append(helper.make_node("DequantizeLinear", [quantized, *ends], [back], name=f"{name}/DQ"))
        self._done[name] = back
        self.sources[back] = source
        return back

    def _paired_weights(self, node: Any, new: list[Any]) -> str:
        """The weights as integers by output channel behind a DQ, or as floats through Q and DQ."""
        from onnx import helper, numpy_helper

        name = node.input[1]
        if name in self._done:
            return self._done[name]
        values = numpy_helper.to_array(self._constants[name])
        axis = channel_axis(node)
        scale = _channel_scales(values, axis)
        integers = np.clip(np.rint(values / along(scale, values.ndim, axis)), -127, 127).astype(np.int8)
        ends = [
            self._constant(f"{name}/scale", scale),
            self._constant(f"{name}/zero", np.zeros(len(scale), np.int8)),
        ]
        if self._weights == "qdq":
            stored = f"{name}/int8"
            new.append(
                helper.make_node("QuantizeLinear", [name, *ends], [stored], name=f"{name}/Q", axis=axis)
            )
        else:
            stored = self._constant(f"{name}/int8", integers)
        back = f"{name}/real"
        new.append(
            helper.make_node("DequantizeLinear", [stored, *ends], [back], name=f"{name}/DQ", axis=axis)
        )
        self._done[name] = back
        return back

    def _constant(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _drop_unused(self) -> None:
        used = {name for node in self._graph.node for name in node.input}
        kept = [i for i in self._graph.initializer if i.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def channel_axis(node: Any) -> int:
    """The axis of the output channel in the weights of a product."""
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return 0 if transposed else 1
    return PRODUCTS[node.op_type]


def _channel_scales(values: NDArray[Any], axis: int) -> NDArray[np.float32]:
    others = tuple(i for i in range(values.ndim) if i != axis)
    most = np.abs(values).max(others)
    return np.where(most > 0, most / 127, 1.0).astype(np.float32)
