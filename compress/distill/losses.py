"""Losses against a teacher's logits: Hinton's, DKD, DIST; and for sequences, frame by frame or by what was heard.

Every loss takes (B, K) or (B, T, K) logits of student and teacher, and gives a scalar. No gradient reaches the teacher. Where
`weights` are given, (B,) or (B, T), they say how much each row counts in the mean; rows of weight 0 do not count at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0, le=1000)]
FeatureKind = Literal["cosine", "relative"]
LEAST = 1e-8


class FeaturePair(BaseModel):
    """A layer of the student whose output is to be like that of a layer of the teacher, by their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    student: Annotated[str, Field(min_length=1)]
    teacher: Annotated[str, Field(min_length=1)]


class DistillLoss(BaseModel):
    """How to learn from a teacher.

    kind: of the loss on logits. temperature: divides both sides' logits. alpha, beta: of DKD, the weights of the target class
    and of the others; of DIST, those of the relations between classes and within one. blank_weight: how much a frame counts
    in which a CTC teacher hears nothing. sequence: of CTC's loss, the share of what the teacher heard, as a text.
    features: pairs of layers, with their weight and kind (compress.distill.features); only from a Keras teacher.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: Literal["hinton", "dkd", "dist"] = "hinton"
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    alpha: Weight = 1.0
    beta: Weight = 1.0
    blank_weight: Annotated[float, Field(ge=0, le=1)] = 1.0
    sequence: Annotated[float, Field(ge=0, le=1)] = 0.0
    features: tuple[FeaturePair, ...] = ()
    feature_weight: Weight = 1.0
    feature_kind: FeatureKind = "cosine"


def hinton_loss(logits: Any, teacher: Any, *, temperature: float = 2.0, weights: Any = None) -> Any:
    """T^2 KL(teacher || student) of distributions softened by T (Hinton et al. 2015), in nats; 0 where they are equal."""
    import tensorflow as tf

    logits, teacher, weights = _rows(logits, teacher, weights)
    log_p = tf.nn.log_softmax(logits / temperature)
    log_q = tf.nn.log_softmax(teacher / temperature)
    return temperature**2 * _mean(tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), -1), weights)


def dkd_loss(
    logits: Any,
    teacher: Any,
    *,
    classes: Any = None,
    temperature: float = 2.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    weights: Any = None,
) -> Any:
    """T^2 (alpha TCKD + beta NCKD): decoupled knowledge distillation (Zhao et al. 2022); 0 where both are equal.

    TCKD is the divergence of (target class, all others), NCKD that of the others among themselves. classes: the target
    classes, (B,) or (B, T) integers; the teacher's own choice where None, as for unlabelled data. With alpha = 1 and beta =
    1 - (the teacher's probability of the target) it would be hinton_loss.
    """
    import tensorflow as tf

    kinds = logits.shape[-1]
    logits, teacher, weights = _rows(logits, teacher, weights)
    chosen = tf.argmax(teacher, -1) if classes is None else tf.reshape(classes, [-1])
    target = tf.one_hot(chosen, kinds, on_value=True, off_value=False, dtype=tf.bool)

    def parted(values: Any) -> tuple[Any, Any]:
        """Logarithms: of (target, others together) (N, 2); of the others among themselves (N, K), 0 at the target."""
        log_p = tf.nn.log_softmax(values / temperature)
        # -inf would be right and its gradient is none: far below any logit is 0 in float32 too
        others = tf.where(target, tf.constant(-1e9, log_p.dtype), log_p)
        together = tf.reduce_logsumexp(others, -1)
        own = tf.reduce_sum(tf.where(target, log_p, tf.zeros_like(log_p)), -1)
        among = tf.where(target, tf.zeros_like(log_p), others - together[:, tf.newaxis])
        return tf.stack([own, together], -1), among

    (pair, among), (pair_said, among_said) = parted(logits), parted(teacher)
    target_part = tf.reduce_sum(tf.exp(pair_said) * (pair_said - pair), -1)
    # at the target both are 0, so it adds nothing
    other_part = tf.reduce_sum(tf.exp(among_said) * (among_said - among), -1)
    return temperature**2 * _mean(alpha * target_part + beta * other_part, weights)


def dist_loss(
    logits: Any,
    teacher: Any,
    *,
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    weights: Any = None,
) -> Any:
    """T^2 (alpha inter + beta intra): DIST (Huang et al. 2022); 0 where both are equal.

    Each is 1 - Pearson's correlation of softened probabilities: inter over the classes of each row, averaged over rows;
    intra over the rows for each class, averaged over classes. It needs several rows in a batch.
    """
    import tensorflow as tf

    logits, teacher, weights = _rows(logits, teacher, weights)
    p, q = tf.nn.softmax(logits / temperature), tf.nn.softmax(teacher / temperature)
    inter = _mean(1 - _correlation(p, q, tf.ones_like(p)), weights)
    rows = tf.ones_like(p[:, 0]) if weights is None else weights
    intra = tf.reduce_mean(1 - _correlation(tf.transpose(p), tf.transpose(q), rows[tf.newaxis]))
    return temperature**2 * (alpha * inter + beta * intra)


def logit_loss(
    logits: Any, teacher: Any, settings: DistillLoss, *, classes: Any = None, weights: Any = None
) -> Any:
    """The loss of `settings.kind`. classes: for DKD, see dkd_loss."""
    return _KINDS[settings.kind](logits, teacher, settings, classes, weights)


def imitation_loss(outputs: Mapping[str, Any], teacher: Mapping[str, Any]) -> Any:
    """Squared difference of outputs that nothing is known of, each channel by its own variance over the batch."""
    import tensorflow as tf

    told = []
    for name, wanted in teacher.items():
        axes = list(range(len(wanted.shape) - 1))
        variance = tf.math.reduce_variance(wanted, axes)
        # a channel that hardly moves must not outweigh the others
        variance = tf.maximum(variance, 1e-2 * tf.reduce_mean(variance) + 1e-12)
        told.append(tf.reduce_mean(tf.square(outputs[name] - wanted) / variance))
    return tf.add_n(told) / len(told)


def ctc_teacher_loss(logits: Any, teacher: Any, settings: DistillLoss) -> Any:
    """Against a teacher that spells by CTC: (B, T, K + 1) logits of both, the blank last, as many frames.

    (1 - sequence) of the loss on each frame's logits, where frames count by blank_weight as far as the teacher hears nothing
    in them; and sequence of CTC's loss on what the teacher heard (Kim & Rush 2016, sequence-level distillation).
    """
    import tensorflow as tf

    from compress.train.ctc_loss import label_loss

    frames: Any = 0.0
    if settings.sequence < 1:
        nothing = tf.stop_gradient(tf.nn.softmax(teacher)[..., -1])
        weights = None if settings.blank_weight == 1 else 1 - (1 - settings.blank_weight) * nothing
        frames = logit_loss(logits, teacher, settings, weights=weights)
    if settings.sequence == 0:
        return frames
    heard = label_loss(logits, greedy_symbols(teacher))
    return (1 - settings.sequence) * frames + settings.sequence * heard


def greedy_symbols(logits: Any) -> Any:
    """What greedy decoding reads in (B, T, K + 1) logits, the blank last: (B, T) int32, -1 after the last symbol."""
    import tensorflow as tf

    frames, blank = logits.shape[1], logits.shape[2] - 1
    likeliest = tf.argmax(logits, -1, output_type=tf.int32)
    before = tf.pad(likeliest[:, :-1], [[0, 0], [1, 0]], constant_values=-1)
    said = (likeliest != blank) & (likeliest != before)
    place = tf.cumsum(tf.cast(said, tf.int32), axis=1) - 1
    # symbol i is the sum of the one frame that says it: shapes stay those of the batch
    spread = tf.one_hot(tf.where(said, place, -1), frames, dtype=tf.int32)
    symbols = tf.reduce_sum(spread * (likeliest + 1)[..., tf.newaxis], 1) - 1
    return tf.stop_gradient(symbols)


def _hinton(logits: Any, teacher: Any, settings: DistillLoss, classes: Any, weights: Any) -> Any:
    return hinton_loss(logits, teacher, temperature=settings.temperature, weights=weights)


def _dkd(logits: Any, teacher: Any, settings: DistillLoss, classes: Any, weights: Any) -> Any:
    return dkd_loss(
        logits,
        teacher,
        classes=classes,
        temperature=settings.temperature,
        alpha=settings.alpha,
        beta=settings.beta,
        weights=weights,
    )


def _dist(logits: Any, teacher: Any, settings: DistillLoss, classes: Any, weights: Any) -> Any:
    return dist_loss(
        logits,
        teacher,
        temperature=settings.temperature,
        alpha=settings.alpha,
        beta=settings.beta,
        weights=weights,
    )


_KINDS: dict[str, Callable[[Any, Any, DistillLoss, Any, Any], Any]] = {
    "hinton": _hinton,
    "dkd": _dkd,
    "dist": _dist,
}


def _rows(logits: Any, teacher: Any, weights: Any) -> tuple[Any, Any, Any]:
    """(N, K), (N, K) without a gradient, and (N,) or None."""
    import tensorflow as tf

    kinds = logits.shape[-1]
    flat = tf.reshape(tf.cast(logits, tf.float32), [-1, kinds])
    said = tf.stop_gradient(tf.reshape(tf.cast(teacher, tf.float32), [-1, kinds]))
    if weights is None:
        return flat, said, None
    weights = tf.cast(weights, tf.float32)
    if len(weights.shape) < len(logits.shape) - 1:
        weights = tf.broadcast_to(weights[:, tf.newaxis], tf.shape(logits)[:-1])
    return flat, said, tf.stop_gradient(tf.reshape(weights, [-1]))


def _mean(values: Any, weights: Any) -> Any:
    import tensorflow as tf

    if weights is None:
        return tf.reduce_mean(values)
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), LEAST)


def _correlation(a: Any, b: Any, weights: Any) -> Any:
    """Pearson's, weighted, over the last axis."""
    import tensorflow as tf

    total = tf.maximum(tf.reduce_sum(weights, -1, keepdims=True), LEAST)
    a -= tf.reduce_sum(a * weights, -1, keepdims=True) / total
    b -= tf.reduce_sum(b * weights, -1, keepdims=True) / total
    product = tf.reduce_sum(a * b * weights, -1)
    sizes = tf.reduce_sum(a * a * weights, -1) * tf.reduce_sum(b * b * weights, -1)
    return product / tf.sqrt(sizes + LEAST**2)
