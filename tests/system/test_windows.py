"""A detector trained on windows of its pictures: through training, pruning and distillation, to a file of the whole size."""

from __future__ import annotations

import pytest
from tiny_recipe import squares_recipe, write_squares

pytestmark = [pytest.mark.compress, pytest.mark.system]

FIT = {"steps": 150, "batch": 8, "learning_rate": 5e-3, "average": 0.9}


def test_what_was_learnt_on_windows_is_known_on_whole_pictures(tmp_path, monkeypatch):
    from compress.passes import fitting
    from compress.recipe import parse_recipe
    from compress.run import run_recipe
    from edgeai.bundle import load_bundle

    write_squares(tmp_path / "squares")
    passes = [
        {"kind": "train", "fit": FIT},
        {"kind": "prune", "macs_ratio": 0.7, "rounds": 1, "looks": 1, "fit": {**FIT, "steps": 10}},
        {"kind": "distill", "fit": {**FIT, "steps": 10}},
        {"kind": "distill", "whole_pictures": True, "fit": {**FIT, "steps": 5, "batch": 4}},
        {"kind": "quantize", "precision": "float16"},
    ]
    recipe = squares_recipe(passes=passes)
    recipe["data"]["pictures"]["crop"] = 48
    seen, fit = [], fitting.fit

    def watched(network, make, loss, settings, *, description, shape=None, **options):
        seen.append((description.split()[0], settings.steps, shape))
        return fit(network, make, loss, settings, description=description, shape=shape, **options)

    monkeypatch.setattr(fitting, "fit", watched)
    made = run_recipe(
        parse_recipe(recipe, where="here"),
        data_root=tmp_path,
        out=tmp_path / "out",
        work=tmp_path / "work",
        control=True,
    )
    window = (48, 48, 3)
    assert seen == [
        ("train", 150, window),
        ("prune", 10, window),
        ("distill", 10, window),
        ("distill", 5, None),
        ("control", 170, window),
        ("control", 5, None),
    ]
    assert made.control.steps == 170 + 5 * 4 // 8
    assert all(record.kept for record in made.records)
    assert made.records[0].measured.metric.value > 0.3
    bundle = load_bundle(str(tmp_path / "out"))
    assert (bundle.manifest.input.width, bundle.manifest.input.height) == (64, 64)
