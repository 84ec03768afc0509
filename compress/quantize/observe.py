"""What values the tensors of a TFLite model take on given inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import along
from edgeai.console import progress_bar

Floats = NDArray[np.float32]
Sample = Floats | Mapping[str, Floats]


class Observer:
    """Runs a model and lets every tensor be looked at. flatbuffer: float or quantized, batch as it is in the file."""

    def __init__(self, flatbuffer: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of the memory that looking at every tensor takes
            # without a delegate: what XNNPACK runs as one piece, nobody can look into
            self._runner = Interpreter(
                model_content=flatbuffer,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                num_threads=1,
            )
        self._runner.allocate_tensors()
        self._inputs = self._runner.get_input_details()
        self._details = {d["index"]: d for d in self._runner.get_tensor_details()}
        self._by_name = self._signature_inputs()

    def run(self, sample: Sample) -> None:
        """One pass. sample: as the float network takes it; quantized as the model's inputs say."""
        for detail in self._inputs:
            values = self._value_of(sample, detail)
            self._runner.set_tensor(detail["index"], _stored(values, detail))
        self._runner.invoke()

    def value(self, tensor: int) -> Floats:
        """A tensor after the last pass, as real numbers, of the tensor's shape."""
        stored = self._runner.get_tensor(tensor)
        scales = self._details[tensor]["quantization_parameters"]
        if not len(scales["scales"]):
            real: Floats = stored.astype(np.float32)
            return real
        return real_values(stored, scales["scales"], scales["zero_points"], scales["quantized_dimension"])

    def _value_of(self, sample: Sample, detail: dict[str, Any]) -> Floats:
        if not isinstance(sample, Mapping):
            return np.asarray(sample, np.float32)
        name = self._by_name.get(detail["index"], detail["name"])
        return np.asarray(sample[name], np.float32)

    def _signature_inputs(self) -> dict[int, str]:
        """The name of each input by its number: tensors are called otherwise than the network's inputs."""
        signatures = self._runner.get_signature_list()
        if not signatures:
            return {}
        key = next(iter(signatures))
        runner = self._runner.get_signature_runner(key)
        return {detail["index"]: name for name, detail in runner.get_input_details().items()}


def real_values(integers: NDArray[Any], scales: NDArray[Any], zeros: NDArray[Any], axis: int) -> Floats:
    """What integers stand for: scales and zeros, (1,) or one a channel along `axis`."""
    shifted = integers.astype(np.float64) - along(zeros, integers.ndim, axis)
    return np.ascontiguousarray(shifted * along(scales, integers.ndim, axis), np.float32)


def _stored(values: Floats, detail: dict[str, Any]) -> NDArray[Any]:
    kind, (scale, zero) = detail["dtype"], detail["quantization"]
    if np.issubdtype(kind, np.floating) or not scale:
        return values.astype(kind)
    limits = np.iinfo(kind)
    clipped: NDArray[Any] = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(kind)
    return clipped


def bar_where(shown: bool, description: str, total: int) -> AbstractContextManager[Callable[..., None]]:
    """A progress bar where it is `shown`, else something to call in its place."""
    return progress_bar(description, total) if shown else nullcontext(_advance_nothing)


def _advance_nothing(_: int = 1) -> None: ...
