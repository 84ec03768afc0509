"""Distilling without data: its terms by numpy, and what is refused. How well it works: tests/bench/bench_data_free.py."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


@pytest.fixture
def eager():
    """Step by step: for a few rounds, tracing the graphs would take far longer than running them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def network(keras, *, classes=3, side=8, seed=1, activation=None):
    keras.utils.set_random_seed(seed)
    x = picture = keras.Input((side, side, 2))
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(picture, {"class": keras.layers.Dense(classes, activation=activation)(x)})


def settings(**changes):
    from compress.distill.data_free import DataFreeSettings

    return DataFreeSettings(**{"rounds": 3, "student_steps": 2, "batch": 4, "latent": 5, "bank": 2} | changes)


def distill(teacher, student, **changes):
    from compress.distill.data_free import distill_data_free

    return distill_data_free(teacher, student, settings(**changes), low=-1.0, high=3.0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_the_generators_terms_are_those_of_the_paper(keras):
    from compress.distill.data_free import generator_parts

    rng = np.random.default_rng(0)
    logits, features = (
        rng.normal(0, 2, (7, 4)).astype(np.float32),
        rng.normal(0, 1, (7, 9)).astype(np.float32),
    )
    told = {name: float(value) for name, value in generator_parts(logits, features).items()}
    p = softmax(logits)
    assert told["one_hot"] == pytest.approx(-np.log(p.max(-1)).mean(), rel=1e-5)
    assert told["activation"] == pytest.approx(-np.abs(features).mean(), rel=1e-5)
    assert told["entropy"] == pytest.approx((p.mean(0) * np.log(p.mean(0))).sum(), rel=1e-5)
    alike = generator_parts(np.eye(4, dtype=np.float32) * 50, features[:4])
    assert float(alike["entropy"]) == pytest.approx(-np.log(4), rel=1e-4)


def test_statistics_are_nothing_apart_where_the_batch_has_those_that_are_remembered(keras):
    from compress.distill.data_free import statistics_distance

    x = np.random.default_rng(0).normal(2, 3, (50, 4, 4, 5)).astype(np.float32)
    norm = keras.layers.BatchNormalization()
    norm.build(x.shape)
    norm.moving_mean.assign(x.mean((0, 1, 2)))
    norm.moving_variance.assign(x.var((0, 1, 2)))
    assert float(statistics_distance([norm], [x])) == pytest.approx(0, abs=1e-6)
    deviation = np.sqrt(x.var((0, 1, 2)) + norm.epsilon)
    wanted = np.square(3 / deviation).mean()
    assert float(statistics_distance([norm], [x + 3])) == pytest.approx(wanted, rel=1e-3)
    assert float(statistics_distance([], [])) == 0


def test_disagreement_is_the_jensen_shannon_divergence(keras):
    from compress.distill.data_free import disagreement

    a, b = np.random.default_rng(0).normal(0, 2, (2, 6, 4)).astype(np.float32)
    p, q = softmax(a), softmax(b)
    m = (p + q) / 2
    wanted = ((p * np.log(p / m)).sum(-1) + (q * np.log(q / m)).sum(-1)).mean() / 2
    assert float(disagreement(a, b)) == pytest.approx(wanted, rel=1e-4)
    assert float(disagreement(a, a)) == pytest.approx(0, abs=1e-6)
    apart = np.eye(2, dtype=np.float32) * 90
    assert float(disagreement(apart, apart[::-1])) == pytest.approx(np.log(2), rel=1e-4)


def test_the_student_moves_and_the_teacher_does_not(keras, eager):
    teacher, student = network(keras), network(keras, seed=2)
    before = [net.get_weights() for net in (teacher, student)]
    result = distill(teacher, student, rounds=2)
    assert all((a == b).all() for a, b in zip(teacher.get_weights(), before[0], strict=True))
    assert any((a != b).any() for a, b in zip(student.get_weights(), before[1], strict=True))
    assert {"one_hot", "activation", "entropy", "statistics", "adversarial", "student"} <= set(result.parts)
    assert 0 <= result.agreement <= 1
    drawn = result.generator(np.random.default_rng(0).normal(0, 1, (9, 5)).astype(np.float32)).numpy()
    assert drawn.shape == (9, 8, 8, 2)
    assert drawn.min() >= -1
    assert drawn.max() <= 3


def test_the_same_seed_gives_the_same_student(keras, eager):
    students = [network(keras, seed=2) for _ in range(2)]
    for student in students:
        distill(network(keras), student, rounds=1)
    for one, other in zip(*(student.get_weights() for student in students), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_teacher_that_says_nan_leaves_the_student_as_it_was(keras, eager):
    teacher, student = network(keras), network(keras, seed=2)
    teacher.set_weights([np.full_like(w, np.nan) for w in teacher.get_weights()])
    before = student.get_weights()
    with pytest.raises(PassError, match=r"became nan in round 1 of 1; .*learning_rate"):
        distill(teacher, student, rounds=1)
    for now, then in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_networks_that_cannot_be_used_are_told_before_work_starts(keras):
    plain = network(keras)
    for teacher, student, told in (
        (plain, network(keras, classes=4), r"says 3 classes of \(8, 8, 2\), the student 4"),
        (plain, network(keras, side=12), r"the student 3 of \(12, 12, 2\)"),
        (network(keras, side=None), network(keras, side=None), "a fixed input size"),
        (network(keras, activation="softmax"), plain, "needs logits"),
        (
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
            plain,
            "a classifier of pictures or sounds",
        ),
        (42, plain, "a classifier of pictures or sounds"),
    ):
        with pytest.raises(PassError, match=told) as caught:
            distill(teacher, student)
        assert "\n" not in str(caught.value)


def test_the_generator_draws_any_size_in_each_channels_range(keras):
    from compress.distill.data_free import build_generator, input_range
    from edgeai.bundle.manifest import ImageInput, LogMelInput

    spec = ImageInput(width=11, height=9, mean=(100.0, 0.0, 50.0), std=(50.0, 255.0, 10.0))
    low, high = input_range(spec)
    generator = build_generator((9, 11, 3), 5, low=low, high=high)
    drawn = generator(
        np.random.default_rng(0).normal(0, 9, (50, 5)).astype(np.float32), training=True
    ).numpy()
    assert drawn.shape == (50, 9, 11, 3)
    for channel, (least, most) in enumerate(zip((-2, 0, -5), (3.1, 1, 20.5), strict=True)):
        assert least <= drawn[..., channel].min() < least + 0.2 * (most - least)
        assert most - 0.2 * (most - least) < drawn[..., channel].max() <= most + 1e-5
    assert input_range(LogMelInput()) == ((-1.0,), (1.0,))


def test_settings_refuse_what_they_do_not_know():
    for bad in ({"rounds": 0}, {"batch": 1}, {"gan": True}, {"entropy": -1}):
        with pytest.raises(ValidationError):
            settings(**bad)
