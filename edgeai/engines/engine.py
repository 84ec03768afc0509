"""The interface of every inference engine: named arrays in, named arrays out. An engine never knows boxes."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from edgeai.errors import TensorError
from edgeai.types import Array, TensorSpec

T = TypeVar("T")

Fill: TypeAlias = Callable[[Array], None]
"""Writes one input straight into the engine's own memory, an array of the spec's shape and dtype."""


class Engine(ABC):
    """A loaded model. Engines are not thread-safe: one thread at a time, each thread its own.

    inputs, outputs: the specs of its tensors, in the model's order, for one input at a time. max_batch: how many
    `invoke_batch` runs at once; more are run one batch after another.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = 1

    @abstractmethod
    def invoke(self, fill: Mapping[str, Fill]) -> dict[str, Array]:
        """Let each `fill[name]` write its input, run, and return the outputs as arrays that the caller owns.

        Every input has exactly one fill. Raises EngineError where the native call fails.
        """

    def read(self, fill: Mapping[str, Fill], take: Callable[[Mapping[str, Array]], T]) -> T:
        """As `invoke`, but give what `take` makes of the outputs, which are the engine's own memory where it has such: `take`
        copies what it keeps, and may not call the engine.
        """
        return take(self.invoke(fill))

    def invoke_batch(self, fills: Sequence[Mapping[str, Fill]]) -> list[dict[str, Array]]:
        """As `invoke` for each of `fills`, in their order; at most `max_batch` of them where that is above 1."""
        return [self.invoke(fill) for fill in fills]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run on whole arrays of each spec's shape and dtype.

        Raises TensorError for a missing, unknown, misshapen or mistyped input.
        """
        self.check(inputs)
        return self.invoke({name: _copy_of(array) for name, array in inputs.items()})

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Raise TensorError unless `inputs` fit the specs."""
        names = {spec.name for spec in self.inputs}
        if names != set(inputs):
            raise TensorError(f"the model's inputs are {sorted(names)}, given were {sorted(inputs)}")
        for spec in self.inputs:
            array = inputs[spec.name]
            if tuple(array.shape) != spec.shape or array.dtype != np.dtype(spec.dtype):
                raise TensorError(
                    f"input {spec.name!r} must be {spec.shape} {spec.dtype}, got {tuple(array.shape)} {array.dtype}"
                )

    def reset(self) -> None:
        """Forget what a streaming model remembers of earlier inputs."""

    def bare_call(self) -> Callable[[], object]:
        """One run of the native library on whatever its inputs hold: what this class's own cost is measured against."""
        nothing: dict[str, Fill] = {spec.name: lambda target: None for spec in self.inputs}
        return lambda: self.invoke(nothing)

    def bare_loop(self) -> Callable[[], object] | None:
        """What anyone writes around that call to use it: ready arrays in, arrays out. None where the call is that already."""
        return None

    def close(self) -> None:
        """Free what the engine holds; safe to call twice."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def _copy_of(array: Array) -> Fill:
    def fill(target: Array) -> None:
        np.copyto(target, array)

    return fill
