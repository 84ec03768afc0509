"""`edgeai-compress run --control`: the same small network from nothing, beside the compressed one."""

from __future__ import annotations

import json

import pytest
from tiny_recipe import toml_of, tones_recipe, write_tones

from compress.cli import main

pytestmark = [pytest.mark.compress, pytest.mark.system]


def test_the_final_network_is_trained_from_nothing_for_as_long(tmp_path, monkeypatch, capsys):
    write_tones(tmp_path / "data" / "tones")
    fit = {"steps": 30, "batch": 16, "learning_rate": 5e-3, "average": 0.8}
    recipe = tones_recipe(
        network={"kind": "ds-tc-resnet", "params": {"multiplier": 0.5}},
        passes=[
            {"kind": "train", "fit": fit},
            {"kind": "prune", "macs_ratio": 0.5, "rounds": 2, "fit": {**fit, "steps": 8, "batch": 8}},
            {"kind": "quantize", "precision": "int8", "calibration": 20},
        ],
    )
    (tmp_path / "recipe.toml").write_text(toml_of(recipe))
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "recipe.toml", "--data", "data", "--out", "out/tones", "--control", "--json"]
    monkeypatch.setattr("sys.argv", ["edgeai-compress", *arguments])
    assert main() == 0
    told = json.loads(capsys.readouterr().out)
    control, last = told["control"], told["passes"][-1]
    assert control["steps"] == 30 + 2 * 8 * 8 // 16, "as many examples as all fits together"
    assert (control["parameters"], control["macs"]) == (last["parameters"], last["macs"])
    assert control["engine"] == last["engine"] == "tflite/int8"
    assert control["difference"] == pytest.approx(last["value"] - control["value"], abs=1e-3)
    assert "from nothing" in control["says"]
    manifest = json.loads((tmp_path / "out" / "tones" / "manifest.json").read_text())
    assert manifest["provenance"]["control"]["says"] == control["says"]
    assert control["says"] in (tmp_path / told["report"]).read_text()
