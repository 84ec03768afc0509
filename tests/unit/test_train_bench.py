"""The training's bench: the three figures by turns, the shared JSON shape, nothing changed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_recipe import squares_recipe, toml_of, write_squares
from train_small import loss, make, network

from compress.cli.bench import UNITS, run_train_bench
from compress.train.fit import FitSettings
from edgeai.errors import RecipeError

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


def test_windows_by_turns_and_the_network_as_it_was():
    from compress.train.throughput import measure_throughput

    net = network()
    before = net.get_weights()
    found = measure_throughput(net, make, loss, FitSettings(steps=5, freeze=("first",)), steps=3)
    assert set(found) == set(UNITS)
    assert {len(values) for values in found.values()} == {3}
    for kind in ("training", "batches"):
        for value, model, ratio in zip(found[kind], found["model"], found[f"{kind}_ratio"], strict=True):
            assert ratio == pytest.approx(value / model)
    for now, then in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_command_prints_the_shared_shape(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_squares(tmp_path / "data/squares", count=16)
    (tmp_path / "squares.toml").write_text(toml_of(squares_recipe(strides=(8,))))
    assert run_train_bench(tmp_path / "squares.toml", tmp_path / "data", steps=2, json_output=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    assert report["bench"] == "train"
    assert {row["name"]: row["n"] for row in report["results"]} == dict.fromkeys(UNITS, 2)
    assert all(row["p50"] > 0 for row in report["results"])
    assert report["device"]
    assert report["versions"]["edgeai"]
    with pytest.raises(RecipeError, match="--steps 0: at least one"):
        run_train_bench(tmp_path / "squares.toml", tmp_path / "data", steps=0)


def test_a_recipe_that_trains_nothing_is_told(tmp_path):
    recipe = squares_recipe(network={"kind": "keras-file", "init": "x.keras"}, passes=[{"kind": "quantize"}])
    (tmp_path / "squares.toml").write_text(toml_of(recipe))
    with pytest.raises(RecipeError, match="no pass trains on labels, there is nothing to measure"):
        run_train_bench(tmp_path / "squares.toml", tmp_path)
