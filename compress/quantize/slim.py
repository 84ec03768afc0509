"""TFLite files without what is written many times over: the same numbers, in fewer bytes.

An int8 file of a small network is half description: every channel of every weight and bias has a zero point of eight bytes
that is 0, and a fused operation's tensor is named after all the operations that went into it. A flatbuffer may point at one
vector from many places, so equal vectors and strings are written once here, and names end with their first operation.
Nothing else changes: every weight, scale and operator is the same, and so is every output, to the bit.
"""

from __future__ import annotations

from typing import Any

import flatbuffers  # type: ignore[import-untyped, unused-ignore]
import numpy as np
from numpy.typing import NDArray

IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of weights, as the schema asks: kernels read them where they lie
MAX_BYTES = 2**30  # the builder grows by doubling, and a flatbuffer ends at 2 GiB
MAX_NAME = 60


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc, unused-ignore]
    """Writes what it has written before as a reference to it."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 (the library's name)
        # weights: the converter wrote equal ones once, and kernels may key on where they lie
        if x.dtype == np.uint8:
            return self._aligned(x.tobytes())
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        content = s.encode(encoding, errors) if isinstance(s, str) else bytes(s)
        key = ("string", content)
        if key not in self._written:
            self._written[key] = super().CreateString(content)
        return self._written[key]

    def _aligned(self, content: bytes) -> int:
        self.StartVector(1, len(content), ALIGNMENT)
        self.head -= len(content)
        self.Bytes[self.head : self.head + len(content)] = content
        return int(self.EndVector())


def slim_tflite(flatbuffer: bytes) -> bytes:
    """The same model in fewer bytes. What is too large for the builder (1 GiB) comes back as it is."""
    if len(flatbuffer) > MAX_BYTES:
        return flatbuffer
    model = unpack_model(flatbuffer)
    for graph in model.subgraphs:
        ends = {int(tensor) for tensor in (*graph.inputs, *graph.outputs)}
        taken = {graph.tensors[number].name for number in ends}
        for number, tensor in enumerate(graph.tensors):
            if number not in ends and tensor.name is not None:  # those of inputs and outputs are looked up
                tensor.name = _unlike(tensor.name.split(b";")[0][:MAX_NAME], taken)
                taken.add(tensor.name)
    return pack_model(model)


def _unlike(name: bytes, taken: set[bytes]) -> bytes:
    """`name`, numbered where it is taken: other tools tell tensors apart by their names (tf2onnx, onnx2tf)."""
    if name not in taken:
        return name
    number = 2
    while (numbered := b"%s_%d" % (name, number)) in taken:
        number += 1
    return numbered


def unpack_model(flatbuffer: bytes) -> Any:
    """A schema_py_generated.ModelT, to be changed and packed again."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))


def pack_model(model: Any) -> bytes:
    """A schema_py_generated.ModelT as a flatbuffer, equal vectors and strings written once."""
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())
