"""Losses of classifiers, spellers and autoencoders against sums made by hand."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def summed_over_alignments(logits, text):
    """-ln of the sum over every way to say `text`, one output a frame: (T, K + 1), the blank last."""
    log_p, blank = log_softmax(logits.astype(np.float64)), logits.shape[-1] - 1
    total = 0.0
    for path in product(range(blank + 1), repeat=len(logits)):
        if [k for k, _ in groupby(path) if k != blank] == list(text):
            total += np.exp(sum(log_p[t, k] for t, k in enumerate(path)))
    return -np.log(total)


@pytest.mark.parametrize("text", [[], [0], [1, 0], [1, 1], [0, 1, 0], [0, 0, 1], [2, 2, 2]])
def test_ctc_is_the_sum_over_all_alignments(text):
    from compress.train.ctc_loss import frames_needed, label_loss

    logits = np.random.default_rng(len(text)).normal(0, 1.5, (2, 5, 4)).astype(np.float32)
    padded = np.full((2, 4), -1, np.int32)
    padded[:, : len(text)] = text
    wanted = np.mean([summed_over_alignments(each, text) for each in logits])
    assert frames_needed(text) <= 5
    np.testing.assert_allclose(float(label_loss(logits, padded)), wanted, rtol=1e-5)


def test_ctc_leaves_out_what_does_not_fit_and_says_nan_where_nothing_does():
    from compress.train.ctc_loss import frames_needed, label_loss

    logits = np.random.default_rng(0).normal(0, 1, (2, 4, 3)).astype(np.float32)
    texts = np.array([[1, 1, 1], [0, 1, -1]], np.int32)
    assert frames_needed([1, 1, 1]) == 5
    np.testing.assert_allclose(
        float(label_loss(logits, texts)), summed_over_alignments(logits[1], [0, 1]), rtol=1e-5
    )
    assert np.isnan(float(label_loss(logits, texts[[0, 0]])))


def test_ctc_has_a_finite_gradient_also_beside_a_text_that_does_not_fit():
    import tensorflow as tf

    from compress.train.ctc_loss import label_loss

    logits = tf.Variable(np.random.default_rng(0).normal(0, 1, (3, 4, 3)).astype(np.float32))
    texts = np.array([[1, 1, 1], [0, 1, -1], [-1, -1, -1]], np.int32)

    @tf.function(autograph=False)
    def gradient():
        with tf.GradientTape() as tape:
            value = label_loss(logits, texts)
        return tape.gradient(value, logits)

    slope = np.array(gradient())
    assert np.isfinite(slope).all()
    assert not slope[0].any()
    assert slope[1].any() and slope[2].any()


def test_what_follows_the_first_negative_symbol_is_not_said():
    from compress.train.ctc_loss import label_loss

    logits = np.random.default_rng(1).normal(0, 1, (1, 5, 4)).astype(np.float32)
    ended = label_loss(logits, np.array([[2, -1, 1]], np.int32))
    assert float(ended) == float(label_loss(logits, np.array([[2, -1, -1]], np.int32)))


def test_greedy_decoding_takes_repeats_once_and_blanks_out():
    from compress.train.ctc_loss import greedy_decode

    paths = [[0, 0, 3, 0, 1, 1], [3, 3, 3, 3, 3, 3], [2, 1, 2, 3, 3, 2]]
    logits = np.eye(4, dtype=np.float32)[np.array(paths)]
    assert greedy_decode(logits) == [[0, 0, 1], [], [2, 1, 2, 2]]


def test_classes_of_every_frame_are_as_classes_of_one():
    from compress.distill.losses import hinton_loss
    from compress.train import class_loss, keyword_loss

    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(0, 1, (2, 2, 3, 4)).astype(np.float32)
    shares = np.exp(log_softmax(teacher)).astype(np.float32)
    wanted = -(shares * log_softmax(logits)).sum(-1).mean()
    assert float(class_loss.label_loss(logits, shares)) == pytest.approx(wanted, rel=1e-5)
    # a divergence is the cross-entropy less the target's own entropy
    entropy = -(shares * np.log(shares)).sum(-1).mean()
    told = float(hinton_loss(logits, teacher, temperature=1.0)) + entropy
    assert told == pytest.approx(wanted, rel=1e-5)
    # the softened target's own entropy is the least that can be had
    soft = np.exp(log_softmax(teacher / 2))
    least = 4 * -(soft * np.log(soft)).sum(-1).mean()
    assert float(hinton_loss(teacher, teacher)) + least == pytest.approx(least, rel=1e-5)
    assert keyword_loss.label_loss is class_loss.label_loss


def test_rebuilding_errors_are_means_of_squares_by_example():
    from compress.train.reconstruction_loss import label_loss, rebuilding_errors

    rng = np.random.default_rng(0)
    rebuilt, wanted = rng.normal(0, 1, (2, 3, 5, 4, 1)).astype(np.float32)
    errors = np.square(rebuilt - wanted).mean((1, 2, 3))
    np.testing.assert_allclose(rebuilding_errors(rebuilt, wanted), errors, rtol=1e-5)
    assert float(label_loss(rebuilt, wanted)) == pytest.approx(errors.mean(), rel=1e-5)
    assert float(label_loss(wanted, wanted)) == 0
