"""libcudart by ctypes, in cuda-python's shape: for a device that has CUDA and no cuda-python."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

from edgeai.errors import EngineUnavailableError

_SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib")
# NVIDIA's wheels: nvidia/cuda_runtime/lib for CUDA 12, nvidia/cu13/lib for 13
_WHEEL_FOLDERS = ("nvidia/cuda_runtime/lib", "nvidia/cu13/lib")
# more than any release's cudaDeviceProp; all begin with the name, 256 bytes (driver_types.h)
_PROPERTIES_BYTES = 8192
_NAME_BYTES = 256

# function -> types of its arguments, in the header's order; "out" marks the one that it writes, always the first
_OUT_INT, _OUT_POINTER = (c_int, "out"), (c_void_p, "out")
_CALLS: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (_OUT_INT,),
    "cudaDeviceGetAttribute": (_OUT_INT, c_int, c_int),
    "cudaMalloc": (_OUT_POINTER, c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (_OUT_POINTER, c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaStreamCreateWithFlags": (_OUT_POINTER, c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaGraphInstantiateWithFlags": (_OUT_POINTER, c_void_p, c_ulonglong),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphLaunch": (c_void_p, c_void_p),
}


class Cudart:
    """Each function of _CALLS as cuda-python has it: called with the arguments that it reads, it gives the error and what it wrote."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.cudaGetErrorName.restype = c_char_p

    def __getattr__(self, name: str) -> Any:
        types = _CALLS.get(name)
        if types is None:
            raise AttributeError(name)
        function = getattr(self._library, name)
        writes = types[0][0] if isinstance(types[0], tuple) else None
        reads = types[1:] if writes else types

        def call(*arguments: Any) -> tuple[Any, ...]:
            given = [kind(value) for kind, value in zip(reads, arguments, strict=True)]
            if writes is None:
                return (int(function(*given)),)
            out = writes()
            error = int(function(byref(out), *given))
            return error, out.value or 0

        self.__dict__[name] = call
        return call

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, int]:  # noqa: N802 - CUDA's name
        graph = c_void_p()  # the one function that writes its last argument
        error = int(self._library.cudaStreamEndCapture(c_void_p(stream), byref(graph)))
        return error, graph.value or 0

    def cudaGetErrorName(self, error: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, self._library.cudaGetErrorName(c_int(error)) or b""

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802
        room = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        error = int(self._library.cudaGetDeviceProperties(room, c_int(device)))
        return error, _Properties(room.raw[:_NAME_BYTES])


class _Properties:
    def __init__(self, name: bytes) -> None:
        self.name = name


def load_cudart() -> Cudart:
    """Libcudart from the linker's path, CUDA's folder or NVIDIA's wheels. Raises EngineUnavailableError where it is in none."""
    wheels = [Path(place) / folder for place in sys.path if place for folder in _WHEEL_FOLDERS]
    places = [*_SONAMES]
    places += [str(folder / name) for folder in (*map(Path, _FOLDERS), *wheels) for name in _SONAMES]
    for place in places:
        try:
            return Cudart(ctypes.CDLL(place))
        except (OSError, AttributeError):  # absent, or no libcudart
            continue
    raise EngineUnavailableError(
        "there is neither cuda-python nor libcudart",
        next_step="pip install cuda-python, or install CUDA's runtime",
    )
