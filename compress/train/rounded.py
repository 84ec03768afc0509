"""Weights that are learned in float and used rounded to int8: what quantization-aware training does to kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STEPS = 127  # to either side of 0: TFLite's weights are symmetric
# of each weight, by path, the axes along which it has a scale each; () for one scale for all of it
Kernels = dict[str, tuple[int, ...]]


def round_kernel(weights: Any, axes: Sequence[int]) -> Any:
    """A float tensor with every value on the nearest of 255 steps from -largest to largest, whose gradient is passed
    through as it is (the straight-through estimator, Bengio et al. 2013).

    The largest magnitude is taken anew each time, for each place along `axes`: that is the scale the TFLite quantizer finds
    in the result, so that it rounds to the same integers.
    """
    import tensorflow as tf

    kept = {axis % len(weights.shape) for axis in axes}
    others = [axis for axis in range(len(weights.shape)) if axis not in kept]
    largest = tf.reduce_max(tf.abs(tf.stop_gradient(weights)), axis=others, keepdims=True)
    step = tf.where(largest > 0, largest, 1.0) / STEPS
    return weights + tf.stop_gradient(tf.round(weights / step) * step - weights)
