"""ONNX models through onnxruntime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeai.engines.engine import Engine, Fill
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


class OnnxEngine(Engine):
    """An .onnx file behind the Engine interface, on onnxruntime's CPU provider.

    A dynamic dimension is taken as 1 unless `shapes` gives that input's shape. Inputs are written into buffers that
    onnxruntime reads in place; outputs are fresh arrays. An output's dynamic dimensions show as 0 in its spec.

    Raises EngineUnavailableError without onnxruntime, EngineError for a file that it cannot run.
    """

    def __init__(
        self, path: str | Path, *, threads: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        runtime = _load_runtime()
        self._where = Path(path).name
        if not Path(path).is_file():
            raise EngineError(f"{path}: no such file")
        try:
            session = open_session(runtime, os.fspath(path), threads=threads)
        except Exception as error:  # onnxruntime's own exceptions have no common base but this
            raise EngineError(
                f"{self._where}: onnxruntime cannot open it: {_one_line(error)}",
                next_step="is the file whole and ONNX?",
            ) from None
        self._session: Any = session
        self.inputs = tuple(
            _spec(node, self._where, 1, (shapes or {}).get(node.name)) for node in session.get_inputs()
        )
        self.outputs = tuple(_spec(node, self._where, 0, None) for node in session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        self._feed: dict[str, Array] = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.inputs}

    def invoke(self, fill: Mapping[str, Fill]) -> dict[str, Array]:
        session = self._open()
        for name, buffer in self._feed.items():
            fill[name](buffer)
        try:
            outputs = session.run(self._names, self._feed)
        except Exception as error:  # as above
            raise EngineError(f"{self._where}: onnxruntime failed to run: {_one_line(error)}") from None
        return dict(zip(self._names, outputs, strict=True))

    def bare_call(self) -> Callable[[], object]:
        """The session's own run on ready arrays: what overhead is measured against."""
        session, names, feed = self._open(), self._names, self._feed
        return lambda: session.run(names, feed)

    def close(self) -> None:
        self._session = None
        self._feed = {}

    def _open(self) -> Any:
        if self._session is None:
            raise EngineError(f"{self._where}: the engine is closed")
        return self._session


def open_session(runtime: Any, model: str | bytes, *, threads: int = 1) -> Any:
    """A session of onnxruntime on the CPU, whose int8 says what the model says.

    runtime: the onnxruntime module. model: a path, or the file's content. Raises what onnxruntime raises.

    Without VNNI, x86's integer products of 8 bits add in 16 and saturate: of a Q/DQ model an attention was left 14 dB where
    its file means 35. onnxruntime has slower products for such CPUs, off unless asked for. Where those cannot be had, as of
    weights that several operations share (onnxruntime 1.31), the model runs in float with the roundings of its file.
    """
    options = _options(runtime, threads)
    options.add_session_config_entry("session.x64quantprecision", "1")  # without effect on other CPUs
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:
        options = _options(runtime, threads)
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _options(runtime: Any, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_FATAL_ONLY
    return options


def _load_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailableError(
            f"onnxruntime cannot be imported ({error})", next_step="pip install 'edgeai[onnx]'"
        ) from None
    return onnxruntime


def _spec(node: Any, where: str, dynamic: int, given: tuple[int, ...] | None) -> TensorSpec:
    if node.type not in _DTYPES:
        raise EngineError(f"{where}: tensor {node.name!r} is a {node.type}, only plain tensors are known")
    shape = tuple(size if isinstance(size, int) and size > 0 else dynamic for size in node.shape)
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
