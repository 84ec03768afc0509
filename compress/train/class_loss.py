"""The loss of classifiers: cross-entropy on (soft) labels. Those against a teacher are in compress.distill.losses."""

from __future__ import annotations

from typing import Any


def label_loss(logits: Any, targets: Any) -> Any:
    """Mean cross-entropy of (..., K) logits against target distributions of the same shape, in nats."""
    import tensorflow as tf

    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits))
