"""ONNX models through onnxruntime: on the CPU, or on another of its providers."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.engines.engine import Engine, Fill, T
from edgeai.errors import EngineError, EngineUnavailableError
from edgeai.types import Array, TensorSpec

# onnxruntime's names -> numpy's
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}
_LOG_FATAL_ONLY = 4  # what goes wrong comes as an exception, once


@dataclass(frozen=True, slots=True)
class Provider:
    """What onnxruntime shall run a model on, other than the CPU. name: onnxruntime's own; device: where inputs lie."""

    name: str
    options: Mapping[str, str]
    device: str
    install: str


class OnnxEngine(Engine):
    """An .onnx file behind the Engine interface, on onnxruntime.

    A dynamic dimension is taken as 1 unless `shapes` gives that input's shape; an output's that is called as an input's
    goes with it, any other shows as 0 in its spec. Inputs and outputs are bound once: inputs are written where onnxruntime
    reads them, outputs are copied out of where it writes them. max_batch: inputs to run at once, 1 where the file does
    not leave the first dimension of all its tensors open. arena: let onnxruntime keep memory for its next call. provider: the CPU where None.

    Raises EngineUnavailableError without onnxruntime or where it has not that provider or no device for it, EngineError
    for a file that it cannot run.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        max_batch: int = 1,
        arena: bool = True,
        provider: Provider | None = None,
    ) -> None:
        runtime = check_provider(provider)
        self._where = Path(path).name
        if not Path(path).is_file():
            raise EngineError(f"{path}: no such file")
        try:
            session = open_session(runtime, os.fspath(path), threads=threads, arena=arena, provider=provider)
        except Exception as error:  # onnxruntime's own exceptions have no common base but this
            if provider is not None:
                raise _no_device(provider, _one_line(error)) from None
            raise EngineError(
                f"{self._where}: onnxruntime cannot open it: {_one_line(error)}",
                next_step="is the file whole and ONNX?",
            ) from None
        if provider is not None and session.get_providers()[0] != provider.name:
            raise _no_device(provider, f"it fell back to {session.get_providers()[0]}")
        self._session: Any = session
        self.inputs = tuple(
            _spec(node, self._where, 1, (shapes or {}).get(node.name)) for node in session.get_inputs()
        )
        sizes = _sizes(session.get_inputs(), self.inputs)
        self.outputs = tuple(_spec(node, self._where, 0, None, sizes) for node in session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        nodes = [*session.get_inputs(), *session.get_outputs()]
        self.max_batch = max_batch if not shapes and _has_open_batch(nodes) else 1
        self._rows = {
            s.name: np.zeros((self.max_batch, *s.shape[1:]), s.dtype) for s in self.inputs if s.shape
        }
        self._feed: dict[str, Array] = {
            spec.name: self._rows[spec.name][:1] if self.max_batch > 1 else np.zeros(spec.shape, spec.dtype)
            for spec in self.inputs
        }
        self._on_device: dict[str, Any] = {}
        self._results: dict[str, Array] = {}
        self._binding: Any = self._bind(runtime, provider)

    def invoke(self, fill: Mapping[str, Fill]) -> dict[str, Array]:
        self._run(fill)
        if self._results:
            return {name: buffer.copy() for name, buffer in self._results.items()}
        return dict(zip(self._names, self._binding.copy_outputs_to_cpu(), strict=True))

    def read(self, fill: Mapping[str, Fill], take: Callable[[Mapping[str, Array]], T]) -> T:
        if not self._results:
            return super().read(fill, take)
        self._run(fill)
        return take(self._results)

    def _run(self, fill: Mapping[str, Fill]) -> None:
        session = self._open()
        for name, buffer in self._feed.items():
            fill[name](buffer)
        try:
            for name, value in self._on_device.items():
                value.update_inplace(self._feed[name])
            session.run_with_iobinding(self._binding)
        except Exception as error:  # as above
            raise EngineError(f"{self._where}: onnxruntime failed to run: {_one_line(error)}") from None

    def invoke_batch(self, fills: Sequence[Mapping[str, Fill]]) -> list[dict[str, Array]]:
        session = self._open()
        count = len(fills)
        if count < 2 or self.max_batch == 1:
            return super().invoke_batch(fills)
        for row, fill in enumerate(fills):
            for name, rows in self._rows.items():
                fill[name](rows[row : row + 1])
        try:
            outputs = session.run(self._names, {name: rows[:count] for name, rows in self._rows.items()})
        except Exception as error:  # as above
            raise EngineError(f"{self._where}: onnxruntime failed to run: {_one_line(error)}") from None
        return [
            {name: value[row : row + 1] for name, value in zip(self._names, outputs, strict=True)}
            for row in range(count)
        ]

    def bare_call(self) -> Callable[[], object]:
        """The session's own run on ready arrays, as a plain loop would call it: what overhead is measured against."""
        session, names, feed = self._open(), self._names, self._feed
        return lambda: session.run(names, feed)

    def close(self) -> None:
        self._session = self._binding = None
        self._rows, self._feed, self._on_device, self._results = {}, {}, {}, {}

    def _open(self) -> Any:
        if self._session is None:
            raise EngineError(f"{self._where}: the engine is closed")
        return self._session

    def _bind(self, runtime: Any, provider: Provider | None) -> Any:
        binding = self._session.io_binding()
        for name, buffer in self._feed.items():
            # on the CPU an OrtValue is the array's own memory
            value = runtime.OrtValue.ortvalue_from_numpy(buffer, provider.device if provider else "cpu", 0)
            binding.bind_ortvalue_input(name, value)
            if provider is not None:
                self._on_device[name] = value
        if all(size for spec in self.outputs for size in spec.shape):
            self._results = {spec.name: np.empty(spec.shape, spec.dtype) for spec in self.outputs}
        for spec in self.outputs:
            if self._results:
                room = self._results[spec.name]
                binding.bind_output(spec.name, "cpu", 0, room.dtype, room.shape, room.ctypes.data)
            else:  # of a size that only the run tells
                binding.bind_output(spec.name, "cpu")
        return binding


def open_session(
    runtime: Any,
    model: str | bytes,
    *,
    threads: int = 1,
    arena: bool = True,
    provider: Provider | None = None,
) -> Any:
    """A session of onnxruntime whose int8 says what the model says.

    runtime: the onnxruntime module. model: a path, or the file's content. arena, provider: as of OnnxEngine; what a provider
    cannot run, the CPU does. Raises what onnxruntime raises.

    Without VNNI, x86's integer products of 8 bits add in 16 and saturate: of a Q/DQ model an attention was left 14 dB where
    its file means 35. onnxruntime has slower products for such CPUs, off unless asked for. Where those cannot be had, as of
    weights that several operations share (onnxruntime 1.31), the model runs in float with the roundings of its file.
    """
    providers: list[Any] = ["CPUExecutionProvider"]
    runtime.set_default_logger_severity(_LOG_FATAL_ONLY)
    if provider is not None:
        providers.insert(0, (provider.name, dict(provider.options)))
        if hasattr(
            runtime, "preload_dlls"
        ):  # CUDA and cuDNN out of NVIDIA's wheels, where no system has them
            with contextlib.redirect_stdout(io.StringIO()):
                runtime.preload_dlls()
    options = _options(runtime, threads, arena)
    options.add_session_config_entry("session.x64quantprecision", "1")  # without effect on other CPUs
    try:
        return runtime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception:
        options = _options(runtime, threads, arena)
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return runtime.InferenceSession(model, options, providers=providers, enable_fallback=0)


def _no_device(provider: Provider, reason: str) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"onnxruntime cannot use {provider.name}: {reason}",
        next_step="are the GPU's driver, CUDA and cuDNN there? `edgeai doctor` tells",
    )


def _options(runtime: Any, threads: int, arena: bool) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = _LOG_FATAL_ONLY
    return options


def check_provider(provider: Provider | None) -> Any:
    """The onnxruntime module. Raises EngineUnavailableError where it is not installed or was built without the provider."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError(
            f"onnxruntime cannot be imported ({error})", next_step="pip install 'edgeai[onnx]'"
        ) from None
    if provider is not None and provider.name not in onnxruntime.get_available_providers():
        raise EngineUnavailableError(
            f"onnxruntime {onnxruntime.__version__} here has no {provider.name}", next_step=provider.install
        )
    return onnxruntime


def _sizes(nodes: Sequence[Any], specs: Sequence[TensorSpec]) -> dict[str, int]:
    """{name of a dynamic dimension: what it is taken as} of the inputs."""
    pairs = (
        pair
        for node, spec in zip(nodes, specs, strict=True)
        for pair in zip(node.shape, spec.shape, strict=True)
    )
    return {name: size for name, size in pairs if isinstance(name, str)}


def _has_open_batch(nodes: Sequence[Any]) -> bool:
    """Whether the first dimension of all inputs and outputs is one and the same open one."""
    first = {node.shape[0] if node.shape else None for node in nodes}
    return len(first) == 1 and isinstance(first.pop(), str)


def _spec(
    node: Any,
    where: str,
    dynamic: int,
    given: tuple[int, ...] | None,
    sizes: Mapping[str, int] | None = None,
) -> TensorSpec:
    if node.type not in _DTYPES:
        raise EngineError(f"{where}: tensor {node.name!r} is a {node.type}, only plain tensors are known")
    shape = tuple(
        size if isinstance(size, int) and size > 0 else (sizes or {}).get(size, dynamic)
        for size in node.shape
    )
    if given is not None:
        fits = len(given) == len(shape) and all(
            want == size for want, size in zip(given, node.shape, strict=True) if isinstance(size, int)
        )
        if not fits:
            raise EngineError(f"{where}: input {node.name!r} is {node.shape}, cannot be taken as {given}")
        shape = tuple(given)
    return TensorSpec(node.name, shape, _DTYPES[node.type])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
