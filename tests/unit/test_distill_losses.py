"""Losses against a teacher: the same sums by numpy, nothing to lose where both are equal, no gradient into the teacher."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

pytestmark = pytest.mark.compress

RNG = np.random.default_rng(3)
STUDENT, TEACHER = (RNG.normal(0, 2, (2, 6, 5)).astype(np.float32)[i] for i in (0, 1))
FRAMES = RNG.normal(0, 2, (2, 3, 7, 4)).astype(np.float32)
WEIGHTS = np.float32([1, 0, 2, 0.5, 0, 1])


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def hinton(s, t, T):
    p, q = softmax(s / T), softmax(t / T)
    return T**2 * (q * np.log(q / p)).sum(-1)


def dkd(s, t, T, alpha, beta, classes):
    rows = []
    for p, q, k in zip(softmax(s / T), softmax(t / T), classes, strict=True):
        others = np.arange(len(p)) != k
        target = q[k] * np.log(q[k] / p[k]) + (1 - q[k]) * np.log((1 - q[k]) / (1 - p[k]))
        a, b = p[others] / p[others].sum(), q[others] / q[others].sum()
        rows.append(alpha * target + beta * (b * np.log(b / a)).sum())
    return T**2 * np.array(rows)


def dist(s, t, T, alpha, beta):
    p, q = softmax(s / T), softmax(t / T)
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return T**2 * (alpha * inter + beta * intra)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_hintons_loss_is_the_softened_divergence(temperature):
    from compress.distill.losses import hinton_loss

    rows = hinton(STUDENT, TEACHER, temperature)
    assert float(hinton_loss(STUDENT, TEACHER, temperature=temperature)) == pytest.approx(
        rows.mean(), rel=1e-5
    )
    weighted = hinton_loss(STUDENT, TEACHER, temperature=temperature, weights=WEIGHTS)
    assert float(weighted) == pytest.approx(np.average(rows, weights=WEIGHTS), rel=1e-5)


def test_dkd_parts_the_target_from_the_others():
    from compress.distill.losses import dkd_loss

    classes = np.array([0, 4, 2, 1, 1, 3])
    options = {"temperature": 3.0, "alpha": 1.5, "beta": 8.0}
    rows = dkd(STUDENT, TEACHER, 3.0, 1.5, 8.0, classes)
    assert float(dkd_loss(STUDENT, TEACHER, classes=classes, **options)) == pytest.approx(
        rows.mean(), rel=1e-5
    )
    chosen = dkd(STUDENT, TEACHER, 3.0, 1.5, 8.0, TEACHER.argmax(-1))
    assert float(dkd_loss(STUDENT, TEACHER, **options)) == pytest.approx(chosen.mean(), rel=1e-5)


def test_dkd_with_the_teachers_own_weights_is_hintons_loss():
    from compress.distill.losses import dkd_loss, hinton_loss

    one, said = STUDENT[:1], TEACHER[:1]
    left = 1 - softmax(said)[0, 2]
    parted = dkd_loss(one, said, classes=np.array([2]), temperature=1.0, alpha=1.0, beta=left)
    assert float(parted) == pytest.approx(float(hinton_loss(one, said, temperature=1.0)), rel=1e-5)


def test_dist_is_one_minus_correlation_along_both_axes():
    from compress.distill.losses import dist_loss

    wanted = dist(STUDENT, TEACHER, 2.0, 1.5, 0.5)
    assert float(dist_loss(STUDENT, TEACHER, temperature=2.0, alpha=1.5, beta=0.5)) == pytest.approx(
        wanted, rel=1e-5
    )
    left = WEIGHTS > 0
    ones = dist_loss(STUDENT, TEACHER, weights=left.astype(np.float32))
    assert float(ones) == pytest.approx(dist(STUDENT[left], TEACHER[left], 1.0, 1, 1), rel=1e-5)


@pytest.mark.parametrize("kind", ["hinton", "dkd", "dist"])
def test_frames_are_as_so_many_examples(kind):
    from compress.distill.losses import DistillLoss, logit_loss

    settings = DistillLoss(kind=kind)
    s, t = FRAMES
    flat = logit_loss(s.reshape(-1, 4), t.reshape(-1, 4), settings)
    assert float(logit_loss(s, t, settings)) == pytest.approx(float(flat), rel=1e-6)
    weights = np.float32([1, 0, 1])
    some = logit_loss(s[[0, 2]], t[[0, 2]], settings)
    assert float(logit_loss(s, t, settings, weights=weights)) == pytest.approx(float(some), rel=1e-5)


@pytest.mark.parametrize("kind", ["hinton", "dkd", "dist"])
def test_equal_sides_lose_nothing_and_only_the_student_learns(kind):
    import tensorflow as tf

    from compress.distill.losses import DistillLoss, logit_loss

    settings = DistillLoss(kind=kind)
    student, teacher = tf.constant(STUDENT), tf.constant(TEACHER)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([student, teacher])
        same = logit_loss(teacher, tf.identity(teacher), settings)
        value = logit_loss(student, teacher, settings)
    assert abs(float(same)) < 1e-5
    assert np.abs(tape.gradient(same, teacher)).max() < 1e-5
    assert np.abs(tape.gradient(value, student)).max() > 1e-3
    assert tape.gradient(value, teacher) is None
    assert float(value) > 0.01


@pytest.mark.parametrize("kind", ["hinton", "dkd", "dist"])
@pytest.mark.parametrize("size", [0.0, 200.0])
def test_flat_and_extreme_logits_have_finite_losses_and_gradients(kind, size):
    import tensorflow as tf

    from compress.distill.losses import DistillLoss, logit_loss

    student = tf.constant(np.sign(STUDENT) * np.float32(size))
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = logit_loss(student, -student, DistillLoss(kind=kind))
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, student).numpy()).all()


def test_greedy_symbols_are_those_of_the_decoder():
    from compress.distill.losses import greedy_symbols
    from compress.train.ctc_loss import greedy_decode

    logits = RNG.normal(0, 1, (40, 9, 4)).astype(np.float32)
    logits[0, :, 3] = 99
    for row, text in zip(greedy_symbols(logits).numpy(), greedy_decode(logits), strict=True):
        assert row.tolist() == text + [-1] * (9 - len(text))


def test_a_ctc_teachers_silent_frames_count_less_and_its_text_as_a_label():
    from compress.distill.losses import DistillLoss, ctc_teacher_loss
    from compress.train.ctc_loss import greedy_decode, label_loss

    s, t = FRAMES
    weights = 1 - 0.75 * softmax(t)[..., -1]
    wanted = np.average(hinton(s, t, 2.0), weights=weights)
    framewise = DistillLoss(blank_weight=0.25)
    assert float(ctc_teacher_loss(s, t, framewise)) == pytest.approx(wanted, rel=1e-5)
    texts = np.array([text + [-1] * (7 - len(text)) for text in greedy_decode(t)], np.int32)
    heard = float(label_loss(s, texts))
    assert float(ctc_teacher_loss(s, t, DistillLoss(sequence=1.0))) == pytest.approx(heard, rel=1e-5)
    both = ctc_teacher_loss(s, t, framewise.model_copy(update={"sequence": 0.25}))
    assert float(both) == pytest.approx(0.75 * wanted + 0.25 * heard, rel=1e-5)


def test_settings_refuse_what_they_do_not_know():
    from compress.distill.losses import DistillLoss

    for bad in ({"kind": "magic"}, {"temperature": 0}, {"gamma": 1}, {"beta": float("nan")}):
        with pytest.raises(ValidationError):
            DistillLoss(**bad)
