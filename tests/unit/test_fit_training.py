"""What fit does with its settings: the same AdamW as Keras', frozen layers, averages, validation, precision, logs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import train_small
from train_small import by_keras, loss, make

from compress.train.divergence import START_STEPS, Watch
from compress.train.early_stop import BestKept
from compress.train.fit import FitSettings, fit
from compress.train.pace import Pace
from compress.train.step import Told
from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def settings(**changes):
    return FitSettings(**{"steps": 6, "learning_rate": 0.02, "average": 0.0, **changes})


def trained(net, *, loss=loss, make=make, **changes):
    options = {k: changes.pop(k) for k in ("validate", "log_dir", "checkpoint") if k in changes}
    return fit(net, make, loss, settings(**changes), description="small", **options)


def dense(keras, *, seed=0):
    """A network without batch norm: what comes out depends on nothing but the optimiser."""
    keras.utils.set_random_seed(seed)
    picture = keras.Input((8, 8, 2))
    x = keras.layers.Dense(8, activation="relu", name="inner")(keras.layers.Flatten()(picture))
    return keras.Model(picture, {"class": keras.layers.Dense(4, name="head")(x)})


# -- the optimiser


def test_it_is_keras_adamw(keras):
    adamw = keras.optimizers.AdamW(0.02, weight_decay=0.05, global_clipnorm=0.5)
    adamw.exclude_from_weight_decay(var_names=["bias"])
    wanted, mine = by_keras(dense(keras), adamw), dense(keras)
    trained(mine, weight_decay=0.05, clip_norm=0.5, warm_up=0.0)
    for one, other in zip(mine.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_what_comes_out_are_averaged_weights_and_the_last_statistics(keras):
    late, mean, began = (train_small.network() for _ in range(3))
    trained(late)
    trained(mean, average=0.9)

    def way(net, name):
        first = began.get_layer("first_norm")
        return np.linalg.norm(getattr(net.get_layer("first_norm"), name) - getattr(first, name))

    assert 0 < way(mean, "gamma") < 0.99 * way(late, "gamma")
    assert way(mean, "moving_mean") == pytest.approx(way(late, "moving_mean"))


# -- freezing


def test_frozen_layers_stay_and_flags_come_back(keras):
    inner = train_small.network()
    inner = keras.Model(inner.input, inner.get_layer("second").output, name="backbone")
    inner.get_layer("second").trainable = False
    picture = keras.Input((8, 8, 2))
    x = keras.layers.GlobalAveragePooling2D()(inner(picture))
    net = keras.Model(picture, {"class": keras.layers.Dense(4, name="head")(x)})
    flags = [layer.trainable for layer in net._flatten_layers()]
    before = {v.path: v.numpy() for v in net.variables}
    result = trained(net, freeze=("first",))  # first and first_norm, inside the backbone
    changed = {v.path.split("/")[-2] for v in net.variables if (v.numpy() != before[v.path]).any()}
    assert changed == {"head"}
    assert result.steps == 6
    assert [layer.trainable for layer in net._flatten_layers()] == flags


def test_an_unknown_prefix_and_nothing_to_train_are_told(keras):
    net = train_small.network()
    with pytest.raises(
        PassError, match=r"begins with 'backbone'; there are first, first_norm, second, head$"
    ):
        trained(net, freeze=("head", "backbone"))
    with pytest.raises(PassError, match="every weight is frozen"):
        trained(net, freeze=("first", "second", "head"))
    assert all(layer.trainable for layer in net.layers)


# -- validation


def test_the_best_checked_weights_come_out(keras):
    net, looks = train_small.network(), []
    values = iter([3.0, 1.0, math.nan, 2.0, 0.5])

    def validate():
        looks.append(net.get_weights())
        return next(values)

    result = trained(net, steps=20, check_every=2, patience=2, validate=validate)
    assert (result.best_step, result.steps, result.stopped_early) == (4, 8, True)
    assert len(result.losses) == 8
    for best, now in zip(looks[1], net.get_weights(), strict=True):
        np.testing.assert_array_equal(best, now)


def test_checks_are_every_tenth_and_at_the_end(keras):
    calls = []
    result = trained(train_small.network(), steps=11, validate=lambda: calls.append(1) or float(-len(calls)))
    assert len(calls) == 6  # at 2, 4, 6, 8, 10, 11
    assert (result.best_step, result.stopped_early) == (11, False)


def test_validation_that_is_never_a_number_and_patience_without_it_are_told(keras):
    with pytest.raises(PassError, match="the validation gave nan at every check"):
        trained(train_small.network(), validate=lambda: math.nan)
    with pytest.raises(PassError, match="patience needs something to validate on; set patience = 0"):
        trained(train_small.network(), patience=1)


def test_best_kept_counts_misses():
    best, weights = BestKept(2), (np.zeros(1), np.zeros(0))
    assert [best.tell(n, v, weights) for n, v in enumerate([2.0, 2.0, 1.0, math.inf, 1.5])] == [1, 0, 1, 0, 0]
    assert best.stop
    assert not BestKept(0).stop


# -- bad batches and divergence


def test_one_bad_batch_is_as_if_it_had_not_been(keras, capsys):
    def exploding(rng):
        made = make(rng)
        if rng.bit_generator.seed_seq.entropy[1] == 2:
            made["inputs"] *= np.float32(1e37)
        return made

    import tensorflow as tf

    def squared(outputs, batch):
        return loss(outputs, batch) + 0 * tf.reduce_sum(tf.square(batch["inputs"]))

    net = train_small.network()
    result = trained(net, make=exploding, loss=squared)
    assert result.steps == 6
    assert len(result.losses) == 5
    assert all(np.isfinite(w).all() for w in net.get_weights()), "the statistics must not have seen it"
    assert "small: the loss became nan at step 3 of 6" in capsys.readouterr().err


def test_the_layer_that_began_it_is_named(keras):
    net = train_small.network()
    with pytest.raises(PassError, match=r"in a row; in the output of layer head first; lower learning_rate"):
        net.get_layer("head").kernel.assign(np.full((8, 4), 3e38, np.float32))
        trained(net)


def told(loss, *, ok=True, overflow=False):
    return Told(loss, {}, 1.0, ok, overflow)


def never():
    raise AssertionError


def test_a_loss_that_climbs_and_stays_is_told():
    watch = Watch("small", 1000)
    for step in range(START_STEPS):
        watch.tell(step, told(2.0), never)
    with pytest.raises(
        PassError, match=r"the training diverged: the loss began at 2 .*; lower learning_rate"
    ):
        for step in range(START_STEPS, 1000):
            watch.tell(step, told(20.0), never)
    assert 115 <= step <= 150, "a tenth of the steps, and what the smoothing takes"


@pytest.mark.parametrize(
    "losses",
    [
        [2.0] * 20 + [50.0] * 60 + [1.0] * 900,  # a bad spell
        [1e-4] * 20 + [0.3] * 900,  # a copy that learns from itself
        [-5.0] * 20 + [-1.0] * 900,  # a log-likelihood
        [2.0] * 20 + [1e6] + [1.0] * 900,  # one spike
        [9.0 - 0.009 * n for n in range(1000)],
    ],
)
def test_trainings_that_are_well_are_left_alone(losses):
    watch = Watch("small", len(losses))
    for step, value in enumerate(losses, 1):
        watch.tell(step, told(value), never)


def test_bad_steps_now_and_then_are_too_many_in_the_end(capsys):
    watch = Watch("small", 400)
    with pytest.raises(PassError, match=r"at step 50 of 400, 5 steps in all; in layer x"):
        for step in range(1, 401):
            watch.tell(step, told(math.nan, ok=step % 10 > 0), lambda: "; in layer x")
    assert capsys.readouterr().err.count("this batch is passed over") == 4


def test_float16_may_look_for_its_scale(capsys):
    watch = Watch("small", 400)
    for step in range(25):
        watch.tell(step, told(1.0, ok=False, overflow=True), never)
    watch.tell(26, told(1.0), never)
    assert capsys.readouterr().err == ""
    with pytest.raises(PassError, match="the gradient has no size"):
        for step in range(100):
            watch.tell(step, told(1.0, ok=False, overflow=True), str)


# -- precision


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_and_gives_float32(keras, precision):
    net, plain = train_small.network(), train_small.network()
    seen = []

    def looked(outputs, batch):
        seen.append(outputs["class"].dtype.name)
        return loss(outputs, batch)

    losses = trained(net, loss=looked, steps=12, precision=precision).losses
    wanted = trained(plain, steps=12).losses
    assert set(seen) == {"float32"}
    np.testing.assert_allclose(losses, wanted, atol=0.05)
    assert {str(v.dtype) for v in net.variables} == {"float32"}
    assert {layer.compute_dtype for layer in net.layers} == {"float32"}


# -- figures and logs


def test_parts_and_figures_are_logged(keras, tmp_path):
    import tensorflow as tf

    def parts(outputs, batch):
        value = loss(outputs, batch)
        return {"loss": 2 * value, "entropy": value}

    result = trained(train_small.network(), loss=parts, log_dir=tmp_path / "log", validate=lambda: 7.0)
    (file,) = (tmp_path / "log").iterdir()
    scalars = {}
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            scalars.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
            assert value.metadata.plugin_data.plugin_name in ("scalars", "")
    assert set(scalars) == {
        "loss", "loss/entropy", "learning_rate", "gradient_norm", "examples_per_s", "input_wait", "validation",
    }  # fmt: skip
    assert scalars["validation"][-1] == (6, 7.0)
    assert [step for step, _ in scalars["loss"]] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([value for _, value in scalars["loss"]], result.losses, rtol=1e-6)
    np.testing.assert_allclose(scalars["loss/entropy"][0][1] * 2, result.losses[0], rtol=1e-6)


def test_a_log_that_cannot_be_written_is_told(keras, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PassError, match="no TensorBoard log can be written in"):
        trained(train_small.network(), log_dir=tmp_path / "file" / "log")


def test_the_pace_leaves_the_first_step_and_pauses_out():
    now = [0.0]
    pace = Pace(lambda: now[0])

    def step(wait_s, work_s):
        began = now[0]
        now[0] += wait_s
        got = now[0]
        now[0] += work_s
        pace.step(began, got, 10)

    step(5.0, 30.0)
    for _ in range(40):
        step(0.025, 0.075)
        now[0] += 4.0
        pace.pause(4.0)
    assert pace.examples_per_s == pytest.approx(100, rel=0.01)
    assert pace.input_wait == pytest.approx(0.25)
    assert Pace().examples_per_s == Pace().input_wait == 0


def test_settings_say_what_they_take():
    with pytest.raises(ValueError, match="mixed_float16"):
        FitSettings(steps=1, precision="float16")
    for wrong in ({"clip_norm": 0}, {"patience": -1}, {"freeze": ("",)}, {"learning_rate": math.nan}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FitSettings(steps=1, **wrong)
