"""onnxruntime on a GPU, as a stand-in of its module shows it: what it is asked for, where inputs lie, what is said without one."""

from __future__ import annotations

import sys
import types

import numpy as np
import onnxruntime
import pytest
from tiny_bundle import MODELS

from edgeai.engines import EngineHost
from edgeai.engines.onnx import OnnxEngine
from edgeai.engines.onnx_gpu import cuda_provider, tensorrt_provider
from edgeai.errors import EngineError, EngineUnavailableError
from edgeai.profile import load_profile

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


class Runtime(types.SimpleNamespace):
    """The real module on the CPU, which says that it has a GPU."""

    def __init__(self, available=(TENSORRT, CUDA, "CPUExecutionProvider"), falls_back=False):
        names = ("SessionOptions", "ExecutionMode", "GraphOptimizationLevel", "set_default_logger_severity")
        super().__init__(**{name: getattr(onnxruntime, name) for name in names}, __version__="9.9")
        self.available, self.falls_back = available, falls_back
        self.asked, self.updates, self.preloaded = [], 0, 0
        outer = self

        class Value:
            def __init__(self, array, device):
                self.array, self.device = np.array(array), device

            def update_inplace(self, array):
                outer.updates += 1
                self.array[...] = array

        class Session:
            def __init__(self, model, options, *, providers, enable_fallback):
                assert enable_fallback == 0
                outer.asked.append((providers, options))
                self._real = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                self._binding = None

            def get_providers(self):
                asked = outer.asked[-1][0]
                names = [each if isinstance(each, str) else each[0] for each in asked]
                return names[1:] if outer.falls_back else names

            def io_binding(self):
                return Binding(self._real)

            def run_with_iobinding(self, binding):
                binding.run()

            def __getattr__(self, name):
                return getattr(self._real, name)

        class Binding:
            """Input on the device, output in the host's memory."""

            def __init__(self, session):
                self._session, self._inputs, self._out = session, {}, {}

            def bind_ortvalue_input(self, name, value):
                self._inputs[name] = value

            def bind_output(self, name, device, device_id, dtype, shape, address):
                import ctypes

                size = int(np.prod(shape)) * dtype.itemsize
                room = (ctypes.c_char * size).from_address(address)
                self._out[name] = np.ndarray(shape, dtype, buffer=room)

            def run(self):
                feed = {name: value.array for name, value in self._inputs.items()}
                for name, value in zip(self._out, self._session.run(list(self._out), feed), strict=True):
                    self._out[name][...] = value

        self.InferenceSession = Session
        self.OrtValue = types.SimpleNamespace(ortvalue_from_numpy=lambda a, device, number: Value(a, device))

    def get_available_providers(self):
        return list(self.available)

    def preload_dlls(self):
        print("noise of a library")
        self.preloaded += 1


@pytest.fixture
def put(monkeypatch):
    def put(**options):
        runtime = Runtime(**options)
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        return runtime

    return put


def features(seed):
    return {"features": np.random.default_rng(seed).uniform(-1, 1, (1, 10, 8)).astype(np.float32)}


def test_inputs_go_to_the_device_before_each_run(put, capsys):
    with OnnxEngine(MODELS / "keyword.onnx") as engine:
        wanted = [engine.run(features(seed))["scores"] for seed in range(3)]
    runtime = put()
    with OnnxEngine(MODELS / "keyword.onnx", provider=cuda_provider(EngineHost())) as engine:
        for seed in range(3):
            np.testing.assert_array_equal(engine.run(features(seed))["scores"], wanted[seed])
    assert (runtime.updates, runtime.preloaded) == (3, 1)
    assert [each if isinstance(each, str) else each[0] for each in runtime.asked[0][0]] == [
        CUDA,
        "CPUExecutionProvider",
    ]
    assert capsys.readouterr() == ("", "")


def test_what_the_profile_says_reaches_the_provider(tmp_path):
    jetson = EngineHost(profile=load_profile("jetson-orin-nano-8gb"), cache=tmp_path)
    desktop = EngineHost(profile=load_profile("x86-nvidia"), cache=tmp_path)
    assert cuda_provider(jetson).options["arena_extend_strategy"] == "kSameAsRequested"
    assert "arena_extend_strategy" not in cuda_provider(desktop).options
    options = tensorrt_provider(jetson, "int8").options
    assert options["trt_max_workspace_size"] == str(1 << 30)
    assert (options["trt_int8_enable"], options["trt_fp16_enable"]) == ("True", "True")
    assert tensorrt_provider(desktop, "float32").options["trt_fp16_enable"] == "False"
    assert options["trt_engine_cache_path"] == str(tmp_path / "onnxruntime")
    with pytest.raises(EngineUnavailableError, match="a folder to be kept in"):
        tensorrt_provider(EngineHost())


def test_a_small_board_lets_memory_go():
    board = EngineHost(profile=load_profile("jetson-orin-nano-4gb"))
    assert board.small_memory
    assert board.workspace_bytes == 1 << 29
    assert not EngineHost(profile=load_profile("jetson-agx-orin-64gb")).small_memory
    assert not EngineHost().small_memory


@pytest.mark.parametrize("arena", [True, False])
def test_the_arena_is_as_asked(put, arena):
    runtime = put()
    OnnxEngine(MODELS / "keyword.onnx", arena=arena, provider=cuda_provider(EngineHost())).close()
    assert runtime.asked[0][1].enable_cpu_mem_arena == arena


def test_a_build_without_the_provider_is_told(put):
    put(available=("CPUExecutionProvider",))
    with pytest.raises(
        EngineUnavailableError, match=r"onnxruntime 9\.9 here has no CUDA.*edgeai\[onnx-gpu\]"
    ):
        OnnxEngine(MODELS / "keyword.onnx", provider=cuda_provider(EngineHost()))


def test_a_fall_back_to_the_cpu_is_no_gpu(put):
    put(falls_back=True)
    with pytest.raises(EngineUnavailableError, match=r"cannot use CUDA.*fell back to CPUExecutionProvider"):
        OnnxEngine(MODELS / "keyword.onnx", provider=cuda_provider(EngineHost()))


def test_a_file_that_is_no_model_gives_way_with_a_provider_and_is_told_without(put, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no model")
    put()
    with pytest.raises(EngineUnavailableError):
        OnnxEngine(tmp_path / "x.onnx", provider=cuda_provider(EngineHost()))
    with pytest.raises(EngineError, match="cannot open it"):
        OnnxEngine(tmp_path / "x.onnx")
