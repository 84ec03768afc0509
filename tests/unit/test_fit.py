"""The training loop: learns, stops at NaN and short data with a word, and leaves no thread behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from compress.train.batches import open_batches
from compress.train.fit import FitSettings, fit
from compress.train.schedule import learning_rate_at
from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def linear(keras):
    keras.utils.set_random_seed(0)
    x = keras.Input((2,))
    return keras.Model(x, {"y": keras.layers.Dense(1, name="y")(x)})


def batch(rng):
    x = rng.normal(0, 1, (16, 2)).astype(np.float32)
    return {"inputs": x, "targets": x @ np.float32([[2.0], [-1.0]]) + 0.5}


def squared(outputs, batch):
    import tensorflow as tf

    return tf.reduce_mean(tf.square(outputs["y"] - batch["targets"]))


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_a_line_is_learnt(keras):
    model = linear(keras)
    settings = FitSettings(steps=150, batch=16, learning_rate=0.05, average=0.8)
    losses = fit(model, batch, squared, settings, description="line").losses
    assert len(losses) == 150
    assert losses[-1] < 0.05 * losses[0]
    np.testing.assert_allclose(model.get_layer("y").get_weights()[0], [[2], [-1]], atol=0.1)
    assert not threads()


def test_a_batch_that_is_no_number_is_told_by_its_number(keras):
    def broken(rng):
        made = batch(rng)
        made["targets"][3] = np.nan
        return made

    with pytest.raises(
        PassError, match=r"prune 1/2: batch 0 holds .* in targets, example 3 of 16; .*data check"
    ):
        fit(linear(keras), broken, squared, FitSettings(steps=9), description="prune 1/2")
    assert not threads()


def test_a_loss_that_is_no_number_stops_with_a_word(keras, capsys):
    import tensorflow as tf

    def broken(outputs, batch):
        return tf.reduce_mean(tf.math.log(outputs["y"] * 0 - 1))

    said = (
        r"prune 1/2: the loss became nan at step 3 of 9, 3 steps in a row; in the loss itself.*learning_rate"
    )
    with pytest.raises(PassError, match=said):
        fit(linear(keras), batch, broken, FitSettings(steps=9), description="prune 1/2")
    assert capsys.readouterr().err.count("passed over") == 2


def test_ctrl_c_in_the_middle_leaves_no_thread(keras):
    calls = []

    def pressed(outputs, targets):
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(linear(keras), batch, pressed, FitSettings(steps=9), description="x")
    assert calls
    assert not threads()


def test_data_that_cannot_be_made_is_the_error_that_is_told(keras):
    def fails(rng):
        raise PassError("the picture is broken")

    with pytest.raises(PassError, match="the picture is broken"):
        fit(linear(keras), fails, squared, FitSettings(steps=9), description="x")
    assert not threads()


def test_batches_follow_the_seed_whatever_the_threads_do():
    def first(seed, threads):
        with open_batches(lambda rng: {"inputs": rng.random()}, seed=seed, threads=threads) as batches:
            return [next(batches)["inputs"] for _ in range(20)]

    assert first(1, 1) == first(1, 4)
    assert first(1, 1) != first(2, 1)


def test_the_learning_rate_warms_up_and_falls():
    rates = [learning_rate_at(step, steps=100, peak=1.0, warm_up=0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert learning_rate_at(0, steps=1, peak=1.0, warm_up=0.05) > 0


def test_a_pass_never_writes_into_the_network_it_was_given(keras, tmp_path):
    from types import SimpleNamespace

    from compress.candidate import Candidate
    from compress.passes.bench import Bench
    from compress.passes.distill import distill
    from compress.passes.settings import DistillPass, TrainPass
    from compress.passes.train import train

    model, teacher = linear(keras), linear(keras)
    before = [w.copy() for w in model.get_weights()]
    task = SimpleNamespace(
        make_batch=lambda rng, size: batch(rng),
        training_shape=None,
        can_label=lambda outputs: True,
        label_loss=lambda outputs, targets: squared(outputs, {"targets": targets}),
        teacher_loss=lambda outputs, said: squared(outputs, {"targets": said["y"]}),
    )
    bench = Bench(SimpleNamespace(seed=1), task, tmp_path)
    settings = FitSettings(steps=5, learning_rate=0.1, average=0.0)
    candidate = Candidate(model, reference=teacher)
    for apply, options in (
        (train, TrainPass(kind="train", fit=settings, teacher_share=0.5)),
        (distill, DistillPass(kind="distill", fit=settings)),
    ):
        after = apply(options, candidate, bench)
        assert any((w != b).any() for w, b in zip(after.network.get_weights(), before, strict=True))
        for now, then in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)
