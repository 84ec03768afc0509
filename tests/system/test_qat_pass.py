"""Quantization-aware training through whole recipes: after pruning, with a teacher, with zeros that stay, cut off and gone on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_recipe import tones_recipe, write_tones

from edgeai.errors import EdgeError

pytestmark = [pytest.mark.compress, pytest.mark.system]

FIT = {"steps": 12, "batch": 16, "learning_rate": 5e-3, "average": 0.8}
TRAIN = {"kind": "train", "fit": {**FIT, "steps": 30}}
QAT = {"kind": "qat", "calibration": 8, "fit": {**FIT, "learning_rate": 1e-3}}
ONNX = {"kind": "export", "formats": ["onnx/int8"]}
NETWORK = {"kind": "ds-tc-resnet", "params": {"multiplier": 0.5}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_tones(root / "tones")
    return root


def run(data, where, *passes, **options):
    from compress.recipe import parse_recipe
    from compress.run import run_recipe

    recipe = parse_recipe(tones_recipe(passes=[TRAIN, *passes], network=NETWORK), where="here")
    return run_recipe(recipe, data_root=data, out=where / "out", work=where / "work", **options)


def test_it_follows_pruning_learns_from_the_teacher_and_is_exported(data, tmp_path, capsys):
    prune = {"kind": "prune", "macs_ratio": 0.6, "rounds": 1, "looks": 2, "fit": {**FIT, "steps": 4}}
    made = run(data, tmp_path, prune, QAT, ONNX, control=True)
    assert [record.kind for record in made.records] == ["train", "prune", "qat", "export"]
    manifest = made.bundle.manifest
    files = manifest.engine_files
    assert {(file.format, file.precision) for file in files} == {("tflite", "int8"), ("onnx", "int8")}
    (told,) = manifest.provenance["notes"]["qat"]
    assert (told["ranges"], told["inputs"]) == ("learned", 8) and told["layers"]
    # the golden outputs are those of the network that rounds: the file is not far off
    assert all(file.tolerance < 0.2 for file in files if file.format == "tflite")
    control = manifest.provenance["control"]
    assert control["engine"] == "tflite/int8" and control["steps"] == 34
    assert "control" in capsys.readouterr().err


def test_what_the_bundle_goes_on_from_is_plain_keras(data, tmp_path):
    import keras

    made = run(data, tmp_path, {**QAT, "ranges": "moving-average", "teacher_share": 0.0})
    network = keras.models.load_model(made.bundle.folder / "network.keras")
    assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}
    kernel = next(layer for layer in network.layers if layer.name.startswith("stem")).get_weights()[0]
    steps = kernel / np.abs(kernel).max(tuple(range(kernel.ndim - 1))) * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_zeros_stay(data, tmp_path):
    from compress.prune.sparsity import zeros_in_tflite

    sparse = {"kind": "sparsify", "sparsity": 0.8, "fit": FIT}
    made = run(data, tmp_path, sparse, QAT)
    file = made.bundle.engine_file("tflite", "int8")
    assert zeros_in_tflite(made.bundle.path(file).read_bytes()) > 0.6


def test_a_run_cut_off_behind_it_goes_on_with_what_it_learned(data, tmp_path, monkeypatch):
    from compress import run as module

    def cut_off(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(module.PASSES, "export", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path, QAT, ONNX)
    state = json.loads((tmp_path / "work" / "state.json").read_text())
    assert state["aware"] and [record["kind"] for record in state["records"]] == ["train", "qat"]
    learned = (tmp_path / "work" / "tones-int8.tflite").read_bytes()
    made = run(data, tmp_path, QAT, ONNX)
    assert made.bundle.path(made.bundle.engine_file("tflite", "int8")).read_bytes() == learned
    assert not (tmp_path / "work" / "aware.keras").exists()


@pytest.mark.parametrize(
    "passes",
    [
        [QAT, {"kind": "quantize", "precision": "float16"}],
        [QAT, {"kind": "export", "formats": ["onnx/float32"]}],
        [QAT, {"kind": "distill", "fit": FIT, "teacher": "x.onnx"}],
        [QAT, {"kind": "quantize"}],
    ],
)
def test_what_cannot_follow_is_told_first(passes):
    from compress.recipe import parse_recipe

    with pytest.raises(EdgeError, match=r"after qat|after quantize|two passes write"):
        parse_recipe(tones_recipe(passes=[TRAIN, *passes]), where="here")
