"""What two views of a picture must agree on, in TensorFlow: which place of the one is which place of the other.

Contrastive (van den Oord et al. 2018, InfoNCE), place by place: the views of a place attract each other, all other places of
the batch are what it must be told from. Matching by known position rather than by likeness is as in VICRegL (Bardes et al.
2022, section 3.1) and PixPro (Xie et al. 2021); a detector's grid needs features that tell places apart, not pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

POOLED = "pooled"


def match_loss(first: Any, second: Any, temperature: float) -> Any:
    """InfoNCE both ways: (N, D) against (N, D), row i of the one belongs to row i of the other."""
    import tensorflow as tf

    first, second = tf.math.l2_normalize(first, -1), tf.math.l2_normalize(second, -1)
    alike = tf.matmul(first, second, transpose_b=True) / temperature
    right = tf.range(tf.shape(alike)[0])
    ways = [
        tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=right, logits=logits))
        for logits in (alike, tf.transpose(alike))
    ]
    return (ways[0] + ways[1]) / 2


def view_loss(
    outputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    *,
    maps: Sequence[str],
    pooled_share: float,
    temperature: float,
) -> dict[str, Any]:
    """The loss of embeddings of interleaved views: `maps` (2 B, h, w, D) at the shared points, POOLED (2 B, D) whole."""
    parts: dict[str, Any] = {}
    for name in maps:
        first, second = matched_rows(outputs[name], targets)
        parts[name] = match_loss(first, second, temperature)
    parts[POOLED] = match_loss(outputs[POOLED][0::2], outputs[POOLED][1::2], temperature)
    local = sum(parts[name] for name in maps) / len(maps)
    return {"loss": (1 - pooled_share) * local + pooled_share * parts[POOLED], **parts}


def matched_rows(embedded: Any, targets: Mapping[str, Any]) -> tuple[Any, Any]:
    """(B * P, D) of the first views and of the second, at the points that they share."""
    import tensorflow as tf

    rows = [sample_map(embedded[side::2], targets[name]) for side, name in enumerate(("first", "second"))]
    return tuple(tf.reshape(row, (-1, embedded.shape[-1])) for row in rows)


def sample_map(features: Any, points: Any) -> Any:
    """(B, h, w, D) at (B, P, 2) points, x y as fractions of the map: (B, P, D), bilinear between the middles of cells."""
    import tensorflow as tf

    height, width, depth = features.shape[1:]
    sides = tf.constant((width, height), tf.float32)
    limit = sides - 1
    at = tf.clip_by_value(tf.cast(points, tf.float32) * sides - 0.5, 0.0, limit)
    low = tf.minimum(tf.floor(at), tf.maximum(limit - 1, 0.0))
    share = at - low
    x, y = (tf.cast(low[..., axis], tf.int32) for axis in (0, 1))
    flat = tf.reshape(features, (-1, height * width, depth))
    result: Any = 0.0
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight_x = share[..., 0] if right else 1 - share[..., 0]
        weight_y = share[..., 1] if down else 1 - share[..., 1]
        index = tf.minimum(y + down, height - 1) * width + tf.minimum(x + right, width - 1)
        result += tf.gather(flat, index, batch_dims=1) * (weight_x * weight_y)[..., tf.newaxis]
    return result
