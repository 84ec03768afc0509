"""A stand-in for TensorRT and CUDA that has what a release's real bindings have, and not one name more.

Names and signatures come from tests/golden/tensorrt_api.json, recorded from the real bindings. Behind them "device" memory is
host memory, a stream does nothing before it is waited for, a plan is its ONNX file with a header, and it runs in onnxruntime. Every
call is kept in `calls`.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
import types
from pathlib import Path

import numpy as np

TABLE = json.loads((Path(__file__).parent / "golden" / "tensorrt_api.json").read_text())
RELEASES = tuple(sorted(TABLE, key=lambda text: tuple(map(int, text.split(".")))))
_PLAN = b"FAKEPLAN"
_TIMING = b"FAKETIMING"


class Recorded:
    """An object of a recorded class: reading, setting or calling what the release has not is an error."""

    def __init__(self, release, kind, real):
        self.__dict__.update(_release=release, _kind=kind, _real=real)

    def __getattr__(self, name):
        how = self._release.table[self._kind].get(name)
        if how is None:
            raise AttributeError(f"TensorRT {self._release.version}: {self._kind} has no {name}")
        self._release.calls.append(f"{self._kind}.{name}")
        value = getattr(self._real, name)
        return value if how == "property" else self._checked(name, how, value)

    def __setattr__(self, name, value):
        if self._release.table[self._kind].get(name) != "property":
            raise AttributeError(f"TensorRT {self._release.version}: {self._kind} has no {name} to set")
        self._release.calls.append(f"{self._kind}.{name}=")
        setattr(self._real, name, value)

    def __bytes__(self):
        return self._real.content

    @property
    def nbytes(self):
        return len(self._real.content)

    def _checked(self, name, overloads, value):
        def call(*given, **named):
            for parameters in overloads:
                names = [each.rstrip("=") for each in parameters[1:]]
                left = [each for each in parameters[1 + len(given) :] if each.rstrip("=") not in named]
                if (
                    len(given) <= len(names)
                    and set(named) <= set(names[len(given) :])
                    and all(each.endswith("=") for each in left)
                ):
                    return value(*given, **named)
            raise TypeError(
                f"TensorRT {self._release.version}: {self._kind}.{name} is not called so: {given} {named}"
            )

        return call


class FakeTensorRT(types.ModuleType):
    """The module `tensorrt` of a recorded release, for a GPU of FakeCuda."""

    def __init__(
        self, version, cuda, *, dla_cores=0, on_build=None, dla_layers=(), gpu="Fake GPU", pad_bytes=0
    ):
        super().__init__("tensorrt")
        self.version, self.cuda, self.gpu = version, cuda, gpu
        self.__version__ = version
        self.table, self.calls = TABLE[version], []
        self.dla_cores, self.dla_layers = dla_cores, set(dla_layers)
        self.on_build, self.pad_bytes = on_build, pad_bytes
        self.refuse_plans = 0
        for name, members in self.table.items():
            if members and all(isinstance(value, int) for value in members.values()):
                setattr(self, name, enum.IntEnum(name, members))
        for name, maker in (("Builder", _Builder), ("Runtime", _Runtime), ("OnnxParser", _Parser)):
            setattr(self, name, self._class(name, maker))
        (parameters,) = self.table["tensorrt"]["init_libnvinfer_plugins"]
        assert parameters == ["logger", "namespace"]
        self.init_libnvinfer_plugins = lambda logger, namespace: logger.begun
        self.ILogger = _base(
            "ILogger", {"Severity": enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")}
        )
        if "IProgressMonitor" in self.table:
            self.IProgressMonitor = _base("IProgressMonitor", {})

    def new(self, kind, real):
        return Recorded(self, kind, real)

    def _class(self, name, maker):
        def make(*given):
            self.calls.append(name)
            parameters = self.table[name]["__init__"][0]
            assert len(given) == len(parameters) - 1, f"{name} takes {parameters[1:]}"
            return self.new(name, maker(self, *given))

        return make


def _base(name, members):
    def init(self):
        self.begun = True

    return type(name, (), {"__init__": init, **members})


class _Builder:
    def __init__(self, release, logger):
        assert logger.begun, "ILogger.__init__ was not called"
        self._release, self._logger = release, logger
        self.num_DLA_cores = release.dla_cores

    def create_network(self, flags=0):
        return self._release.new("INetworkDefinition", _Network(self._release, flags))

    def create_builder_config(self):
        return self._release.new("IBuilderConfig", _Config(self._release))

    def create_optimization_profile(self):
        return self._release.new("IOptimizationProfile", _Profile())

    def build_serialized_network(self, network, config):
        release, settings = self._release, config._real
        if release.on_build is not None:
            release.on_build()
        monitor = getattr(settings, "progress_monitor", None)
        if monitor is not None and not _show_progress(monitor):
            return None
        if network._real.onnx is None:
            self._logger.log(release.ILogger.Severity.ERROR, "there is no network to build")
            return None
        head = {
            "version": release.version,
            "gpu": release.gpu,
            "pad": "x" * release.pad_bytes,
            "dla": getattr(settings, "DLA_core", -1),
            "flags": sorted(flag.name for flag in settings.set_flags),
            "network": network._real.flags,
            "shapes": {k: [list(s) for s in v] for p in settings.profiles for k, v in p._real.shapes.items()},
        }
        plan = _PLAN + json.dumps(head).encode() + b"\n" + network._real.onnx
        return release.new("IHostMemory", _Memory(plan))


def _show_progress(monitor):
    assert monitor.begun
    monitor.phase_start("Building Engine", None, 2)
    monitor.phase_start("Timing tactics", "Building Engine", 4)
    going = all(monitor.step_complete("Timing tactics", step) for step in range(4))
    monitor.phase_finish("Timing tactics")
    going = going and all(monitor.step_complete("Building Engine", step) for step in range(2))
    monitor.phase_finish("Building Engine")
    return going


class _Memory:
    def __init__(self, content):
        self.content = content


class _Network:
    def __init__(self, release, flags):
        self._release, self.flags, self.onnx = release, flags, None
        self._layers, self._inputs = [], []

    def parsed(self, content):
        import onnx

        model = onnx.load_model_from_string(content)
        self.onnx = content
        constants = {each.name for each in model.graph.initializer}
        for value in model.graph.input:
            if value.name not in constants:
                dims = value.type.tensor_type.shape.dim
                shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
                tensor = types.SimpleNamespace(name=value.name, shape=shape)
                self._inputs.append(self._release.new("ITensor", tensor))
        self._layers = [
            self._release.new("ILayer", types.SimpleNamespace(name=f"{node.op_type} {number}"))
            for number, node in enumerate(model.graph.node)
        ]

    @property
    def num_inputs(self):
        return len(self._inputs)

    def get_input(self, index):
        return self._inputs[index]

    @property
    def num_layers(self):
        return len(self._layers)

    def get_layer(self, index):
        return self._layers[index]


class _Parser:
    def __init__(self, release, network, logger):
        self._release, self._network, self._errors = release, network._real, []

    def parse(self, model, path=None):
        try:
            self._network.parsed(bytes(model))
        except Exception as error:
            self._errors.append(str(error).split("\n")[0])
            return False
        return True

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        text = self._errors[index]
        return self._release.new("ParserError", types.SimpleNamespace(desc=lambda: text))


class _Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, input, min, opt, max):
        self.shapes[input] = (min, opt, max)


class _Config:
    def __init__(self, release):
        self._release = release
        self.set_flags, self.profiles, self.pools = [], [], {}

    def set_flag(self, flag):
        assert isinstance(flag, self._release.BuilderFlag)
        self.set_flags.append(flag)

    def set_memory_pool_limit(self, pool, pool_size):
        self.pools[pool] = pool_size

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def can_run_on_DLA(self, layer):
        return layer.name in self._release.dla_layers

    def create_timing_cache(self, serialized_timing_cache):
        return self._release.new("ITimingCache", _Timing(self._release, bytes(serialized_timing_cache)))

    def set_timing_cache(self, cache, ignore_mismatch):
        return not cache._real.content or cache._real.content.startswith(_timing_of(self._release))


def _timing_of(release):
    return _TIMING + f"{release.version} {release.gpu};".encode()


class _Timing:
    def __init__(self, release, content):
        self._release, self.content = release, content

    def serialize(self):
        known = (
            self.content if self.content.startswith(_timing_of(self._release)) else _timing_of(self._release)
        )
        return self._release.new("IHostMemory", _Memory(known + b"x"))


class _Runtime:
    def __init__(self, release, logger):
        assert logger.begun, "ILogger.__init__ was not called"
        self._release, self._logger = release, logger
        self.DLA_core, self.num_DLA_cores = -1, release.dla_cores

    def deserialize_cuda_engine(self, serialized_engine):
        release = self._release
        content = bytes(serialized_engine)
        head, _, onnx = content.removeprefix(_PLAN).partition(b"\n")
        try:
            facts = json.loads(head)
        except ValueError:
            facts = {}
        if release.refuse_plans > 0:
            release.refuse_plans -= 1
            facts = {}
        if facts.get("dla", -1) != self.DLA_core:
            facts = {}
        if (facts.get("version"), facts.get("gpu")) != (release.version, release.gpu):
            self._logger.log(release.ILogger.Severity.ERROR, "the plan is of another version or device")
            return None
        return release.new("ICudaEngine", _Engine(release, facts, onnx))


class _Engine:
    def __init__(self, release, facts, onnx):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.release, self.facts = release, facts
        self.nodes = {n.name: (n, True) for n in self.session.get_inputs()}
        self.nodes |= {n.name: (n, False) for n in self.session.get_outputs()}

    @property
    def num_io_tensors(self):
        return len(self.nodes)

    def get_tensor_name(self, index):
        return list(self.nodes)[index]

    def get_tensor_mode(self, name):
        mode = self.release.TensorIOMode
        return mode.INPUT if self.nodes[name][1] else mode.OUTPUT

    def get_tensor_location(self, name):
        return self.release.TensorLocation.DEVICE

    def get_tensor_dtype(self, name):
        kinds = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int8)": "INT8"}
        return self.release.DataType[kinds[self.nodes[name][0].type]]

    def get_tensor_shape(self, name):
        return tuple(size if isinstance(size, int) else -1 for size in self.nodes[name][0].shape)

    def get_tensor_profile_shape(self, name, profile_index):
        return [tuple(shape) for shape in self.facts["shapes"][name]]

    def create_execution_context(self):
        return self.release.new("IExecutionContext", _Context(self))


class _Context:
    def __init__(self, engine):
        self._engine, self._shapes, self._addresses = engine, {}, {}

    def set_input_shape(self, name, shape):
        low, _, high = self._engine.facts["shapes"].get(name, [[], [], []])
        if not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self):
        return []

    def get_tensor_shape(self, name):
        node, is_input = self._engine.nodes[name]
        if is_input:
            return self._shapes.get(name, self._engine.get_tensor_shape(name))
        batch = next(iter(self._shapes.values()), (1,))[0]
        return tuple(size if isinstance(size, int) else batch for size in node.shape)

    def set_tensor_address(self, name, memory):
        if not self._engine.release.cuda.owns(memory):
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        assert set(self._addresses) == set(self._engine.nodes), "a tensor has no address"
        self._engine.release.cuda.enqueue(stream_handle, self._run)
        return True

    def _run(self):
        cuda, session = self._engine.release.cuda, self._engine.session
        feed = {}
        for node in session.get_inputs():
            feed[node.name] = cuda.array(
                self._addresses[node.name], self.get_tensor_shape(node.name), node.type
            ).copy()
        names = [node.name for node in session.get_outputs()]
        for name, value in zip(names, session.run(names, feed), strict=True):
            node = self._engine.nodes[name][0]
            cuda.array(self._addresses[name], value.shape, node.type)[...] = value


_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}


class FakeCuda:
    """cuda-python's runtime module over host memory: lazy streams, graphs, and no forgiveness for freed memory."""

    cudaError_t = enum.IntEnum(
        "cudaError_t", {"cudaSuccess": 0, "cudaErrorInvalidValue": 1, "cudaErrorMemoryAllocation": 2}
    )
    cudaMemcpyKind = enum.IntEnum(
        "cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2}
    )
    cudaStreamCaptureMode = enum.IntEnum("cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1})
    cudaDeviceAttr = enum.IntEnum("cudaDeviceAttr", {"major": 75, "minor": 76})

    def __init__(self, *, sm=87, gpu="Fake GPU", limit_bytes=1 << 30):
        self._sm, self._gpu, self._limit = sm, gpu, limit_bytes
        self.memory, self.streams, self.graphs, self.calls = {}, {}, {}, []
        self._recording, self._next = {}, 1000

    def owns(self, pointer):
        return pointer in self.memory

    def array(self, pointer, shape, kind):
        room = self.memory[pointer]
        dtype = np.dtype(_DTYPES[kind])
        assert len(room) >= int(np.prod(shape)) * dtype.itemsize, "more than was allocated"
        return np.ndarray(shape, dtype, buffer=room)

    def enqueue(self, stream, work):
        self._recording.get(stream, self.streams[stream]).append(work)

    def cudaGetDeviceCount(self):
        return self._ok(1)

    def cudaDeviceGetAttribute(self, attr, device):
        assert isinstance(attr, self.cudaDeviceAttr)
        return self._ok(self._sm // 10 if attr == 75 else self._sm % 10)

    def cudaGetDeviceProperties(self, device):
        return self._ok(types.SimpleNamespace(name=self._gpu.encode() + b"\0" * 8))

    def cudaGetErrorName(self, error):
        return self._ok(self.cudaError_t(error).name.encode())

    def cudaMalloc(self, size):
        if size + sum(map(len, self.memory.values())) > self._limit:
            return self.cudaError_t(2), None
        room = (ctypes.c_char * size)()
        self.memory[ctypes.addressof(room)] = room
        return self._ok(ctypes.addressof(room))

    def cudaHostAlloc(self, size, flags):
        return self.cudaMalloc(size)

    def cudaFree(self, pointer):
        return self._ok() if self.memory.pop(pointer, None) is not None else (self.cudaError_t(1),)

    cudaFreeHost = cudaFree

    def cudaStreamCreateWithFlags(self, flags):
        self._next += 1
        self.streams[self._next] = []
        return self._ok(self._next)

    def cudaStreamDestroy(self, stream):
        del self.streams[stream]
        return self._ok()

    def cudaStreamSynchronize(self, stream):
        self.calls.append("cudaStreamSynchronize")
        if stream in self._recording:
            return (self.cudaError_t(1),)
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()
        return self._ok()

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        assert isinstance(kind, self.cudaMemcpyKind)
        self.calls.append("cudaMemcpyAsync")
        if not (
            self.owns(dst) and self.owns(src) and count <= min(len(self.memory[dst]), len(self.memory[src]))
        ):
            return (self.cudaError_t(1),)
        self.enqueue(stream, lambda: ctypes.memmove(dst, src, count))
        return self._ok()

    def cudaStreamBeginCapture(self, stream, mode):
        assert isinstance(mode, self.cudaStreamCaptureMode)
        self._recording[stream] = []
        return self._ok()

    def cudaStreamEndCapture(self, stream):
        self._next += 1
        self.graphs[self._next] = self._recording.pop(stream)
        return self._ok(self._next)

    def cudaGraphInstantiateWithFlags(self, graph, flags):
        self._next += 1
        self.graphs[self._next] = self.graphs[graph]
        return self._ok(self._next)

    def cudaGraphDestroy(self, graph):
        del self.graphs[graph]
        return self._ok()

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, graph, stream):
        self.calls.append("cudaGraphLaunch")
        self.streams[stream].extend(self.graphs[graph])
        return self._ok()

    def _ok(self, *results):
        return (self.cudaError_t(0), *results)


def modules(version, **options):
    """{name: module} of a release and its CUDA, for sys.modules."""
    cuda = FakeCuda()
    package, bindings = types.ModuleType("cuda"), types.ModuleType("cuda.bindings")
    package.__path__ = bindings.__path__ = []
    return {
        "tensorrt": FakeTensorRT(version, cuda, **options),
        "cuda": package,
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": cuda,
    }


def main():
    """python fake_tensorrt.py RELEASE SECONDS PAD_BYTES LOG ARGUMENT...: the edgeai command on such a machine.

    A build takes SECONDS and adds a line to LOG; "building" is said on standard output as it begins.
    """
    import time

    version, seconds, pad_bytes, log, *arguments = sys.argv[1:]

    def build():
        with Path(log).open("a") as file:
            file.write("built\n")
        print("building", flush=True)  # last: who reads it may kill this at once
        time.sleep(float(seconds))

    sys.modules |= modules(version, on_build=build, pad_bytes=int(pad_bytes))
    sys.argv = ["edgeai", *arguments]
    from edgeai.cli import main as edgeai

    return edgeai()


if __name__ == "__main__":
    raise SystemExit(main())
