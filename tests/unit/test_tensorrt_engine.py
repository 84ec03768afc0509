"""TensorRT's engine on recorded releases: what it calls, what comes out, what is freed, what is said when it fails."""

from __future__ import annotations

import ast
import os
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import RELEASES, TABLE, FakeCuda, FakeTensorRT
from tiny_bundle import MODELS

from edgeai.engines import tensorrt as module
from edgeai.engines.cuda import Cuda
from edgeai.engines.onnx import OnnxEngine
from edgeai.engines.plans import build as build_module
from edgeai.engines.plans.build import PlanSettings, build_plan, precision_flags
from edgeai.engines.plans.library import has_dla, wrap
from edgeai.engines.tensorrt import PlanRefusedError, TensorrtEngine
from edgeai.errors import EngineError, EngineUnavailableError

KEYWORD = (MODELS / "keyword.onnx").read_bytes()


class Here:
    """A release with its CUDA, and engines on it."""

    def __init__(self, version=RELEASES[-1], *, cuda=None, **options):
        self.cuda = cuda or FakeCuda()
        self.fake = FakeTensorRT(version, self.cuda, **options)
        self.library = wrap(self.fake)

    def build(self, onnx=KEYWORD, settings=None):
        settings = settings or PlanSettings("float32")
        return build_plan(self.library, onnx, settings, name="keyword.onnx", quiet=True)

    def open(self, plan, **options):
        return TensorrtEngine(
            plan, name="keyword.onnx", library=self.library, cuda=Cuda(self.cuda), **options
        )


def features(seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 10, 8)).astype(np.float32)


def answer(inputs):
    with OnnxEngine(MODELS / "keyword.onnx") as engine:
        return engine.run({"features": inputs})["scores"]


def test_the_releases_are_those_that_jetpack_and_pip_bring():
    assert RELEASES == ("8.5.2", "8.6.1", "10.3.0", "10.13.3", "10.16.1", "11.4.0")


@pytest.mark.parametrize("graph", [False, True], ids=["launches", "graph"])
@pytest.mark.parametrize("version", RELEASES)
def test_every_release_runs_and_frees_all(version, graph):
    here = Here(version)
    with here.open(here.build().plan, cuda_graph=graph) as engine:
        for seed in range(4):
            got = engine.run({"features": features(seed)})["scores"]
            np.testing.assert_array_equal(got, answer(features(seed)))
        assert ("cudaGraphLaunch" in here.cuda.calls) == graph
    assert not here.cuda.memory
    assert not here.cuda.streams
    assert not here.cuda.graphs
    with pytest.raises(EngineError, match="closed"):
        engine.run({"features": features()})


@pytest.mark.parametrize("version", RELEASES)
def test_the_calls_of_an_engine_in_their_order(version):
    here = Here(version)
    plan = here.build().plan
    here.fake.calls.clear()
    with here.open(plan) as engine:
        opened = list(here.fake.calls)
        here.fake.calls.clear()
        engine.run({"features": features()})
        assert here.fake.calls == ["IExecutionContext.execute_async_v3"]
        assert here.cuda.calls[-3:] == ["cudaMemcpyAsync", "cudaMemcpyAsync", "cudaStreamSynchronize"]
    tensor = ("ICudaEngine.get_tensor_location", "ICudaEngine.get_tensor_dtype")
    tensor += ("IExecutionContext.get_tensor_shape", "IExecutionContext.set_tensor_address")
    assert opened == [
        *("Runtime", "Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context"),
        *("ICudaEngine.num_io_tensors", *("ICudaEngine.get_tensor_name",) * 2),
        *("ICudaEngine.get_tensor_mode",) * 2,
        *("ICudaEngine.get_tensor_shape", "ICudaEngine.get_tensor_profile_shape"),
        *("IExecutionContext.set_input_shape", "IExecutionContext.infer_shapes"),
        *tensor * 2,
    ]


@pytest.mark.parametrize("version", RELEASES)
def test_the_calls_of_a_build_in_their_order(version):
    here = Here(version)
    here.build(settings=PlanSettings("int8", workspace_bytes=1 << 20))
    flags = ["IBuilderConfig.set_flag"] * (2 if int(version.split(".")[0]) < 11 else 0)
    assert here.fake.calls == [
        *("Builder", "Builder.create_network", "OnnxParser", "OnnxParser.parse"),
        *("Builder.create_builder_config", "IBuilderConfig.set_memory_pool_limit", *flags),
        *("INetworkDefinition.num_inputs", "INetworkDefinition.get_input", "ITensor.name", "ITensor.shape"),
        *(
            "Builder.create_optimization_profile",
            "ITensor.name",
            "ITensor.shape",
            "IOptimizationProfile.set_shape",
        ),
        "IBuilderConfig.add_optimization_profile",
        *("IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache"),
        *("Builder.build_serialized_network", "ITimingCache.serialize"),
    ]


EXPLICIT, STRONG = 1 << 0, 1 << 1


@pytest.mark.parametrize(
    ("version", "precision", "network", "flags"),
    [
        *((v, "int8", EXPLICIT, {"INT8", "FP16"}) for v in RELEASES[:5]),
        *((v, "float16", EXPLICIT, {"FP16"}) for v in RELEASES[:2]),
        *((v, "float32", EXPLICIT, set()) for v in RELEASES[:2]),
        *((v, "float16", STRONG, set()) for v in RELEASES[2:5]),
        *((v, "float32", STRONG, set()) for v in RELEASES[2:5]),
        *((RELEASES[5], p, 0, set()) for p in ("int8", "float16", "float32")),
    ],
)
def test_how_each_release_is_told_of_precisions(version, precision, network, flags):
    here = Here(version)
    got_network, got_flags = precision_flags(here.library, precision)
    assert (got_network, {flag.name for flag in got_flags}) == (network, flags)


@pytest.mark.parametrize("version", RELEASES[2:])
def test_the_stand_in_has_what_the_release_has_and_no_more(version):
    here = Here(version)
    builder = here.fake.Builder(here.library.logger)
    with pytest.raises(AttributeError, match="Builder has no build_engine"):
        _ = builder.build_engine
    with pytest.raises(TypeError, match="create_network is not called so"):
        builder.create_network(0, 1)
    assert hasattr(here.fake.BuilderFlag, "INT8") == (version != "11.4.0")
    assert hasattr(here.fake, "IProgressMonitor")


def names_used(source):
    """Every `trt.A.B` and `flags.B` of a module, as (class, member) pairs."""
    for node in ast.walk(ast.parse(Path(source).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            inner = node.value
            if isinstance(inner.value, ast.Name) and inner.value.id == "trt":
                yield inner.attr, node.attr
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "flags"
        ):
            yield "BuilderFlag", node.attr


def test_every_enum_that_is_used_is_in_every_release_but_those_branched_on():
    used = {pair for source in (module.__file__, build_module.__file__) for pair in names_used(source)}
    branched = {
        ("BuilderFlag", "INT8"),
        ("BuilderFlag", "FP16"),
        ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
    }
    missing = {
        (kind, name)
        for kind, name in used
        if kind in TABLE[RELEASES[0]] and any(name not in TABLE[release][kind] for release in RELEASES)
    }
    assert ("MemoryPoolType", "WORKSPACE") in used
    assert missing - {("IProgressMonitor", "__init__")} == branched


def test_a_plan_of_another_release_is_refused_and_nothing_leaks():
    plan = Here("10.3.0").build().plan
    here = Here("10.13.3")
    with pytest.raises(
        PlanRefusedError, match=r"TensorRT 10\.13\.3 refuses the plan: the plan is of another"
    ) as e:
        here.open(plan)
    assert "\n" not in str(e.value)
    with pytest.raises(PlanRefusedError):
        here.open(b"")
    assert not here.cuda.memory


@pytest.mark.parametrize("limit", [0, 100, 400])
def test_too_little_memory_is_told_and_what_was_taken_is_given_back(limit):
    here = Here(cuda=FakeCuda(limit_bytes=limit))
    with pytest.raises(EngineError, match=r"cuda\w+ failed: cudaErrorMemoryAllocation"):
        here.open(here.build().plan)
    assert not here.cuda.memory
    assert not here.cuda.streams


def test_what_the_parser_says_is_told():
    here = Here()
    with pytest.raises(
        EngineError, match=r"TensorRT 11\.4\.0 cannot parse it: .+; `edgeai-compress trt-check`"
    ):
        here.build(b"no model")


def test_a_release_that_is_too_old(monkeypatch):
    old = FakeTensorRT("8.5.2", FakeCuda())
    old.__version__ = "8.2.1"
    with pytest.raises(EngineUnavailableError, match=r"TensorRT 8\.2\.1 is too old, 8\.5 is the first"):
        wrap(old)


@pytest.mark.parametrize(
    ("version", "there"),
    [((8, 5, 2), True), ((10, 7, 0), True), ((10, 8, 0), False), ((11, 4, 0), False), ((11, 4, 1), True)],
)
def test_which_releases_build_for_a_dla(version, there):
    assert has_dla(version) == there


def layers():
    import onnx

    nodes = onnx.load_model_from_string(KEYWORD).graph.node
    return [f"{node.op_type} {number}" for number, node in enumerate(nodes)]


@pytest.mark.parametrize(
    ("version", "cores", "taken", "note"),
    [
        ("10.3.0", 2, 2, r"2 of \d+ layers run on DLA core 1, the GPU takes "),
        ("10.3.0", 2, None, r"all \d+ layers run on DLA core 1"),
        ("10.3.0", 1, 0, r"there is no DLA core 1 here \(1 are there\): all runs on the GPU"),
        ("10.13.3", 2, 2, r"TensorRT 10\.13\.3 builds for no DLA: all runs on the GPU"),
    ],
)
def test_what_the_dla_leaves_to_the_gpu_is_said(version, cores, taken, note):
    import re

    here = Here(version, dla_cores=cores, dla_layers=layers()[:taken])
    built = here.build(settings=PlanSettings("float16", dla=1))
    assert re.match(note, built.note)
    assert (b"GPU_FALLBACK" in built.plan) == note.startswith(("2 of", "all"))
    with here.open(built.plan, dla=1) as engine:  # on the DLA or, where there is none, on the GPU
        np.testing.assert_array_equal(engine.run({"features": features()})["scores"], answer(features()))


@pytest.mark.parametrize("version", RELEASES)
def test_an_open_batch_gets_a_profile(version):
    here = Here(version)
    shapes = {"features": ((1, 10, 8), (2, 10, 8), (4, 10, 8))}
    plan = here.build(settings=PlanSettings("float32", shapes=shapes)).plan
    with here.open(plan) as engine:
        assert (engine.inputs[0].shape, engine.max_batch) == ((1, 10, 8), 4)
    with here.open(plan, shapes={"features": (3, 10, 8)}) as engine:
        assert (engine.inputs[0].shape, engine.max_batch) == ((3, 10, 8), 1)
        assert engine.outputs[0].shape == (3, 3)
    with pytest.raises(
        EngineError, match=r"input 'features' is \(-1, 10, 8\), cannot be taken as \(9, 10, 8\)"
    ):
        here.open(plan, shapes={"features": (9, 10, 8)})
    with pytest.raises(EngineError, match="no input is called pictures"):
        here.build(settings=PlanSettings("float32", shapes={"pictures": shapes["features"]}))
    assert not here.cuda.memory


@pytest.mark.parametrize("graph", [False, True], ids=["launches", "graph"])
@pytest.mark.parametrize("version", RELEASES)
def test_batches_of_any_size_give_what_each_input_gives(version, graph):
    here = Here(version)
    plan = here.build(settings=PlanSettings("float32", max_batch=4)).plan
    with here.open(plan, cuda_graph=graph) as engine:
        for count in (1, 4, 2, 1, 9, 1, 3):
            given = [features(seed) for seed in range(count)]
            got = engine.invoke_batch([{"features": partial(copy, x)} for x in given])
            assert len(got) == count
            for each, x in zip(got, given, strict=True):
                np.testing.assert_allclose(each["scores"], answer(x), atol=1e-6)
    assert not here.cuda.memory
    assert not here.cuda.graphs


def copy(array, target):
    np.copyto(target, array)


def test_the_bare_call_executes_without_copies():
    here = Here()
    with here.open(here.build().plan) as engine:
        wanted = engine.run({"features": features()})["scores"]
        call = engine.bare_call()
        here.cuda.calls.clear()
        call()
        assert here.cuda.calls == ["cudaStreamSynchronize"]
        np.testing.assert_array_equal(engine.run({"features": features()})["scores"], wanted)
    with pytest.raises(EngineError, match="closed"):
        call()


def test_a_failing_recording_leaves_the_stream_usable(monkeypatch):
    here = Here()
    cuda = Cuda(here.cuda)
    stream = cuda.new_stream()

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cuda.record(stream, fail)
    cuda.wait(stream)


def test_what_no_graph_can_be_made_of_runs_without(monkeypatch, caplog):
    here = Here()
    monkeypatch.setattr(
        here.cuda, "cudaStreamEndCapture", lambda stream: (FakeCuda.cudaError_t(1), None), raising=False
    )
    with here.open(here.build().plan, cuda_graph=True) as engine:
        here.cuda._recording.clear()
        for seed in range(3):
            here.cuda._recording.clear()
            got = engine.run({"features": features(seed)})["scores"]
            np.testing.assert_array_equal(got, answer(features(seed)))
    assert caplog.text.count("no CUDA graph can be made of it (cudaStreamEndCapture failed") == 1


def test_progress_is_shown_and_a_ctrl_c_ends_the_build(capsys, monkeypatch):
    here = Here("10.16.1")
    build_plan(here.library, KEYWORD, PlanSettings("float32"), name="keyword.onnx")
    shown = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("building keyword.onnx")
    ]
    assert shown[-1].endswith("100%")
    assert len(shown) > 3

    def interrupt(n=1, note=None):
        raise KeyboardInterrupt

    import contextlib

    @contextlib.contextmanager
    def bar(description, total):
        yield interrupt

    monkeypatch.setattr(build_module, "progress_bar", bar)
    with pytest.raises(KeyboardInterrupt):
        build_plan(here.library, KEYWORD, PlanSettings("float32"), name="keyword.onnx")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_build_whose_steps_are_told_by_other_threads(number, monkeypatch):
    """The main thread is in the builder, where no handler of Python's can run."""
    import fake_tensorrt

    handled, steps, pause = [], [], threading.Event()
    before = signal.signal(number, lambda *given: handled.append(given))

    def tell(monitor):
        def work():
            os.kill(os.getpid(), number)
            monitor.phase_start("Building Engine", None, 20_000)
            for step in range(20_000):  # the signal takes a moment to arrive
                steps.append(monitor.step_complete("Building Engine", step))
                if not steps[-1]:
                    break
                pause.wait(0.001)

        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        return all(steps)

    monkeypatch.setattr(fake_tensorrt, "_show_progress", tell)
    here = Here("10.16.1")
    try:
        with pytest.raises(KeyboardInterrupt):
            build_plan(here.library, KEYWORD, PlanSettings("float32"), name="keyword.onnx")
    finally:
        signal.signal(number, before)
    assert handled
    assert not steps[-1]
    assert signal.set_wakeup_fd(-1) == -1
