"""Muon: kernels are moved by orthogonalized momentum (Jordan et al. 2024), everything else by AdamW.

Adam scales each number of a gradient on its own; Muon takes a kernel as the matrix that it is, and moves it as far in every
direction that the gradient has. Its steps are scaled as in Liu et al. 2025 (arXiv:2502.16982, section 2.2), so that they are as
long as AdamW's: the same learning rate and weight decay suit both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.train.forward import output_layers

MOMENTUM = 0.95
ROUNDS = 5
# of x (a I + b A + c A A) with A = x x^T: drives singular values to about 1 from anywhere in 0..1 (Jordan et al. 2024)
_A, _B, _C = 3.4445, -4.7750, 2.0315
AS_ADAM = 0.2  # root mean square of a step of Adam's, in learning rates


def muon_kernels(network: Any) -> frozenset[int]:
    """The ids of variables that Muon moves: kernels of convolutions and dense layers, but those of the outputs, whose rows are
    no directions of a common space. Depthwise, grouped and recurrent kernels are no matrices of that kind either.
    """
    import keras

    layers = keras.layers
    kinds = (layers.Conv1D, layers.Conv2D, layers.Dense)
    heads = output_layers(network)
    return frozenset(
        id(layer.kernel)
        for layer in network._flatten_layers(include_self=False)
        if type(layer) in kinds
        and id(layer) not in heads
        and getattr(layer, "groups", 1) == 1
        and layer.built
    )


def orthogonalized(kernel: Any) -> Any:
    """A kernel (..., in, out) as the nearest matrix with all singular values alike, by Newton and Schulz, of the root mean
    square AS_ADAM.
    """
    import tensorflow as tf

    shape = tuple(int(side) for side in kernel.shape)
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    x = tf.reshape(kernel, (rows, columns))
    tall = rows > columns
    if tall:
        x = tf.transpose(x)
    x /= tf.norm(x) + 1e-7
    # every round is x <- p(x x^T) x, and all these p commute: they are multiplied up small, side by side with x x^T
    one = tf.eye(min(rows, columns))
    square, product = tf.matmul(x, x, transpose_b=True), one
    for _ in range(ROUNDS):
        step = _A * one + tf.matmul(_B * one + _C * square, square)
        product = tf.matmul(step, product)
        square = tf.matmul(tf.matmul(step, square), step)
    x = tf.matmul(product, x)
    if tall:
        x = tf.transpose(x)
    return tf.reshape(x * (AS_ADAM * np.sqrt(max(rows, columns))), shape)


def muon_step(pieces: Sequence[Any], chosen: Sequence[bool]) -> Any:
    """The flat step, in learning rates: `pieces` of the momentum orthogonalized where `chosen`, zeros elsewhere."""
    import tensorflow as tf

    steps = [
        tf.reshape(orthogonalized(piece), [-1]) if mine else tf.zeros(int(np.prod(piece.shape)))
        for piece, mine in zip(pieces, chosen, strict=True)
    ]
    return tf.concat(steps, 0)
