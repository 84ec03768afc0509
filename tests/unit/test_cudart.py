"""CUDA's runtime: the calls over a stand-in library, over the real libcudart and over the real cuda-python, where they are."""

from __future__ import annotations

import ctypes
import importlib
import os
from importlib.util import find_spec

import pytest

from edgeai.engines.cuda import Cuda
from edgeai.engines.cudart import _CALLS, Cudart, load_cudart
from edgeai.errors import EngineError, EngineUnavailableError

REQUIRED = os.environ.get("EDGEAI_REQUIRE_CUDART") == "1"
NO_DRIVER = "CUDA has no usable driver"
USED = {*_CALLS, "cudaStreamEndCapture", "cudaGetErrorName", "cudaGetDeviceProperties"}


class Function:
    restype = None

    def __init__(self, call):
        self._call = call

    def __call__(self, *arguments):
        return self._call(*arguments)


class Library:
    """What ctypes makes of a libcudart: functions that write through pointers."""

    def __init__(self, error=0):
        self.freed = []
        self._error = error
        self.cudaGetErrorName = Function(lambda error: b"cudaErrorBad")

    def __getattr__(self, name):
        def write(out, *rest):
            out._obj.value = {"cudaGetDeviceCount": 1, "cudaMalloc": 4096}.get(name, 8)
            return self._error

        def free(pointer):
            self.freed.append(pointer.value)
            return self._error

        def properties(room, device):
            room.value = b"Orin"
            return self._error

        def end(stream, out):
            out._obj.value = 77
            return self._error

        special = {"cudaFree": free, "cudaGetDeviceProperties": properties, "cudaStreamEndCapture": end}
        if name in special:
            return special[name]
        if isinstance(_CALLS[name][0], tuple):
            return write
        return lambda *given: self._error


def test_libcudart_in_cuda_pythons_shape():
    library = Library()
    cuda = Cuda(Cudart(library))
    assert (cuda.gpu().name, cuda.gpu().sm) == ("Orin", 88)
    pointer = cuda.allocate(16)
    assert pointer == 4096
    cuda.free(pointer)
    assert library.freed == [4096]
    stream = cuda.new_stream()
    assert cuda.record(stream, lambda: cuda.to_device(pointer, 5, 16, stream)) == 8
    cuda.wait(stream)


def test_an_error_has_cudas_name():
    with pytest.raises(EngineError, match="cudaMalloc failed: cudaErrorBad"):
        Cuda(Cudart(Library(error=1))).allocate(16)


def test_an_unknown_function_is_none():
    with pytest.raises(AttributeError):
        _ = Cudart(Library()).cudaMemcpy


def test_no_libcudart_anywhere(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(
        EngineUnavailableError, match=r"neither cuda-python nor libcudart.*pip install cuda-python"
    ):
        load_cudart()


def test_the_real_libcudart_has_every_function_and_says_that_there_is_no_driver():
    try:
        api = load_cudart()
    except EngineUnavailableError:
        assert not REQUIRED
        pytest.skip("no libcudart here")
    assert all(hasattr(api._library, name) for name in USED)
    try:
        Cuda(api).gpu()
    except EngineUnavailableError as error:
        assert NO_DRIVER in str(error)  # on a machine without one


def test_the_real_cuda_python_has_every_function_and_says_that_there_is_no_driver():
    if find_spec("cuda") is None:
        assert not REQUIRED
        pytest.skip("no cuda-python here")
    api = importlib.import_module("cuda.bindings.runtime")
    assert all(hasattr(api, name) for name in USED)
    try:
        Cuda(api).gpu()
    except EngineUnavailableError as error:
        assert NO_DRIVER in str(error)
