"""A TFLite model as operations and tensors whose numbers can be read and written.

Every quantization of ours works on this form: batch norms are folded, activations are fused, and what came from Keras,
SavedModel or ONNX looks alike. Only the first subgraph is looked at; who asks refuses loops, which have more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.slim import pack_model, unpack_model

Array = NDArray[Any]
# operations with weights, and the axis of the weights that is the output's channel
WEIGHT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
# which of an operation's inputs are its data, its weights and its biases
_WEIGHTED_INPUTS = {"TRANSPOSE_CONV": (2, 1, 3)}
_FLOAT32, _INT32 = 0, 2  # schema.TensorType


@dataclass(frozen=True, slots=True)
class Step:
    """One operation. kind: as the schema calls it ("CONV_2D"). inputs, outputs: tensor numbers, -1 where one is left out.
    options: the schema's table of its settings, None where it has none.
    """

    number: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    @property
    def weighted(self) -> tuple[int, int, int] | None:
        """(data, weights, biases) as tensor numbers, biases -1 where there are none; None for an operation without weights."""
        if self.kind not in WEIGHT_AXIS:
            return None
        at = _WEIGHTED_INPUTS.get(self.kind, (0, 1, 2))
        data, weights, biases = (self.inputs[i] if i < len(self.inputs) else -1 for i in at)
        return data, weights, biases


class TFLiteGraph:
    """What a flatbuffer holds, to be changed and packed again."""

    def __init__(self, flatbuffer: bytes) -> None:
        self.model = unpack_model(flatbuffer)
        self._graph = self.model.subgraphs[0]
        names = _builtin_names()
        codes = [
            names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
            for code in self.model.operatorCodes
        ]
        self.steps = tuple(
            Step(
                number,
                codes[operator.opcodeIndex],
                tuple(int(t) for t in operator.inputs),
                tuple(int(t) for t in operator.outputs),
                operator.builtinOptions,
            )
            for number, operator in enumerate(self._graph.operators)
        )

    # -- wiring

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        return tuple(int(t) for t in self._graph.inputs)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        return tuple(int(t) for t in self._graph.outputs)

    @cached_property
    def maker(self) -> dict[int, Step]:
        """The operation that makes each computed tensor."""
        return {tensor: step for step in self.steps for tensor in step.outputs}

    @cached_property
    def readers(self) -> dict[int, list[Step]]:
        """The operations that read each tensor."""
        readers: dict[int, list[Step]] = {}
        for step in self.steps:
            for tensor in dict.fromkeys(step.inputs):
                readers.setdefault(tensor, []).append(step)
        return readers

    def weighted(self) -> Iterator[Step]:
        """Operations whose weights are constants of the file."""
        for step in self.steps:
            wired = step.weighted
            if wired is not None and self.constant(wired[1]) is not None:
                yield step

    def signature_names(self) -> dict[int, str]:
        """What the file's first signature calls inputs and outputs, by tensor; none where it has no signature."""
        return {
            int(entry.tensorIndex): bytes(entry.name).decode("utf-8", "replace")
            for signature in (self.model.signatureDefs or ())[:1]
            for entry in (*signature.inputs, *signature.outputs)
        }

    def silus(self) -> Iterator[tuple[Step, Step]]:
        """(gate, product) of every x * sigmoid(x) whose sigmoid nothing else reads."""
        for gate in self.steps:
            products = self.readers.get(gate.outputs[0], []) if gate.kind == "LOGISTIC" else []
            if [product.kind for product in products] != ["MUL"]:
                continue
            if set(products[0].inputs) == {gate.inputs[0], gate.outputs[0]}:
                yield gate, products[0]

    def activations(self) -> list[int]:
        """Float tensors that are given or computed, in the order in which they come about."""
        made = [*self.inputs, *(tensor for step in self.steps for tensor in step.outputs)]
        return [tensor for tensor in made if tensor >= 0 and self.tensor(tensor).type == _FLOAT32]

    # -- tensors

    def tensor(self, number: int) -> Any:
        return self._graph.tensors[number]

    def name(self, number: int) -> str:
        return bytes(self.tensor(number).name or b"").decode("utf-8", "replace")

    def shape(self, number: int) -> tuple[int, ...]:
        shape = self.tensor(number).shape
        return () if shape is None else tuple(int(side) for side in shape)

    def is_float(self, number: int) -> bool:
        """Whether a tensor is float32."""
        return bool(self.tensor(number).type == _FLOAT32)

    def is_constant(self, number: int) -> bool:
        """Whether the file holds a tensor's value."""
        buffer = self.tensor(number).buffer
        return bool(buffer) and self.model.buffers[buffer].data is not None

    def constant(self, number: int) -> Array | None:
        """A tensor's value where the file holds it; a copy. None for what is computed, and for types other than float32,
        float16, int8, int32 and int64.
        """
        if number < 0:
            return None
        tensor = self.tensor(number)
        kind = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 9: np.int8}.get(tensor.type)
        if kind is None or not self.is_constant(number):
            return None
        data = self.model.buffers[tensor.buffer].data
        values: Array = np.frombuffer(np.asarray(data, np.uint8).tobytes(), kind)
        return values.reshape(self.shape(number)).copy()

    def set_constant(self, number: int, values: Array) -> None:
        """Write a constant anew, in a buffer of its own: equal tensors may share one. Its type and shape stay."""
        before = self.constant(number)
        if before is None or before.shape != values.shape:
            raise ValueError(f"tensor {self.name(number)!r} is no constant of shape {values.shape}")
        self.set_bytes(number, np.ascontiguousarray(values, before.dtype).tobytes())

    def set_bytes(self, number: int, content: bytes) -> None:
        """Give a tensor a buffer of its own with this content."""
        from ai_edge_litert import schema_py_generated as schema

        own = schema.BufferT()
        own.data = np.frombuffer(content, np.uint8)
        self.model.buffers.append(own)
        self.tensor(number).buffer = len(self.model.buffers) - 1

    def add_biases(self, step: Step, values: Array) -> None:
        """Give a layer biases of its own, (O,). `step` and the wiring stay as they were read: read the graph anew."""
        number = self._add_constant(f"{self.name(step.outputs[0])}/biases", values.astype(np.float32))
        operator = self._graph.operators[step.number]
        operator.inputs = np.array([*step.inputs[:2], number], np.int32)

    def slice_instead(self, split: Step) -> None:
        """Put a SLICE for each output that something reads in the place of a SPLIT. As with add_biases(), what was read of the
        graph stays as it was.
        """
        from ai_edge_litert import schema_py_generated as schema

        code = self._add_code("SLICE")
        held = self.constant(split.inputs[0])
        axis = -1 if held is None else int(held.ravel()[0])
        slices, first = [], 0
        for tensor in split.outputs:
            shape = np.array(self.shape(tensor), np.int32)
            begin = np.zeros_like(shape)
            begin[axis] = first
            first += int(shape[axis])
            if tensor not in self.readers and tensor not in self.outputs:
                continue
            made = schema.OperatorT()
            made.opcodeIndex = code
            ends = [
                self._add_constant(f"{self.name(tensor)}/{n}", v)
                for n, v in (("begin", begin), ("size", shape))
            ]
            made.inputs = np.array([split.inputs[1], *ends], np.int32)
            made.outputs = np.array([tensor], np.int32)
            made.builtinOptionsType = schema.BuiltinOptions.SliceOptions
            made.builtinOptions = schema.SliceOptionsT()
            slices.append(made)
        at = next(i for i, o in enumerate(self._graph.operators) if list(o.outputs) == list(split.outputs))
        self._graph.operators[at : at + 1] = slices

    def multiply_instead(self, step: Step, factor: float | None) -> None:
        """Put a product in the place of an operation of one input and output: of the input with `factor`, or with itself. What was
        read of the graph stays.
        """
        from ai_edge_litert import schema_py_generated as schema

        operator = self._graph.operators[step.number]
        operator.opcodeIndex = self._add_code("MUL")
        (given,) = step.inputs
        other = given
        if factor is not None:
            name = f"{self.name(step.outputs[0])}/factor"
            other = self._add_constant(name, np.array([factor], np.float32))
        operator.inputs = np.array([given, other], np.int32)
        operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
        operator.builtinOptions = schema.MulOptionsT()

    def _add_code(self, kind: str) -> int:
        """The number of a new kind of operation, in the version that knows int8."""
        from ai_edge_litert import schema_py_generated as schema

        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 2
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def _add_constant(self, name: str, values: NDArray[np.int32] | NDArray[np.float32]) -> int:
        """The number of a new tensor that holds `values`, of float32 or int32."""
        from ai_edge_litert import schema_py_generated as schema

        tensor = schema.TensorT()
        tensor.name, tensor.shape = name.encode(), np.array(values.shape, np.int32)
        tensor.type = _FLOAT32 if values.dtype == np.float32 else _INT32
        self._graph.tensors.append(tensor)
        self.set_bytes(len(self._graph.tensors) - 1, values.tobytes())
        return len(self._graph.tensors) - 1

    def scales(self, number: int) -> tuple[Array, Array, int] | None:
        """(scales, zero points, axis) of a quantized tensor; None where it is not."""
        found = self.tensor(number).quantization
        if found is None or found.scale is None or len(found.scale) == 0:
            return None
        scale = np.asarray(found.scale, np.float32)
        zero = np.zeros(len(scale), np.int64) if found.zeroPoint is None else np.asarray(found.zeroPoint)
        return scale, np.broadcast_to(zero.astype(np.int64), scale.shape), int(found.quantizedDimension)

    def set_ranges(self, ranges: dict[int, tuple[float, float]]) -> None:
        """Note what values each tensor takes, as the converter's quantizer reads it."""
        from ai_edge_litert import schema_py_generated as schema

        for number, (low, high) in ranges.items():
            noted = schema.QuantizationParametersT()
            noted.min, noted.max = np.array([low], np.float32), np.array([high], np.float32)
            self.tensor(number).quantization = noted

    def leave_out(self, steps: Collection[int], instead: Mapping[int, int]) -> None:
        """Take operations out, by number: who read a tensor of `instead` reads the one it names. As with add_biases(), what
        was read of the graph stays as it was.
        """

        def renamed(tensors: Any) -> Any:
            return np.array([instead.get(int(t), int(t)) for t in tensors], np.int32)

        kept = [o for number, o in enumerate(self._graph.operators) if number not in set(steps)]
        for operator in kept:
            operator.inputs = renamed(operator.inputs)
        self._graph.operators = kept
        self._graph.outputs = renamed(self._graph.outputs)
        for signature in self.model.signatureDefs or ():
            for entry in signature.outputs:
                entry.tensorIndex = instead.get(int(entry.tensorIndex), int(entry.tensorIndex))

    def to_bytes(self) -> bytes:
        """The model as a flatbuffer, without the buffers that nothing points at any more."""
        used = {tensor.buffer for graph in self.model.subgraphs for tensor in graph.tensors}
        used |= {entry.buffer for entry in self.model.metadata or ()}
        for number, buffer in enumerate(self.model.buffers):
            if number not in used:
                buffer.data = None
        return pack_model(self.model)


def along(values: Array, ndim: int, axis: int) -> Array:
    """(N,) values, one a channel, in a shape that multiplies an array of `ndim` sides along `axis`; one value as it is."""
    if values.size == 1:
        return values.reshape([1] * ndim)
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


@cache
def _builtin_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {
        code: name
        for name, code in vars(schema.BuiltinOperator).items()
        if isinstance(code, int) and not name.startswith("_")
    }
