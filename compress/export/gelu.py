"""GELU in operations that ONNX has had for long: its own came with opset 20, and tf2onnx knows none."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

UNKNOWN = "TFL_GELU"  # what tf2onnx calls a TFLite operation that it does not know


def write_out_gelus(proto: Any, approximate: Collection[str] = ()) -> None:
    """Put x (1 + erf(x / sqrt 2)) / 2 in the place of every GELU of an ONNX model (Hendrycks & Gimpel 2016, section 2), or
    x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 for those whose outputs are in `approximate`.
    """
    nodes = list(proto.graph.node)
    if not any(node.op_type == UNKNOWN for node in nodes):
        return
    del proto.graph.node[:]
    for node in nodes:
        if node.op_type != UNKNOWN:
            proto.graph.node.append(node)
            continue
        written = _Gelu(proto.graph, node.input[0], node.output[0])
        if node.output[0] in approximate:
            written.by_tanh()
        else:
            written.by_erf()


class _Gelu:
    def __init__(self, graph: Any, given: str, made: str) -> None:
        self._graph, self._x, self._made, self._count = graph, given, made, 0

    def by_erf(self) -> None:
        self._gate(self._node("Erf", self._node("Mul", self._x, 1 / math.sqrt(2))))

    def by_tanh(self) -> None:
        cubed = self._node("Mul", self._node("Mul", self._node("Mul", self._x, self._x), self._x), 0.044715)
        self._gate(
            self._node("Tanh", self._node("Mul", self._node("Add", cubed, self._x), math.sqrt(2 / math.pi)))
        )

    def _gate(self, signed: str) -> None:
        half = self._node("Mul", self._node("Add", signed, 1.0), 0.5)
        self._node("Mul", self._x, half, out=self._made)

    def _node(self, kind: str, *given: str | float, out: str = "") -> str:
        from onnx import helper

        out = out or self._name()
        inputs = [one if isinstance(one, str) else self._constant(one) for one in given]
        self._graph.node.append(helper.make_node(kind, inputs, [out], name=f"{out}/{kind}"))
        return out

    def _constant(self, value: float) -> str:
        import numpy as np
        from onnx import numpy_helper

        name = self._name()
        self._graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"{self._made}/gelu{self._count}"
