"""From a recipe to a measured bundle for the tasks that have no camera or microphone of their own yet, in seconds each."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from tiny_recipe import INT8, LOGMEL, TONES_HZ, speller_recipe, tone, write_sounds

pytestmark = pytest.mark.compress


def write_colours(folder):
    rng = np.random.default_rng(0)
    for label, colour in (("red", (30, 30, 220)), ("blue", (220, 30, 30))):
        (folder / "train" / label).mkdir(parents=True)
        for number in range(16):
            picture = rng.integers(0, 60, (48, 48, 3)) + np.array(colour) * 0.7
            cv2.imwrite(
                str(folder / "train" / label / f"{number}.png"), picture.clip(0, 255).astype(np.uint8)
            )


def hum(t, rng):
    return 0.3 * np.sin(2 * np.pi * 120 * t + rng.uniform(0, 6))


def knocks(t, rng):
    return hum(t, rng) + 0.6 * (np.mod(t, 0.07) < 0.004) * rng.normal(0, 1, len(t))


def run(recipe, tmp_path):
    from compress.recipe import parse_recipe
    from compress.run import run_recipe

    made = run_recipe(
        parse_recipe(recipe, where="here"),
        data_root=tmp_path,
        out=tmp_path / "out",
        work=tmp_path / "work",
    )
    assert not list((tmp_path / "work").glob("*.checkpoint"))
    return made


def evaluate(tmp_path, folder, capsys):
    from compress.cli.evaluate import evaluate_bundle

    capsys.readouterr()
    assert (
        evaluate_bundle(str(tmp_path / "out"), data=tmp_path / folder, split="train", json_output=True) == 0
    )
    return json.loads(capsys.readouterr().out)


def test_a_classifier_tells_colours_apart(tmp_path, capsys):
    write_colours(tmp_path / "colours")
    recipe = {
        "name": "colours",
        "task": "classify",
        "labels": ["red", "blue"],
        "data": {
            "train": [{"kind": "picture-folders", "folder": "colours"}],
            "validation": 0.3,
            "pictures": {"hue": 0.0},
        },
        "input": {"kind": "image", "width": 32, "height": 32},
        "network": {"kind": "cnn-classifier", "params": {"multiplier": 0.25}},
        "decoder": {"name": "class", "params": {"activation": "softmax"}},
        "passes": [
            {"kind": "train", "fit": {"steps": 200, "batch": 8, "learning_rate": 5e-3, "average": 0.9}},
            INT8,
        ],
    }
    made = run(recipe, tmp_path)
    assert made.records[-1].measured.metric.value > 0.9
    assert evaluate(tmp_path, "colours", capsys)["metric"] == "accuracy"
    network = next(entry for entry in made.bundle.manifest.files if entry.path == "network.keras")
    assert network.format is None, "it is no engine file"


def test_an_autoencoder_hears_knocks(tmp_path, capsys):
    write_sounds(tmp_path / "machine", {"normal": hum, "knocking": knocks})
    recipe = {
        "name": "machine",
        "task": "anomaly",
        "labels": ["normal", "knocking"],
        "data": {"train": [{"kind": "sound-folders", "folder": "machine"}], "validation": 0.3},
        "input": {**LOGMEL, "frames": 8},
        "network": {"kind": "dense-autoencoder"},
        "decoder": {"name": "reconstruction"},
        "passes": [
            {"kind": "train", "fit": {"steps": 60, "batch": 16, "learning_rate": 3e-3, "average": 0.9}},
            INT8,
        ],
    }
    made = run(recipe, tmp_path)
    assert made.records[-1].measured.metric.name == "AUC"
    assert made.records[-1].measured.metric.value > 0.9
    assert evaluate(tmp_path, "machine", capsys)["value"] > 0.9


def test_a_speller_spells_tones(tmp_path, capsys):
    write_sounds(tmp_path / "tones", {label: tone(label) for label in TONES_HZ})
    fit = {"steps": 120, "batch": 8, "learning_rate": 1e-2, "average": 0.9}
    recipe = speller_recipe({"kind": "train", "fit": fit}, joined=2)
    made = run(recipe, tmp_path)
    assert made.records[-1].measured.metric.name == "CER"
    assert made.records[-1].measured.metric.value < 0.2
