"""Losses of autoencoders: how far what came out is from what went in."""

from __future__ import annotations

from typing import Any


def rebuilding_errors(rebuilt: Any, wanted: Any) -> Any:
    """Mean squared error of each example, (B, ...) and (B, ...) to (B,): also what tells the usual from the unusual."""
    import tensorflow as tf

    squared = tf.math.squared_difference(rebuilt, tf.cast(wanted, rebuilt.dtype))
    return tf.reduce_mean(tf.reshape(squared, (tf.shape(squared)[0], -1)), -1)


def label_loss(rebuilt: Any, wanted: Any) -> Any:
    """The mean of the batch's errors."""
    import tensorflow as tf

    return tf.reduce_mean(rebuilding_errors(rebuilt, wanted))
