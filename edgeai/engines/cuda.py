"""CUDA's runtime: the few calls that a TensorRT engine needs, each checked. Never run on a GPU so far.

Through cuda-python where it is installed; else straight through libcudart, which JetPack and TensorRT's wheels bring.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from edgeai.engines.cudart import load_cudart
from edgeai.errors import EngineError, EngineUnavailableError

# values of CUDA's enums (driver_types.h); cuda-python wants them as its enums, libcudart as numbers
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1
_MAJOR, _MINOR = 75, 76
_DRIVER_FAULTS = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorInitializationError")


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """The GPU that engines run on. sm: compute capability as one number (87 is 8.7)."""

    name: str
    sm: int


class Cuda:
    """The calls, over an api that has them as cuda-python's runtime module does: a tuple of the error and the results.

    All raise EngineError with CUDA's name of the fault. Pointers and handles are numbers.
    """

    def __init__(self, api: Any) -> None:
        self._api = api

    def gpu(self) -> GpuFacts:
        """The first GPU. Raises EngineUnavailableError where there is none that the driver gives."""
        count = self._call("cudaGetDeviceCount")
        if not count:
            raise EngineUnavailableError(
                "CUDA sees no GPU", next_step="nvidia-smi tells what the driver sees"
            )
        attribute = _enum(self._api, "cudaDeviceAttr")
        major = self._call("cudaDeviceGetAttribute", attribute(_MAJOR), 0)
        minor = self._call("cudaDeviceGetAttribute", attribute(_MINOR), 0)
        name = self._call("cudaGetDeviceProperties", 0).name
        return GpuFacts(
            bytes(name).split(b"\0", 1)[0].decode("utf-8", "replace"), 10 * int(major) + int(minor)
        )

    def allocate(self, size_bytes: int) -> int:
        """Device memory, for `free`."""
        return int(self._call("cudaMalloc", max(1, size_bytes)))

    def free(self, pointer: int) -> None:
        self._call("cudaFree", pointer)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Host memory that the GPU reads and writes without a copy in between, for `free_pinned`."""
        return int(self._call("cudaHostAlloc", max(1, size_bytes), 0))

    def free_pinned(self, pointer: int) -> None:
        self._call("cudaFreeHost", pointer)

    def new_stream(self) -> int:
        """A stream that does not wait for the default one, for `drop_stream`."""
        return int(self._call("cudaStreamCreateWithFlags", _NON_BLOCKING))

    def drop_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def to_device(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        self._copy(device, host, size_bytes, _HOST_TO_DEVICE, stream)

    def to_host(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        self._copy(host, device, size_bytes, _DEVICE_TO_HOST, stream)

    def wait(self, stream: int) -> None:
        """Until all that was asked of the stream is done; what went wrong on the way is raised here."""
        self._call("cudaStreamSynchronize", stream)

    def record(self, stream: int, work: Callable[[], None]) -> int:
        """What `work` asks of the stream, as a graph that `replay` runs at once; for `drop_graph`."""
        mode = _enum(self._api, "cudaStreamCaptureMode")(_CAPTURE_THREAD_LOCAL)
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException:
            self._api.cudaStreamEndCapture(stream)  # a stream left recording would refuse all further work
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiateWithFlags", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def replay(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def drop_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _copy(self, to: int, start: int, size_bytes: int, kind: int, stream: int) -> None:
        self._call("cudaMemcpyAsync", to, start, size_bytes, _enum(self._api, "cudaMemcpyKind")(kind), stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *results = getattr(self._api, name)(*arguments)
        if int(error) != 0:
            told = self._name_of(error)
            if told in _DRIVER_FAULTS:
                raise EngineUnavailableError(
                    f"CUDA has no usable driver ({told})", next_step="nvidia-smi tells what the driver sees"
                )
            raise EngineError(f"{name} failed: {told}")
        return results[0] if results else None

    def _name_of(self, error: Any) -> str:
        _, name = self._api.cudaGetErrorName(error)
        return bytes(name).decode("ascii", "replace") if name else f"CUDA error {int(error)}"


@cache
def load_cuda() -> Cuda:
    """CUDA's runtime. Raises EngineUnavailableError without cuda-python and libcudart, or without a driver."""
    api = _cuda_python() or load_cudart()
    try:
        cuda = Cuda(api)
        cuda.gpu()
    except RuntimeError as error:  # cuda-python before 12.8 says so of a machine without a driver
        raise EngineUnavailableError(
            f"CUDA has no usable driver ({error})", next_step="nvidia-smi tells what the driver sees"
        ) from None
    return cuda


def _cuda_python() -> Any:
    for module in ("cuda.bindings.runtime", "cuda.cudart"):
        with contextlib.suppress(Exception):  # absent, or of another CUDA than the driver's
            return import_module(module)
    return None


def _enum(api: Any, name: str) -> Callable[[int], Any]:
    made: Callable[[int], Any] = getattr(api, name, int)
    return made
