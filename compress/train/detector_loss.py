"""Losses of grid detectors in TensorFlow: soft-target focal scores and GIoU boxes, from labels or from a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BOX_WEIGHT = 2.0
MAX_LOG_SIDE = 8.0  # exp(8) cells: beyond any picture, and far from overflow


def has_maps(outputs: Iterable[str], strides: Sequence[int]) -> bool:
    """Whether outputs of these names are maps of boxes and classes, as the losses here take them."""
    names = set(outputs)
    return all({f"box_{stride}", f"class_{stride}"} <= names for stride in strides)


def score_logs(outputs: Mapping[str, Any], stride: int) -> tuple[Any, Any]:
    """(ln p, ln (1 - p)) at each cell and class, p = class score, times objectness where the model has it."""
    import tensorflow as tf

    log_p = tf.math.log_sigmoid(outputs[f"class_{stride}"])
    if f"object_{stride}" in outputs:
        log_p += tf.math.log_sigmoid(outputs[f"object_{stride}"])
    log_p = tf.minimum(log_p, -1e-6)
    return log_p, tf.math.log(-tf.math.expm1(log_p))


def decode_boxes(raw: Any, stride: int) -> Any:
    """Raw (B, h, w, 4) to xyxy pixels: centre = (cell + offset) * stride, side = exp(raw) * stride (YOLOX)."""
    import tensorflow as tf

    rows, columns = raw.shape[1], raw.shape[2]
    grid_y, grid_x = tf.meshgrid(
        tf.range(rows, dtype=tf.float32), tf.range(columns, dtype=tf.float32), indexing="ij"
    )
    centre = (raw[..., :2] + tf.stack([grid_x, grid_y], -1)) * stride
    half = tf.exp(tf.clip_by_value(raw[..., 2:], -MAX_LOG_SIDE, MAX_LOG_SIDE)) * (stride / 2)
    return tf.concat([centre - half, centre + half], -1)


def giou(a: Any, b: Any) -> Any:
    """Generalised IoU of boxes in pairs (Rezatofighi et al. 2019), (..., 4) to (...)."""
    import tensorflow as tf

    low, high = tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])
    both = tf.reduce_prod(tf.maximum(high - low, 0.0), -1)
    area_a = tf.reduce_prod(tf.maximum(a[..., 2:] - a[..., :2], 0.0), -1)
    area_b = tf.reduce_prod(tf.maximum(b[..., 2:] - b[..., :2], 0.0), -1)
    union = area_a + area_b - both
    hull = tf.reduce_prod(tf.maximum(a[..., 2:], b[..., 2:]) - tf.minimum(a[..., :2], b[..., :2]), -1)
    return both / (union + 1e-6) - (hull - union) / (hull + 1e-6)


def label_loss(outputs: Mapping[str, Any], targets: Mapping[str, Any], strides: Sequence[int]) -> Any:
    """Against assigned boxes (grid_targets): varifocal-like scores (Zhang et al. 2021) and GIoU, per positive cell.

    A score's target is the label's score times the IoU that the predicted box reaches now, so that confident means well
    placed; the negatives' weight is p^2, as in focal loss.
    """
    import tensorflow as tf

    score_loss, box_loss, positives = 0.0, 0.0, 0.0
    for stride in strides:
        wanted, weight = targets[f"score_{stride}"], targets[f"weight_{stride}"]
        positive = tf.reduce_max(wanted, -1)
        overlap = giou(decode_boxes(outputs[f"box_{stride}"], stride), targets[f"box_{stride}"])
        quality = tf.stop_gradient(tf.clip_by_value(overlap, 0.3, 1.0))[..., None]
        log_p, log_not_p = score_logs(outputs, stride)
        target = wanted * quality
        p = tf.stop_gradient(tf.exp(log_p))
        importance = tf.where(wanted > 0, wanted, 0.75 * tf.square(p))
        entropy = -(target * log_p + (1 - target) * log_not_p)
        score_loss += tf.reduce_sum(entropy * importance * weight)
        box_loss += tf.reduce_sum((1 - overlap) * positive)
        positives += tf.reduce_sum(positive)
    # a batch without an object must not weigh a thousand times one with
    return (score_loss + BOX_WEIGHT * box_loss) / tf.maximum(positives, 1.0)


def teacher_loss(outputs: Mapping[str, Any], teacher: Mapping[str, Any], strides: Sequence[int]) -> Any:
    """Against a teacher with the same grid, cell by cell: quality-focal scores (Li et al. 2020) and GIoU boxes."""
    import tensorflow as tf

    score_loss, box_loss, mass = 0.0, 0.0, 0.0
    for stride in strides:
        wanted = tf.stop_gradient(tf.exp(score_logs(teacher, stride)[0]))
        log_p, log_not_p = score_logs(outputs, stride)
        p = tf.stop_gradient(tf.exp(log_p))
        entropy = -(wanted * log_p + (1 - wanted) * log_not_p)
        score_loss += tf.reduce_sum(entropy * tf.maximum(tf.square(p - wanted), 0.25 * wanted))
        strength = tf.reduce_max(wanted, -1)
        strength = tf.where(strength > 0.1, strength, 0.0)
        boxes = tf.stop_gradient(decode_boxes(teacher[f"box_{stride}"], stride))
        box_loss += tf.reduce_sum(
            (1 - giou(decode_boxes(outputs[f"box_{stride}"], stride), boxes)) * strength
        )
        mass += tf.reduce_sum(strength)
    return (score_loss + BOX_WEIGHT * box_loss) / tf.maximum(mass, 1.0)
