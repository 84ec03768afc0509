"""One operation of a float TFLite graph as its converter sees it: tensors that are Keras', constants that are numpy's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.quantize.graph import Array, Step, TFLiteGraph

# schema.ActivationFunctionType
_FUSED = {1: "relu", 3: "relu6", 4: "tanh"}


class ImportedError(Exception):
    """An operation does what no layer does; its message says what. Never leaves compress.imports."""


@dataclass(frozen=True)
class GraphStep:
    """known: Keras tensors by number, of what is given and made so far. counts: of layers by kind, for their names."""

    step: Step
    graph: TFLiteGraph
    known: Mapping[int, Any]
    counts: Counter[str]

    @property
    def options(self) -> Any:
        """The schema's table of its settings."""
        return self.step.options

    @property
    def count(self) -> int:
        """How many inputs it has."""
        return len(self.step.inputs)

    @property
    def shape_out(self) -> tuple[int, ...]:
        """Of its first output, with the batch of the file."""
        return self.graph.shape(self.step.outputs[0])

    def given(self, at: int) -> bool:
        """Whether an optional input is there."""
        return at < self.count and self.step.inputs[at] >= 0

    def is_data(self, at: int) -> bool:
        """Whether an input is a tensor of the network, and no constant."""
        return self.step.inputs[at] in self.known

    def data(self, at: int) -> Any:
        """A tensor of the network. Raises ImportedError for a constant."""
        number = self.step.inputs[at]
        if number not in self.known:
            raise ImportedError(f"input {at} is a constant")
        return self.known[number]

    def constant(self, at: int) -> Array:
        """Raises ImportedError for what is computed, and for types other than float32, float16, int8, int32 and int64."""
        number = self.step.inputs[at]
        maker = self.graph.maker.get(number)
        if maker is not None and maker.kind == "DEQUANTIZE":  # weights in float16
            number = maker.inputs[0]
        found = self.graph.constant(number)
        if found is None:
            raise ImportedError(f"input {at} is no constant")
        if self.graph.scales(number) is not None:
            raise ImportedError("has weights in integers: import the float model that it was made of")
        return found.astype(np.float32) if found.dtype == np.float16 else found

    def value(self, at: int) -> Any:
        """Either."""
        return self.known[self.step.inputs[at]] if self.is_data(at) else self.constant(at)

    def name(self, kind: str) -> str:
        """Of a layer: conv001, conv002, ..."""
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]:03d}"


# from a step to the Keras tensor of its output, or to a list of several
Operation = Callable[[GraphStep], Any]


def fused(s: GraphStep, y: Any) -> Any:
    """`y` through the activation that the operation has in itself."""
    import keras

    kind = int(getattr(s.options, "fusedActivationFunction", 0) or 0)
    if kind == 0:
        return y
    if kind not in _FUSED:
        raise ImportedError(f"has an activation of kind {kind}")
    return keras.layers.Activation(_FUSED[kind], name=s.name(_FUSED[kind]))(y)
