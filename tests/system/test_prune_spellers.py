"""Recurrent and attention networks through whole recipes: pruned, distilled, packed."""

from __future__ import annotations

import pytest
from tiny_recipe import TONES_HZ, speller_recipe, tone, write_sounds

pytestmark = [pytest.mark.compress, pytest.mark.system]

FIT = {"steps": 4, "batch": 4, "learning_rate": 1e-3, "average": 0.8}


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
