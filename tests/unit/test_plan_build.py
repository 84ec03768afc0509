"""The device's own way from ONNX to a plan, through NVIDIA's real parser and builder: TensorRT for RTX needs no GPU for that."""

from __future__ import annotations

import os

import pytest
from tiny_bundle import MODELS

from edgeai.engines.plans.build import PlanSettings, build_plan
from edgeai.engines.plans.library import wrap
from edgeai.errors import EngineError

if not os.environ.get("EDGEAI_REQUIRE_TRT"):
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="the extra trt-check is not installed")
else:
    import tensorrt_rtx_bindings as trt

ONNX = (MODELS / "keyword.onnx").read_bytes()


@pytest.fixture(scope="module")
def library():
    return wrap(trt, version=(11, 0, 0))


def build(library, onnx=ONNX, **options):
    def for_sm86(config):
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)

    settings = options.pop("settings", PlanSettings("float32"))
    return build_plan(library, onnx, settings, name="keyword.onnx", configure=for_sm86, **options)


def test_an_open_batch_with_progress_and_timing(library, capsys):
    shapes = {"features": ((1, 10, 8), (2, 10, 8), (4, 10, 8))}
    built = build(library, settings=PlanSettings("float32", shapes=shapes, workspace_bytes=64 << 20))
    assert len(built.plan) > 10_000
    assert built.timing
    assert "building keyword.onnx: 100%" in capsys.readouterr().err
    again = build(library, settings=PlanSettings("float32", shapes=shapes, timing=built.timing), quiet=True)
    assert len(again.plan) == len(built.plan)


@pytest.mark.parametrize("name", ["commands", "field-weeds"])
def test_a_zoo_model_in_int8_for_batches_of_eight(library, name):
    from edgeai.bundle import load_bundle

    bundle = load_bundle(name)
    onnx = bundle.path(bundle.engine_file("onnx", "int8")).read_bytes()
    assert build(library, onnx, settings=PlanSettings("int8", max_batch=8), quiet=True).plan


@pytest.mark.parametrize("timing", [b"\0" * 100, b"not a timing cache"], ids=["zeros", "text"])
def test_a_timing_cache_of_something_else_is_left_aside(library, timing):
    assert build(library, settings=PlanSettings("float32", timing=timing), quiet=True).plan


@pytest.mark.parametrize("onnx", [b"", b"no model", ONNX[: len(ONNX) // 2]], ids=["empty", "text", "cut"])
def test_what_the_real_parser_says_is_one_line(library, onnx):
    with pytest.raises(
        EngineError, match=r"keyword\.onnx: TensorRT 11\.0\.0 cannot (parse|build) it"
    ) as error:
        build(library, onnx, quiet=True)
    assert "\n" not in str(error.value)


def test_a_ctrl_c_ends_the_real_build(library, monkeypatch):
    import contextlib

    from edgeai.engines.plans import build as module

    @contextlib.contextmanager
    def bar(description, total):
        def interrupt(n=1, note=None):
            raise KeyboardInterrupt

        yield interrupt

    monkeypatch.setattr(module, "progress_bar", bar)
    with pytest.raises(KeyboardInterrupt):
        build(library)
