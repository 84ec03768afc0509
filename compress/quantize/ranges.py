"""Narrower int8 ranges around SiLU: the few values far out are cut, so that the many near zero get the steps.

A converter sets a tensor's range by the smallest and largest value it saw. With SiLU (x * sigmoid(x)) that wastes bits twice:
everything below -8 ends as 0 (cutting there costs at most 8 * sigmoid(-8) = 0.0027), and a handful of outliers above set
the step for all: YOLOX-nano's first layer reaches 122 while 99 % of it stays below 18. Cutting at a high percentile is what
other quantizers call percentile calibration. Here it is done on the converted model: scales and zero points of the
tensors around each SiLU change, and the int32 biases of the convolutions that read them with theirs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.slim import pack_model, unpack_model

SILU_FLAT_BELOW = -8.0
SILU_LEAST = -0.2785  # the smallest value of x * sigmoid(x)
PERCENTILE = 99.5
LEAST_CAP = 3.0
_INT8 = 9  # schema.TensorType


@dataclass(frozen=True, slots=True)
class _Silu:
    """Tensor numbers: x is the convolution's output, y = x * sigmoid(x)."""

    x: int
    y: int


class _Graph:
    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model = model
        self.graph = model.subgraphs[0]
        self.ops = schema.BuiltinOperator
        codes = [code.builtinCode for code in model.operatorCodes]
        self.steps = [(codes[o.opcodeIndex], o) for o in self.graph.operators]
        # kernels that only move values: what goes in and what comes out must have one scale
        self.movers = (
            self.ops.PAD,
            self.ops.CONCATENATION,
            self.ops.MAX_POOL_2D,
            self.ops.RESIZE_NEAREST_NEIGHBOR,
            self.ops.RESHAPE,
        )

    def silus(self) -> Iterator[_Silu]:
        """Every x = CONV(..), y = MUL(x, LOGISTIC(x)) in which nothing else reads x."""
        makers = {int(t): code for code, o in self.steps for t in o.outputs}
        readers: dict[int, list[tuple[int, Any]]] = {}
        for code, operator in self.steps:
            for tensor in operator.inputs:
                readers.setdefault(int(tensor), []).append((code, operator))
        convolutions = (self.ops.CONV_2D, self.ops.DEPTHWISE_CONV_2D)
        for code, operator in self.steps:
            if code != self.ops.LOGISTIC:
                continue
            x, gate = int(operator.inputs[0]), int(operator.outputs[0])
            if self.graph.tensors[x].type != _INT8:  # a layer that was left in float
                continue
            others = [(c, o) for c, o in readers[x] if o is not operator]
            if makers.get(x) not in convolutions or len(others) != 1 or len(readers[gate]) != 1:
                continue
            (product_code, product) = others[0]
            if product_code == self.ops.MUL and {int(t) for t in product.inputs} == {x, gate}:
                yield _Silu(x, int(product.outputs[0]))

    def tied(self) -> dict[int, set[int]]:
        """Tensors that must have one scale, as their kernels only move values."""
        sets: dict[int, set[int]] = {}
        for code, operator in self.steps:
            if code not in self.movers:
                continue
            moved = (
                [int(operator.inputs[0])]
                if code != self.ops.CONCATENATION
                else [int(t) for t in operator.inputs]
            )
            together: set[int] = {int(operator.outputs[0]), *moved}
            for tensor in tuple(together):
                together |= sets.get(tensor, set())
            for tensor in together:
                sets[tensor] = together
        return sets

    def moved(self) -> set[int]:
        """Tensors that a kernel only moved there; their range is that of their sources."""
        return {int(o.outputs[0]) for code, o in self.steps if code in self.movers}

    def range(self, tensor: int) -> tuple[float, float]:
        quantization = self.graph.tensors[tensor].quantization
        scale, zero = float(quantization.scale[0]), int(quantization.zeroPoint[0])
        return (-128 - zero) * scale, (127 - zero) * scale

    def set_range(self, tensor: int, low: float, high: float) -> None:
        """Change an activation's scale, and with it the biases of the convolutions that read it."""
        quantization = self.graph.tensors[tensor].quantization
        before, after = float(quantization.scale[0]), (high - low) / 255
        quantization.scale = np.array([after], np.float32)
        quantization.zeroPoint = np.array([int(np.clip(round(-128 - low / after), -128, 127))], np.int64)
        for code, operator in self.steps:
            if (
                code in (self.ops.CONV_2D, self.ops.DEPTHWISE_CONV_2D, self.ops.FULLY_CONNECTED)
                and int(operator.inputs[0]) == tensor
            ):
                self._rescale_bias(int(operator.inputs[2]), before / after)

    def _rescale_bias(self, tensor: int, factor: float) -> None:
        from ai_edge_litert import schema_py_generated as schema

        if tensor < 0:
            return
        bias = self.graph.tensors[tensor]
        values = np.frombuffer(np.asarray(self.model.buffers[bias.buffer].data, np.uint8).tobytes(), np.int32)
        scaled = np.clip(np.round(values * factor), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        bias.quantization.scale = np.asarray(bias.quantization.scale, np.float32) / np.float32(factor)
        # a buffer of its own: equal biases may share one
        own = schema.BufferT()
        own.data = np.frombuffer(scaled.tobytes(), np.uint8)
        self.model.buffers.append(own)
        bias.buffer = len(self.model.buffers) - 1

    def drop_unused_buffers(self) -> None:
        used = {tensor.buffer for graph in self.model.subgraphs for tensor in graph.tensors}
        used |= {entry.buffer for entry in self.model.metadata or ()}
        for number, buffer in enumerate(self.model.buffers):
            if number not in used:
                buffer.data = None


def narrow_silu_ranges(flatbuffer: bytes, inputs: Iterable[NDArray[np.float32]]) -> tuple[bytes, int]:
    """A TFLite int8 model with narrower ranges around its SiLUs; and how many of them there are.

    inputs: some calibration inputs (1, ...) as the float network takes them. A model without SiLU comes back as it is.
    """
    graph = _Graph(unpack_model(flatbuffer))
    silus = list(graph.silus())
    if not silus:
        return flatbuffer, 0
    caps = _caps(flatbuffer, [s.x for s in silus], inputs)
    wanted = {s.y: min(caps[s.x], graph.range(s.y)[1]) for s in silus}
    tied, moved = graph.tied(), graph.moved()
    for silu in silus:
        graph.set_range(
            silu.x, max(SILU_FLAT_BELOW, graph.range(silu.x)[0]), min(caps[silu.x], graph.range(silu.x)[1])
        )
    done: set[int] = set()
    for silu in silus:
        together = tied.get(silu.y, {silu.y})
        if silu.y in done:
            continue
        done |= together
        others = together - wanted.keys()
        high = max(
            [wanted[t] for t in together if t in wanted]
            + [graph.range(t)[1] for t in others if t not in moved]
        )
        low = min([SILU_LEAST, *(graph.range(t)[0] for t in others)])
        for tensor in together:
            graph.set_range(tensor, low, high)
    graph.drop_unused_buffers()
    return pack_model(graph.model), len(silus)


def _caps(flatbuffer: bytes, tensors: list[int], inputs: Iterable[NDArray[np.float32]]) -> dict[int, float]:
    """For each tensor the percentile of its values over `inputs`, run on the model as it is."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that looking at every tensor takes
        runner = Interpreter(model_content=flatbuffer, experimental_preserve_all_tensors=True)
    runner.allocate_tensors()
    spec = runner.get_input_details()[0]
    scale, zero = spec["quantization"]
    seen: dict[int, list[float]] = {tensor: [] for tensor in tensors}
    for values in inputs:
        runner.set_tensor(spec["index"], np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8))
        runner.invoke()
        for tensor in tensors:
            seen[tensor].append(float(np.percentile(runner.get_tensor(tensor), PERCENTILE)))
    details = {d["index"]: d["quantization"] for d in runner.get_tensor_details()}
    caps = {}
    for tensor, steps in seen.items():
        scale, zero = details[tensor]
        caps[tensor] = max(LEAST_CAP, (float(np.mean(steps)) - zero) * scale)
    return caps
