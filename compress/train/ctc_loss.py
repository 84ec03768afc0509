"""Connectionist temporal classification (Graves et al. 2006): spelling out of frames, without knowing when what was said.

The blank is the last of the network's outputs: symbol k of the labels is output k.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


def label_loss(logits: Any, symbols: Any) -> Any:
    """Mean over a batch of -ln p(symbols), in nats, as tf.nn.ctc_loss computes it.

    logits: (B, T, K + 1), the blank last. symbols: (B, L) int32, each 0..K-1; a negative one ends a shorter text. Texts
    that do not fit into T frames (`frames_needed`) are left out of the mean; where none fits it is NaN.
    """
    import tensorflow as tf

    logits = tf.cast(logits, tf.float32)
    symbols = tf.cast(symbols, tf.int32)
    frames, classes = logits.shape[1], logits.shape[2]
    # what follows the first negative one is no symbol either
    counted = tf.math.cumprod(tf.cast(symbols >= 0, tf.int32), axis=1)
    lengths = tf.reduce_sum(counted, 1)
    repeats = tf.cast(symbols[:, 1:] == symbols[:, :-1], tf.int32) * counted[:, 1:]
    fits = lengths + tf.reduce_sum(repeats, 1) <= frames
    # TensorFlow refuses a whole batch for one text that is empty or does not fit: those are spelled as one symbol, and
    # what comes out is replaced
    spelled = fits & (lengths > 0)
    kept = tf.where(spelled[:, tf.newaxis], counted > 0, tf.one_hot(0, symbols.shape[1]) > 0)
    losses = tf.nn.ctc_loss(
        # sparse labels choose the native kernel: a quarter of the time of the one for dense labels
        labels=tf.SparseTensor(
            tf.where(kept),
            tf.boolean_mask(tf.maximum(symbols, 0), kept),
            tf.shape(symbols, out_type=tf.int64),
        ),
        logits=logits,
        label_length=None,
        logit_length=tf.fill((tf.shape(logits)[0],), frames),
        logits_time_major=False,
        blank_index=classes - 1,
    )
    silent = -tf.reduce_sum(tf.nn.log_softmax(logits)[..., -1], 1)
    losses = tf.where(lengths > 0, losses, silent)
    weights = tf.cast(fits, tf.float32)
    return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)


def frames_needed(symbols: Sequence[int]) -> int:
    """How many frames a text takes at least: one a symbol, and a blank between two equal ones.

    >>> frames_needed([7, 4, 11, 11, 14])
    6
    """
    return len(symbols) + sum(a == b for a, b in pairwise(symbols))


def greedy_decode(logits: NDArray[np.float32]) -> list[list[int]]:
    """The likeliest output of each frame of (B, T, K + 1) logits, repeats taken once, blanks left out.

    >>> greedy_decode(np.eye(3, dtype=np.float32)[[[0, 0, 2, 0, 1, 2]]])
    [[0, 0, 1]]
    """
    likeliest = np.asarray(logits).argmax(-1)
    blank = np.asarray(logits).shape[-1] - 1
    return [
        [int(k) for at, k in enumerate(row) if k != blank and (at == 0 or k != row[at - 1])]
        for row in likeliest
    ]
