"""Losses of classifiers: cross-entropy on (soft) labels, softened cross-entropy on a teacher's logits."""

from __future__ import annotations

from typing import Any


def label_loss(logits: Any, targets: Any) -> Any:
    """Mean cross-entropy of (..., K) logits against target distributions of the same shape, in nats."""
    import tensorflow as tf

    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits))


def teacher_loss(logits: Any, teacher_logits: Any, *, temperature: float = 2.0) -> Any:
    """Hinton et al. 2015: cross-entropy of softened distributions, times the square of the temperature."""
    import tensorflow as tf

    soft = tf.stop_gradient(tf.nn.softmax(teacher_logits / temperature))
    return temperature**2 * tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(labels=soft, logits=logits / temperature)
    )
