"""Every engine keeps the Engine contract, and gives what the same network in numpy gives."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import RELEASES, FakeCuda, FakeTensorRT

from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.engines.cuda import Cuda
from edgeai.engines.edges import dequantise, quantise
from edgeai.engines.onnx import OnnxEngine
from edgeai.engines.plans.build import PlanSettings, build_plan
from edgeai.engines.plans.library import wrap
from edgeai.engines.tensorrt import TensorrtEngine
from edgeai.errors import EngineError, TensorError

MODELS = Path(__file__).resolve().parents[1] / "golden" / "models"

# file -> (tolerance as a fraction of the output's range, where its error comes from)
PICTURES = {
    "picture_float32.tflite": 1e-5,
    "picture_int8.tflite": 0.02,  # 8-bit weights, activations and outputs
    "picture_uint8.tflite": 0.02,
    "picture.onnx": 1e-5,
    "picture.onnx@plan": 1e-5,
}
KEYWORDS = {
    "keyword_float32.tflite": 1e-5,
    "keyword_float16.tflite": 2e-3,  # weights of 11 significant bits
    "keyword_dynamic.tflite": 0.02,  # 8-bit weights and activations
    "keyword_int8.tflite": 0.03,
    "keyword.onnx": 1e-5,
    "keyword.onnx@plan": 1e-5,
}
ALL = [*PICTURES, *KEYWORDS]


def weights(kind):
    import sys

    sys.path.insert(0, str(MODELS.parent))
    import make_models

    return getattr(make_models, f"{kind}_weights")()


def picture_reference(image):
    """image (16, 16, 3) float32 in 0..1 -> {grid (1, 7, 7, 4), scores (1, 4)}, with no convolution library."""
    w = weights("picture")
    stem = np.zeros((7, 7, 8), np.float64)
    for y in range(7):
        for x in range(7):
            patch = image[2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            stem[y, x] = np.einsum("ijc,ijco->o", patch, w["stem"]) + w["stem_bias"]
    grid = np.maximum(stem, 0) @ w["head"][0, 0] + w["head_bias"]
    return {"grid": grid[None], "scores": grid.max(axis=(0, 1))[None]}


def keyword_reference(features):
    w = weights("keyword")
    hidden = np.maximum(features.reshape(1, 80).astype(np.float64) @ w["hidden"] + w["hidden_bias"], 0)
    return {"scores": hidden @ w["out"] + w["out_bias"]}


def picture_edges(name):
    layout = "NCHW" if ".onnx" in name else "NHWC"
    return ImageInput(width=16, height=16, layout=layout, std=(255.0, 255.0, 255.0))


KEYWORD_INPUT = LogMelInput(frames=10, mels=8)


def open_raw(name, threads=1, max_batch=1):
    """The engine of a file, or of an ONNX file through a plan of a recorded TensorRT."""
    if name.endswith(".onnx"):
        return OnnxEngine(MODELS / name, threads=threads, max_batch=max_batch)
    if not name.endswith("@plan"):
        return open_model_file(MODELS / name, threads=threads)
    cuda = FakeCuda()
    library = wrap(FakeTensorRT(RELEASES[-1], cuda))
    onnx = (MODELS / name.removesuffix("@plan")).read_bytes()
    plan = build_plan(library, onnx, PlanSettings("float32", max_batch=max_batch), name=name).plan
    return TensorrtEngine(plan, name=name, library=library, cuda=Cuda(cuda))


def open_edges(name, **options):
    contract = picture_edges(name) if name in PICTURES else KEYWORD_INPUT
    return EdgeEngine(open_raw(name, **options), contract)


def edge_input(name, seed=0):
    rng = np.random.default_rng(seed)
    if name in PICTURES:
        return {"image": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)}
    return {"features": rng.uniform(-1, 1, (1, 10, 8)).astype(np.float32)}


def reference(name, inputs):
    if name in PICTURES:
        return picture_reference(inputs["image"].astype(np.float32) / 255)
    return keyword_reference(inputs["features"])


def raw_inputs(engine, seed=0):
    rng = np.random.default_rng(seed)
    return {spec.name: quantise(rng.random(spec.shape, dtype=np.float32), spec) for spec in engine.inputs}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ALL)
def test_gives_what_numpy_gives(name, threads):
    inputs = edge_input(name)
    wanted = reference(name, inputs)
    with open_edges(name, threads=threads) as engine:
        got = engine.run(inputs)
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        assert got[key].dtype == np.float32
        assert got[key].shape == value.shape
        assert np.abs(got[key] - value).max() <= (PICTURES | KEYWORDS)[name] * np.ptp(value)


@pytest.mark.parametrize("name", ALL)
def test_specs_describe_what_runs(name):
    with open_raw(name) as engine:
        assert [spec.name for spec in engine.inputs] == [
            name.split("_")[0].split(".")[0].replace("picture", "image").replace("keyword", "features")
        ]
        outputs = engine.run(raw_inputs(engine))
        assert [spec.name for spec in engine.outputs] == list(outputs)
        for spec in engine.outputs:
            assert outputs[spec.name].dtype == np.dtype(spec.dtype)
            assert all(
                want in {0, size} for want, size in zip(spec.shape, outputs[spec.name].shape, strict=True)
            )
            assert (spec.scale is None) == (spec.dtype == "float32")


@pytest.mark.parametrize("name", ALL)
def test_outputs_belong_to_the_caller(name):
    with open_edges(name) as engine:
        first = engine.run(edge_input(name, 1))
        kept = {key: value.copy() for key, value in first.items()}
        engine.run(edge_input(name, 2))
        for key, value in first.items():
            assert np.array_equal(value, kept[key])
            value += 1  # writable, and no window into the engine
        again = engine.run(edge_input(name, 1))
        assert all(np.array_equal(again[key], kept[key]) for key in kept)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_gives_what_each_input_gives(name):
    with open_edges(name, max_batch=3) if "onnx" in name else open_edges(name) as engine:
        assert engine.max_batch == (3 if ".onnx" in name else 1)
        for count in (0, 1, 2, 3, 7):
            inputs = [edge_input(name, seed) for seed in range(count)]
            got = engine.run_batch([next(iter(each.values())) for each in inputs])
            wanted = [engine.run(each) for each in inputs]
            assert len(got) == count
            for mine, other in zip(got, wanted, strict=True):
                assert set(mine) == set(other)
                for key, value in other.items():
                    assert (mine[key].shape, mine[key].dtype) == (value.shape, np.float32)
                    np.testing.assert_allclose(mine[key], value, atol=1e-5)
        with pytest.raises(TensorError):
            engine.run_batch([next(iter(edge_input(name).values())), np.zeros(3, np.float64)])


@pytest.mark.parametrize("name", ALL)
def test_input_is_not_changed(name):
    inputs = edge_input(name)
    kept = {key: value.copy() for key, value in inputs.items()}
    for array in inputs.values():
        array.setflags(write=False)
    with open_edges(name) as engine:
        engine.run(inputs)
    assert all(np.array_equal(inputs[key], kept[key]) for key in kept)


@pytest.mark.parametrize("name", ALL)
def test_wrong_arrays_are_told(name):
    with open_raw(name) as engine:
        good = raw_inputs(engine)
        key = engine.inputs[0].name
        bad = {
            "missing": {},
            "unknown": {**good, "more": good[key]},
            "shape": {key: good[key][..., :-1]},
            "type": {key: good[key].astype(np.float64)},
        }
        for case, inputs in bad.items():
            with pytest.raises(TensorError, match=key):
                engine.run(inputs)
            assert case
        engine.run(good)  # and it still runs


@pytest.mark.parametrize("name", ALL)
def test_wrong_edge_arrays_are_told(name):
    with open_edges(name) as engine:
        good = edge_input(name)
        key = next(iter(good))
        for inputs in (
            {},
            {"other": good[key]},
            {**good, "other": good[key]},
            {key: good[key][:-1]},
            {key: good[key].astype(np.float64)},
        ):
            with pytest.raises(TensorError, match=key):
                engine.run(inputs)
        engine.run(good)


@pytest.mark.parametrize("name", ALL)
def test_close_twice_then_refuse(name):
    engine = open_edges(name)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(edge_input(name))
    with pytest.raises(EngineError, match="closed"):
        engine.engine.bare_call()


@pytest.mark.parametrize("name", ALL)
def test_bare_call_runs_the_last_input(name):
    with open_edges(name) as engine:
        before = engine.run(edge_input(name))
        engine.engine.bare_call()()
        after = engine.run(edge_input(name))
    assert all(np.array_equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ALL)
def test_a_bare_loop_takes_arrays_and_gives_arrays(name):
    with open_edges(name) as engine:
        before = engine.run(edge_input(name))
        loop = engine.engine.bare_loop()
        assert (loop is None) != name.endswith(".tflite")
        if loop is not None:
            assert [each.shape for each in loop()] == [spec.shape for spec in engine.engine.outputs]
        after = engine.run(edge_input(name))
    assert all(np.array_equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", ["picture_int8.tflite", "keyword_float32.tflite", "picture.onnx"])
def test_two_engines_in_two_threads(name):
    wanted = {}
    with open_edges(name) as engine:
        for seed in range(20):
            wanted[seed] = engine.run(edge_input(name, seed))
    failures = []

    def work(seeds):
        with open_edges(name) as own:
            for _ in range(5):
                for seed in seeds:
                    got = own.run(edge_input(name, seed))
                    if not all(np.array_equal(got[key], wanted[seed][key]) for key in got):
                        failures.append(seed)

    workers = [threading.Thread(target=work, args=(range(start, 20, 2),)) for start in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


@pytest.mark.parametrize("name", ["picture_int8.tflite", "keyword_float32.tflite"])
def test_a_kept_view_is_an_error_not_a_crash(name):
    kept = []
    with open_raw(name) as engine:
        key = engine.inputs[0].name
        with pytest.raises(EngineError, match="reference"):
            engine.invoke({key: kept.append})
        kept.clear()
        engine.run(raw_inputs(engine))


@pytest.mark.parametrize("name", ALL)
def test_an_error_in_a_fill_leaves_the_engine_usable(name):
    def fail(target):
        raise ZeroDivisionError

    with open_raw(name) as engine:
        with pytest.raises(ZeroDivisionError):
            engine.invoke({engine.inputs[0].name: fail})
        engine.run(raw_inputs(engine))


@pytest.mark.parametrize("name", KEYWORDS)
def test_features_must_be_finite(name):
    features = edge_input(name)["features"]
    features[0, 3, 3] = np.nan
    with open_edges(name) as engine, pytest.raises(TensorError, match="NaN"):
        engine.run({"features": features})


@pytest.mark.parametrize("shape", [(10, 8), (1, 10, 8), (1, 10, 8, 1)])
def test_features_may_leave_out_axes_of_one(shape):
    features = edge_input("keyword.onnx")["features"]
    with open_edges("keyword_int8.tflite") as engine:
        wanted = engine.run({"features": features})["scores"]
        assert np.array_equal(engine.run({"features": features.reshape(shape)})["scores"], wanted)


def test_integer_edges_round_trip():
    with open_model_file(MODELS / "keyword_int8.tflite") as engine:
        spec = engine.inputs[0]
        stored = np.arange(-128, 128, dtype=np.int8)
        assert np.array_equal(quantise(dequantise(stored, spec), spec), stored)


def test_the_only_input_needs_no_name():
    contract = picture_edges("picture.onnx").model_copy(update={"name": "camera"})
    with EdgeEngine(open_model_file(MODELS / "picture.onnx"), contract) as engine:
        assert engine.inputs[0].name == "camera"
        engine.run({"camera": edge_input("picture.onnx")["image"]})


@pytest.mark.parametrize(
    ("name", "contract"),
    [
        ("picture_int8.tflite", ImageInput(width=32, height=16)),
        ("picture_int8.tflite", ImageInput(width=16, height=16, layout="NCHW")),
        ("picture.onnx", ImageInput(width=16, height=16, layout="NHWC")),
        ("keyword_int8.tflite", LogMelInput(frames=8, mels=10)),
        ("picture_int8.tflite", LogMelInput(frames=10, mels=8)),
        ("keyword.onnx", ImageInput(width=10, height=8)),
    ],
)
def test_a_manifest_that_does_not_fit_is_told(name, contract):
    with open_raw(name) as engine, pytest.raises(TensorError, match="the manifest says"):
        EdgeEngine(engine, contract)
