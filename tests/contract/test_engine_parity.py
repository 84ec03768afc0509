"""Every engine and precision of every zoo model answers the golden input as its manifest says: within its tolerance of float.

What needs a GPU runs on a recorded TensorRT, whose arithmetic is onnxruntime's: it shows that names, shapes and bytes arrive, not how
TensorRT rounds.
"""

from __future__ import annotations

import sys

import pytest
from fake_tensorrt import RELEASES, modules

from edgeai.bundle import load_bundle
from edgeai.bundle.golden import check_golden
from edgeai.data import data_root
from edgeai.engines import EngineHost, open_candidate, order_candidates
from edgeai.engines.cuda import load_cuda
from edgeai.engines.plans.library import load_tensorrt

ZOO = sorted(path.parent.name for path in data_root().glob("models/*/manifest.json"))
HERE = ("tflite", "onnx", "plan")


def candidates():
    for name in ZOO:
        for candidate in order_candidates(load_bundle(name, verify=False)).candidates:
            if candidate.kind in HERE:
                yield pytest.param(name, candidate, id=f"{name}-{candidate.label}")


@pytest.fixture
def machine(monkeypatch):
    for name, module in modules(RELEASES[-1]).items():
        monkeypatch.setitem(sys.modules, name, module)
    load_tensorrt.cache_clear()
    load_cuda.cache_clear()
    yield
    load_tensorrt.cache_clear()
    load_cuda.cache_clear()


def test_every_zoo_model_has_int8_for_both_libraries():
    assert len(ZOO) >= 8
    for name in ZOO:
        labels = {each.label for each in order_candidates(load_bundle(name, verify=False)).candidates}
        assert {"tflite/int8", "onnx/int8", "plan/int8"} <= labels
        assert labels & {"onnx/float16", "onnx/float32"}


@pytest.mark.parametrize(("name", "candidate"), [*candidates()])
def test_golden_outputs(name, candidate, machine, tmp_path):
    bundle = load_bundle(name)
    with open_candidate(bundle, candidate, host=EngineHost(cache=tmp_path)) as engine:
        errors = check_golden(bundle, candidate.entry, engine)
    assert engine.label == candidate.label
    assert errors
    assert max(errors.values()) <= candidate.entry.tolerance
