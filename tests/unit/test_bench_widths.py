"""The width sweep's choice, and that the bench's baselines are as wide as their committed sweeps say, no wider."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def bench(keras):
    from bench import bench_widths

    return bench_widths


def rows(**values):
    return [{"multiplier": float(name[1:].replace("_", ".")), "value": v} for name, v in values.items()]


def test_the_narrowest_within_half_a_point_of_the_best_is_chosen(bench):
    assert bench.narrowest(rows(x0_5=0.90, x0_75=0.946, x1=0.95, x1_5=0.93)) == 0.75
    assert bench.narrowest(rows(x0_5=0.945, x1=0.95)) == 0.5
    assert bench.narrowest(rows(x0_5=0.9449, x1=0.95)) == 1.0
    assert bench.narrowest(rows(x0_5=0.3)) == 0.5


def test_each_baseline_is_as_wide_as_its_sweep_chose(bench):
    sweeps = bench.read_widths()
    for name, found in sweeps.items():
        recipe = bench.load_part(name, "baseline", seed=1)
        assert recipe.network.params["multiplier"] == bench.narrowest(found), name
        assert all(row["n"] and row["parameters"] and row["bytes"] for row in found)


def test_a_recipe_at_another_width_differs_in_nothing_else(bench):
    recipe = bench.load_part("deeppcb", "baseline", seed=1)
    other = bench.at_width(recipe, 0.5).model_dump()
    assert other["network"]["params"]["multiplier"] == 0.5
    other["network"]["params"]["multiplier"] = recipe.network.params["multiplier"]
    assert other == recipe.model_dump()


def test_fewer_steps_are_those_of_training_alone(bench):
    recipe = bench.load_part("commands", "baseline", seed=1)
    other = bench.with_steps(recipe, 100)
    assert [one.kind for one in other.passes] == [one.kind for one in recipe.passes]
    assert other.passes[0].fit.steps == 100
    assert other.passes[0].fit.learning_rate == recipe.passes[0].fit.learning_rate
    twice = bench.load_part("deeppcb", "baseline", seed=1)
    assert [one.kind for one in twice.passes] == ["train", "train", "export"]
    assert [one.kind for one in bench.with_steps(twice, 100).passes] == ["train", "export"]


def test_the_table_needs_no_data(bench, capsys):
    assert bench.main(["--table"]) == 0
    assert "narrowest" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["--only", "nothing"])
    assert "no set 'nothing'" in capsys.readouterr().err
