"""Multiply-accumulates and bytes of files, and what follows from peaks."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_bundle import MODELS, write_keyword_bundle

from edgeai.bench import peaks
from edgeai.bench.conv_model import conv_model
from edgeai.bench.graph import GraphWork, count_tflite
from edgeai.bench.peaks import MEMORY_BYTES, measure_peaks
from edgeai.bench.roofline import Work, copies_of, limit_of, work_of
from edgeai.bundle import load_bundle
from edgeai.data import find_data
from edgeai.engines.tflite import TfliteEngine
from edgeai.errors import EngineError
from edgeai.metrics import Measurement

ZOO = sorted(path.name for path in find_data("models").iterdir() if (path / "manifest.json").is_file())


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("int8", 1)])
def test_one_convolution_is_counted_by_hand(tmp_path, dtype, size):
    path = tmp_path / "x.tflite"
    path.write_bytes(conv_model(8, 12, 3, 5, kernel=2, dtype=dtype))
    weights, moved = 5 * 2 * 2 * 3, 8 * 12 * 3 + 4 * 6 * 5
    assert count_tflite(path) == GraphWork(
        parameters=weights + 5,
        macs=4 * 6 * weights,
        weights=weights + 5,
        activations=moved,
        weight_bytes=weights * size + 5 * 4,
        activation_bytes=moved * size,
        largest=weights + 5 + moved,
        largest_bytes=(weights + moved) * size + 5 * 4,
    )


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_made_convolution_is_one(tmp_path, dtype):
    path = tmp_path / "x.tflite"
    path.write_bytes(conv_model(4, 4, 2, 3, dtype=dtype))
    with TfliteEngine(path) as engine:
        (spec,) = engine.inputs
        given = np.random.default_rng(0).integers(-100, 100, spec.shape).astype(spec.dtype)
        (out,) = engine.run({spec.name: given}).values()
        random = np.random.default_rng(0)
        if dtype == "int8":
            weights = random.integers(-127, 128, (3, 1, 1, 2), dtype=np.int8) / 127
            scale = engine.outputs[0].scale
            expected = ((given + 128.0) * spec.scale) @ weights.reshape(3, 2).T / scale
            assert np.abs(out - np.clip(expected, -128, 127)).max() <= 1
        else:
            weights = random.uniform(-1, 1, (3, 1, 1, 2)).astype(np.float32)
            assert out == pytest.approx(given @ weights.reshape(3, 2).T, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("name", ZOO)
def test_the_zoos_files_have_the_multiplications_of_their_manifest(name):
    """Within 1 %: quantizing splits an operation here and there."""
    bundle = load_bundle(name)
    passes = [each for each in bundle.manifest.provenance["passes"] if each.get("macs")]
    for entry in bundle.manifest.engine_files:
        work = work_of(bundle, entry)
        assert work.macs == pytest.approx(passes[-1]["macs"], rel=0.01), entry.path
        assert 0 < work.largest_bytes <= work.bytes


@pytest.mark.parametrize("name", ZOO)
def test_files_are_counted_as_the_workstation_counts_them(name):
    pytest.importorskip("onnx")
    from compress.measure.graph_cost import count_graph

    bundle = load_bundle(name)
    for entry in bundle.manifest.engine_files:
        assert work_of(bundle, entry).macs == pytest.approx(
            count_graph(bundle.path(entry), entry.format).macs, rel=0.01
        ), entry.path


def test_an_onnx_file_is_counted_by_its_sibling(tmp_path):
    bundle = write_keyword_bundle(tmp_path / "x")
    onnx = bundle.manifest.engine_files[-1]
    work = work_of(bundle, onnx)
    counted = count_tflite(MODELS / "keyword_float16.tflite")
    assert (work.macs, work.arithmetic) == (counted.macs, "float32")
    assert work.bytes == 4 * (counted.weights + counted.activations)
    for entry in bundle.manifest.engine_files[:-1]:
        bundle.path(entry).write_bytes(b"changed")
    assert work_of(bundle, onnx) is None


def test_without_a_sibling_the_manifest_is_asked(tmp_path):
    bundle = write_keyword_bundle(tmp_path / "x")
    onnx = bundle.manifest.engine_files[-1]
    passes = [{"macs": 1, "parameters": 1}, {"macs": 5000, "parameters": 300}, {"pass": "export"}]
    alone = bundle.manifest.model_copy(update={"files": (onnx,), "provenance": {"passes": passes}})
    object.__setattr__(bundle, "manifest", alone)
    assert work_of(bundle, onnx) == Work("float32", 5000, 1200, 1200, "the manifest, weights alone")


@pytest.mark.parametrize("content", [b"", b"x" * 200, b"\x1c\0\0\0TFL3" + b"\xff" * 200])
def test_no_graph_is_an_engine_error(tmp_path, content):
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(EngineError, match="its graph cannot be read"):
        count_tflite(tmp_path / "x.tflite")


def peak(name, best):
    return Measurement(name, "", 25, best * 0.9, best * 0.95, best)


PEAKS = {
    each.name: each
    for each in (
        peak("peak_float32_gmacs", 50.0),
        peak("bandwidth_1048576_gbs", 100.0),
        peak(f"bandwidth_{MEMORY_BYTES}_gbs", 20.0),
    )
}


def test_the_limit_is_the_slower_of_both():
    heavy = limit_of(Work("float32", 100_000_000, 1_000_000, 600_000, ""), 4.0, PEAKS)
    assert (heavy.compute_ms, heavy.memory_ms, heavy.bound) == (2.0, 0.01, "compute")
    assert heavy.percent == 50.0
    assert heavy.gmacs == 25.0
    assert heavy.intensity == 100.0
    wide = limit_of(Work("float32", 1000, 400_000_000, 600_000, ""), 5.0, PEAKS)
    assert (wide.bound, wide.least_ms, wide.percent) == ("memory", 4.0, 80.0)
    assert wide.to_json()["macs_per_byte"] == 0


def test_no_limit_without_its_peak():
    assert limit_of(Work("int8", 1, 1, 600_000, ""), 1.0, PEAKS) is None
    assert limit_of(Work("float32", 1, 1, 9 << 20, ""), 1.0, PEAKS) is None


def test_copies_are_powers_of_two_and_the_memorys():
    works = [Work("int8", 1, 1, size, "") for size in (1, 70_000, 600_000, 600_001, 1 << 40)]
    assert copies_of(works) == [65_536, 131_072, 1 << 20, MEMORY_BYTES]


@pytest.mark.parametrize("threads", [1, 2])
def test_peaks_are_measured(monkeypatch, threads):
    monkeypatch.setattr(peaks, "_CALLS", 3)
    names = [each.name for each in measure_peaks(threads=threads, copies_bytes=[65_536])]
    assert names == ["peak_float32_gmacs", "peak_int8_gmacs", "bandwidth_65536_gbs"]
    assert all(each.p99 > 0 and each.n == 3 for each in measure_peaks(threads=threads, copies_bytes=[]))
