"""A training that was stopped goes on as if it had not been; a checkpoint that does not fit is told and left alone."""

from __future__ import annotations

import numpy as np
import pytest
from train_small import loss, make, network, stops_at

from compress.train.fit import FitSettings, fit
from edgeai.errors import DataError

pytestmark = pytest.mark.compress

STEPS = 12
SETTINGS = FitSettings(steps=STEPS, learning_rate=0.02, average=0.8, save_every_s=0)


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


@pytest.fixture(scope="module")
def whole(tensorflow):
    """The training that nothing happened to: (network, result)."""
    return trained(None)


def trained(checkpoint, *, make=make, settings=SETTINGS, seed=0, **options):
    net = network(seed, dropout=0.2)
    result = fit(net, make, loss, settings, description="small", checkpoint=checkpoint, **options)
    return net, result


@pytest.fixture
def left(tmp_path):
    """A checkpoint after 5 steps."""
    path = tmp_path / "fit.ckpt"
    with pytest.raises(DataError):
        trained(path, make=stops_at(5, DataError("a broken picture")))
    return path


def same(result, whole):
    for mine, wanted in zip(result[0].get_weights(), whole[0].get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result[1].losses, whole[1].losses, rtol=1e-4)


@pytest.mark.parametrize(
    ("error", "save_every_s"), [(KeyboardInterrupt(), 1000), (DataError("a broken picture"), 0)]
)
def test_it_goes_on_step_for_step(whole, tmp_path, capsys, error, save_every_s):
    path = tmp_path / "new" / "fit.ckpt"
    settings = SETTINGS.model_copy(update={"save_every_s": save_every_s})
    with pytest.raises(type(error)):
        trained(path, make=stops_at(5, error), settings=settings)
    assert [p.name for p in path.parent.iterdir()] == ["fit.ckpt"]
    again = trained(path, seed=3)  # whatever the new process began with is replaced
    assert "small: going on from step 5 of 12" in capsys.readouterr().err
    assert again[1].resumed_from == 5
    assert again[1].steps == len(again[1].losses) == STEPS
    same(again, whole)
    assert not list(path.parent.iterdir()), "a finished training leaves no checkpoint"


def test_another_training_starts_over(left, whole, capsys):
    _net, result = trained(left, settings=SETTINGS.model_copy(update={"learning_rate": 0.01}))
    assert "is of another training" in capsys.readouterr().err
    assert result.resumed_from == 0
    assert not left.exists()


def test_a_state_that_cannot_be_starts_over(left, whole, capsys):
    with np.load(left) as archive:
        arrays = dict(archive)
    with left.open("wb") as out:
        np.savez(out, **{**arrays, "done": np.int64(STEPS + 1)})
    result = trained(left)
    assert "fit.ckpt is damaged (it is of step 13)" in capsys.readouterr().err
    same(result, whole)


def test_early_stopping_goes_on_too(tmp_path):
    values = [3.0, 1.0, 2.0, 2.5, 0.5, 0.1]
    settings = SETTINGS.model_copy(update={"patience": 2, "check_every": 2})

    def run(make, values):
        return trained(
            tmp_path / "fit.ckpt",
            make=make,
            settings=settings,
            validate=iter(values).__next__,
            seed=len(values),
        )

    with pytest.raises(DataError):
        run(stops_at(5, DataError("x")), values)
    _, result = run(make, values[2:])
    assert result.stopped_early
    assert (result.best_step, result.steps, result.resumed_from) == (4, 8, 5)
