"""Recurrent and attention networks through whole recipes: pruned, distilled, packed; in int8, as TFLite and as ONNX with Q/DQ."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_recipe import TONES_HZ, speller_recipe, tone, write_sounds

pytestmark = [pytest.mark.compress, pytest.mark.system]

FIT = {"steps": 4, "batch": 4, "learning_rate": 1e-3, "average": 0.8}
LONGER = {"steps": 60, "batch": 8, "learning_rate": 4e-3, "average": 0.9}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_sounds(root / "tones", {label: tone(label) for label in TONES_HZ})
    return root


@pytest.mark.parametrize("kind, ratio", [("crnn", 0.6), ("transformer", 0.8)])
def test_a_speller_is_pruned_and_learns_from_what_it_was(data, tmp_path, kind, ratio):
    from compress.recipe import parse_recipe
    from compress.run import run_recipe

    prune = {
        "kind": "prune",
        "macs_ratio": ratio,
        "rounds": 1,
        "through_norms": True,
        "looks": 1,
        "fit": FIT,
    }
    distill = {"kind": "distill", "fit": FIT, "loss": {"sequence": 0.3, "blank_weight": 0.5}}
    recipe = speller_recipe({"kind": "train", "fit": FIT}, prune, distill, kind=kind, multiplier=0.5)
    made = run_recipe(
        parse_recipe(recipe, where="here"),
        data_root=data,
        out=tmp_path / "out",
        work=tmp_path / "work",
    )
    train, pruned, distilled, _ = (record.measured for record in made.records)
    assert pruned.macs <= ratio * train.macs
    assert pruned.parameters < train.parameters
    assert distilled.parameters == pruned.parameters
    assert all(record.kept for record in made.records)


@pytest.mark.parametrize("kind", ["crnn", "transformer"])
def test_a_speller_is_exported_in_int8_and_says_the_same(data, tmp_path, kind):
    from compress.quantize.check import not_done
    from compress.recipe import parse_recipe
    from compress.run import run_recipe
    from edgeai.engines import open_file

    recipe = speller_recipe({"kind": "train", "fit": LONGER}, kind=kind, multiplier=0.25)
    recipe["passes"] = [
        *recipe["passes"][:-1],
        {"kind": "quantize", "precision": "int8"},
        {"kind": "export", "formats": ["onnx/int8"]},
    ]
    recipe["budget"] = {"max_drop": 0.2}
    made = run_recipe(
        parse_recipe(recipe, where="here"), data_root=data, out=tmp_path / "out", work=tmp_path / "work"
    )
    manifest = made.bundle.manifest
    (parity,) = manifest.provenance["notes"]["parity"]
    assert (parity["figure"], parity["file"]) == ("difference of CER", "tones-int8.onnx")
    # a recurrent layer is written out step by step: nothing of it stays float
    content = (made.bundle.folder / "tones-int8.tflite").read_bytes()
    assert not not_done(content, "int8")
    golden = np.load(made.bundle.folder / "golden.npz")
    said = {}
    for file in manifest.engine_files:
        with open_file(made.bundle, file, threads=1) as engine:
            given = {spec.name: golden["input"].reshape(spec.shape) for spec in engine.inputs}
            (said[file.format],) = engine.run(given).values()
    assert set(said) == {"tflite", "onnx"}
    best = {name: value.reshape(-1, value.shape[-1]).argmax(-1) for name, value in said.items()}
    assert np.mean(best["tflite"] == best["onnx"]) >= 0.9
