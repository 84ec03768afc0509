"""Which file is opened, with which library, and what is said where none can be."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_bundle import MODELS, write_keyword_bundle

from edgeai.bundle import load_bundle
from edgeai.engines import EngineHost, measured, open_engine, open_model_file, order_candidates, tflite
from edgeai.engines.measured import save_measured
from edgeai.engines.onnx import OnnxEngine
from edgeai.engines.plans.library import load_tensorrt
from edgeai.engines.tflite import TfliteEngine
from edgeai.errors import DataError, EngineError, EngineUnavailableError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_keyword_bundle(tmp_path_factory.mktemp("choice") / "tiny")


def host(*formats):
    return EngineHost(
        profile=SimpleNamespace(
            name="board", family="x86", ram_gb=None, formats=SimpleNamespace(value=formats)
        )
    )


def without(monkeypatch, *packages):
    real = tflite.find_spec
    monkeypatch.setattr(tflite, "find_spec", lambda name: None if name in packages else real(name))


def test_the_order(bundle):
    kinds = [each.label for each in order_candidates(bundle).candidates]
    cpu = ["tflite/int8", "tflite/float16", "tflite/float32", "tflite/dynamic", "onnx/float32"]
    assert kinds == [*cpu, "plan/float32", "onnx+tensorrt/float32", "onnx+cuda/float32"]
    with open_engine(bundle) as engine:
        assert engine.file == bundle.engine_file("tflite", "int8")


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("onnx", "model.onnx"),
        ("tflite/dynamic", "model_dynamic.tflite"),
        ("model_float16.tflite", "model_float16.tflite"),
    ],
)
def test_a_file_asked_for(bundle, file, path):
    with open_engine(bundle, file=file) as engine:
        assert engine.file.path == path


def test_a_file_that_is_not_there(bundle):
    with pytest.raises(
        EngineError, match=r"no engine file 'int8'; there are model_int8\.tflite \(tflite/int8\)"
    ):
        open_engine(bundle, file="int8")


def test_the_profile_passes_over_formats(bundle):
    with open_engine(bundle, host=host("onnx")) as engine:
        assert engine.file.path == "model.onnx"
    with pytest.raises(EngineUnavailableError, match="profile board"):
        open_engine(bundle, host=host("coral"))


def test_without_a_tflite_library_onnx_is_used(bundle, monkeypatch):
    without(monkeypatch, "ai_edge_litert", "tflite_runtime", "tensorflow")
    with open_engine(bundle) as engine:
        assert engine.file.path == "model.onnx"


def test_without_any_library_all_is_listed(bundle, monkeypatch):
    without(monkeypatch, "ai_edge_litert", "tflite_runtime", "tensorflow")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineUnavailableError, match=r"edgeai\[onnx\]") as error:
        open_engine(bundle)
    text = str(error.value)
    assert "pip install ai-edge-litert" in text
    assert all(entry.path in text for entry in bundle.manifest.engine_files)
    assert "\n" not in text


def test_tflite_runtime_needs_numpy_1(monkeypatch):
    monkeypatch.setattr(tflite, "find_spec", lambda name: object() if name == "tflite_runtime" else None)
    monkeypatch.setattr(tflite.np, "__version__", "2.1.0")
    with pytest.raises(EngineUnavailableError, match=r"built for numpy 1.*pip install 'numpy<2'"):
        TfliteEngine(MODELS / "keyword_int8.tflite")


@pytest.mark.parametrize(("name", "told"), [("keyword_int8.tflite", True), ("picture_float32.tflite", False)])
def test_int8_in_tflite_runtime_is_told_to_be_slow(monkeypatch, capsys, name, told):
    from ai_edge_litert.interpreter import Interpreter

    monkeypatch.setattr(tflite, "_load_library", lambda: ("tflite_runtime", Interpreter))
    TfliteEngine(MODELS / name).close()
    assert ("22 times slower" in capsys.readouterr().err) == told


class OldInterpreter:
    """tflite-runtime 2.14 on a dynamic-range model of TensorFlow 2.21."""

    def __init__(self, model_path, num_threads):
        pass

    def allocate_tensors(self):
        raise ValueError(
            "Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'.\nRegistration failed.\n"
        )


def test_an_interpreter_too_old_for_the_model(monkeypatch, bundle):
    monkeypatch.setattr(tflite, "_load_library", lambda: ("tflite_runtime", OldInterpreter))
    with pytest.raises(
        EngineUnavailableError,
        match=r"tflite_runtime lacks .*'FULLY_CONNECTED' version '12'.*pip install ai-",
    ) as e:
        TfliteEngine(MODELS / "keyword_dynamic.tflite")
    assert "\n" not in str(e.value)
    with open_engine(bundle) as engine:  # the next file's library serves
        assert engine.file.path == "model.onnx"


def test_a_broken_library_gives_way_to_the_next(monkeypatch):
    monkeypatch.setitem(sys.modules, "broken_litert", None)
    libraries = (("broken_litert", "broken_litert.interpreter", "Interpreter"), *tflite._LIBRARIES)
    monkeypatch.setattr(tflite, "_LIBRARIES", libraries)
    real = tflite.find_spec
    monkeypatch.setattr(tflite, "find_spec", lambda name: object() if name == "broken_litert" else real(name))
    with TfliteEngine(MODELS / "keyword_int8.tflite") as engine:
        assert engine.library == "ai_edge_litert"


@pytest.mark.compress
@pytest.mark.filterwarnings("ignore:[\\s\\S]*Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("name", ["keyword_int8.tflite", "keyword_dynamic.tflite", "picture_float32.tflite"])
def test_tensorflow_is_the_last_resort(monkeypatch, name):
    with TfliteEngine(MODELS / name) as engine:
        spec = engine.inputs[0]
        array = np.random.default_rng(0).random(spec.shape).astype(spec.dtype)
        wanted = engine.run({spec.name: array})
    without(monkeypatch, "ai_edge_litert", "tflite_runtime")
    with TfliteEngine(MODELS / name) as engine:
        assert engine.library == "tensorflow"
        got = engine.run({spec.name: array})
    for key, value in wanted.items():
        np.testing.assert_allclose(got[key], value, atol=1e-5)


def test_plans_and_unknown_files_are_told(tmp_path, monkeypatch):
    with pytest.raises(EngineError, match=r"x\.plan: cannot be read \(No such file"):
        open_model_file(tmp_path / "x.plan")
    (tmp_path / "x.plan").write_bytes(b"a plan")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    load_tensorrt.cache_clear()
    with pytest.raises(EngineUnavailableError, match=r"TensorRT cannot be imported.*pip install"):
        open_model_file(tmp_path / "x.plan")
    with pytest.raises(
        EngineError, match=r"x\.pt: unknown kind of model; known are \.tflite, \.onnx, \.plan"
    ):
        open_model_file(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("formats", "first", "last"),
    [
        (("plan", "tflite", "onnx"), "plan/float32", "onnx/float32"),
        (("tflite", "onnx"), "tflite/int8", "onnx/float32"),
        (("onnx", "tflite"), "onnx/float32", "tflite/dynamic"),
    ],
)
def test_the_profiles_formats_are_its_order(bundle, formats, first, last):
    order = order_candidates(bundle, host=host(*formats))
    labels = [each.label for each in order.candidates]
    assert (labels[0], labels[-1]) == (first, last)
    assert ("onnx+cuda/float32" in labels) == ("plan" in formats)
    assert order.reason == "the order of profile board"


def test_a_dla_is_given_the_float16_file():
    zoo = load_bundle("person-detector")
    for dla, first in ((None, "plan/int8"), (0, "plan/float16")):
        here = dataclasses.replace(host("plan", "tflite", "onnx"), dla=dla)
        assert order_candidates(zoo, host=here).candidates[0].label == first
        assert order_candidates(zoo, host=here, file="plan").candidates[0].label == first


class TestMeasured:
    FIGURES = {"onnx/float32": 0.5, "tflite/float32": 0.7, "tflite/int8": 0.9, "plan/float32": 0.1}  # noqa: RUF012

    def save(self, folder, bundle, threads=1):
        return save_measured(folder, bundle, self.FIGURES, threads=threads, date="2026-11-30")

    def order(self, folder, bundle, threads=1, formats=("tflite", "onnx")):
        here = dataclasses.replace(host(*formats), cache=folder)
        order = order_candidates(bundle, host=here, threads=threads)
        return [each.label for each in order.candidates], order.reason

    def test_it_decides_among_what_the_profile_allows(self, tmp_path, bundle):
        self.save(tmp_path, bundle)
        labels, reason = self.order(tmp_path, bundle)
        assert labels[:4] == ["onnx/float32", "tflite/float32", "tflite/int8", "tflite/float16"]
        assert reason.startswith("measurement on 2026-11-30 (ms: onnx/float32 0.50, tflite/float32 0.70")
        assert self.order(tmp_path, bundle, formats=("plan", "tflite", "onnx"))[0][0] == "plan/float32"

    def test_of_those_that_are_as_fast_the_usual_order_decides(self, tmp_path, bundle):
        figures = {"tflite/float16": 0.500, "tflite/int8": 0.524, "onnx/float32": 0.526}
        save_measured(tmp_path, bundle, figures, threads=1, date="2026-11-30")
        labels, _ = self.order(tmp_path, bundle)
        assert labels[:3] == ["tflite/int8", "tflite/float16", "onnx/float32"]

    def test_another_number_of_threads_machine_library_or_model_is_another_table(
        self, tmp_path, bundle, monkeypatch
    ):
        self.save(tmp_path, bundle)
        assert self.order(tmp_path, bundle, threads=2)[1] == "the order of profile board"
        for name, value in (
            ("machine_key", "other"),
            ("engine_libraries", {"litert": "9"}),
            ("bundle_key", "other"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(measured, name, lambda *given, value=value: value)
                assert self.order(tmp_path, bundle)[1] == "the order of profile board"
        assert self.order(tmp_path, bundle)[1].startswith("measurement")

    def test_a_new_measurement_takes_the_place_of_the_old(self, tmp_path, bundle):
        path = self.save(tmp_path, bundle)
        self.save(tmp_path, bundle, threads=2)
        self.save(tmp_path, bundle)
        assert len(json.loads(path.read_text())["rows"]) == 2

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"schema": 9}', '{"schema": 1, "rows": [{}]}', "\0" * 99]
    )
    def test_a_broken_table_counts_as_none_and_is_replaced(self, tmp_path, bundle, content):
        (tmp_path / measured.TABLE_NAME).write_text(content)
        assert self.order(tmp_path, bundle)[1] == "the order of profile board"
        self.save(tmp_path, bundle)
        assert self.order(tmp_path, bundle)[1].startswith("measurement")

    def test_a_table_that_cannot_be_written_is_told(self, tmp_path, bundle):
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="cannot be written"):
            self.save(tmp_path / "file", bundle)


@pytest.mark.parametrize("name", ["x.tflite", "x.onnx"])
def test_files_that_are_no_models(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(EngineError, match=r"x\.(tflite|onnx)"):
        open_model_file(path)
    for data in (b"", b"hello", b"\0" * 1000, b"\x1c\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3" + b"\0" * 100):
        path.write_bytes(data)
        with pytest.raises(EngineError) as error:
            open_model_file(path)
        assert "\n" not in str(error.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(EngineError):
        open_model_file(path)


@pytest.mark.parametrize(
    "name", ["picture_int8.tflite", "keyword_float32.tflite", "picture.onnx", "keyword.onnx"]
)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_truncated_models(tmp_path, name, part):
    data = (MODELS / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(EngineError) as error:
        open_model_file(path)
    assert "\n" not in str(error.value)


def test_one_kind_in_anothers_clothes(tmp_path):
    shutil.copy(MODELS / "picture.onnx", tmp_path / "x.tflite")
    shutil.copy(MODELS / "picture_int8.tflite", tmp_path / "x.onnx")
    with pytest.raises(EngineError, match="no TFLite model"):
        open_model_file(tmp_path / "x.tflite")
    with pytest.raises(EngineError, match="onnxruntime cannot open it"):
        open_model_file(tmp_path / "x.onnx")


def test_onnx_shapes_may_be_given():
    with OnnxEngine(MODELS / "keyword.onnx", shapes={"features": (3, 10, 8)}) as engine:
        assert engine.run({"features": np.zeros((3, 10, 8), np.float32)})["scores"].shape == (3, 3)
    for wrong in ((1, 10, 9), (1, 80)):
        with pytest.raises(EngineError, match="cannot be taken as"):
            OnnxEngine(MODELS / "keyword.onnx", shapes={"features": wrong})


def test_opening_is_quiet_and_swallows_nobody_elses_words(capfd):
    with tflite._quiet_stderr():
        import os

        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nanother thread's warning\n")
    assert capfd.readouterr().err == "another thread's warning\n"
    with TfliteEngine(MODELS / "picture_float32.tflite"), OnnxEngine(MODELS / "picture.onnx"):
        pass
    assert capfd.readouterr() == ("", "")


def test_names_are_cleaned():
    assert tflite._clean("serving_default_input_audio:0") == "input_audio"
    assert tflite._clean("TFLite_Detection_PostProcess:1") == "TFLite_Detection_PostProcess:1"
    assert tflite._clean("StatefulPartitionedCall:0") == "StatefulPartitionedCall"


def test_models_folder_is_what_the_maker_writes():
    assert {path.suffix for path in Path(MODELS).iterdir()} == {".tflite", ".onnx"}
