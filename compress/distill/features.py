"""Features of a teacher's layers as something to learn: through projections that are trained along and then left behind.

The student is wrapped: one functional model of the same layers, with a projection of each chosen feature as one more output.
Training the wrapping model trains the student's own layers; the student itself has neither the outputs nor the projections.
A projection (Romero et al. 2015, FitNets) lets the student be narrower: it learns what is needed to compute the teacher's
features, not those features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.distill.losses import DistillLoss, FeatureKind, FeaturePair
from compress.networks.signature import output_names
from edgeai.errors import RecipeError
from edgeai.faults import nearest_hint

PREFIX = "feature_"
LEAST = 1e-6


def with_features(network: Any, layers: Sequence[str]) -> Any:
    """A functional model of the same layers that also gives each layer's output, as feature_0, feature_1, ...

    Raises RecipeError for a layer that is not there, or that gives something else than (B, ..., C) floats.
    """
    import keras

    outputs = _outputs(network)
    for number, name in enumerate(layers):
        outputs[f"{PREFIX}{number}"] = _feature(network, name)
    return keras.Model(network.inputs[0], outputs, name=network.name)


def with_projections(student: Any, teacher: Any, pairs: Sequence[FeaturePair]) -> Any:
    """The student wrapped: it also gives feature_0, ... of its layers, projected to the widths of the teacher's layers.

    Raises RecipeError for a layer that is not there, and for a pair whose maps do not divide into each other.
    """
    import keras

    outputs = _outputs(student)
    for number, pair in enumerate(pairs):
        ours, theirs = _feature(student, pair.student), _feature(teacher, pair.teacher)
        _check_pair(pair, tuple(ours.shape[1:]), tuple(theirs.shape[1:]))
        # over the last axis alone, so for maps it is a 1x1 convolution
        project = keras.layers.Dense(int(theirs.shape[-1]), name=f"projection_{number}")
        outputs[f"{PREFIX}{number}"] = project(ours)
    return keras.Model(student.inputs[0], outputs, name=student.name)


def feature_loss(outputs: Mapping[str, Any], teacher: Mapping[str, Any], settings: DistillLoss) -> Any:
    """Mean over the pairs of `settings.features` of how far (B, ..., C) features are from the teacher's; 0 where equal.

    The larger of two maps is averaged down to the smaller. cosine: 1 - cosine of the vectors at each place, which is half of
    the squared distance of L2-normalised ones. relative: squared distance over the teacher's mean square.
    """
    pairs = range(len(settings.features))
    parts = [
        _pair_loss(outputs[f"{PREFIX}{n}"], teacher[f"{PREFIX}{n}"], settings.feature_kind) for n in pairs
    ]
    return sum(parts) / max(1, len(parts))


def _pair_loss(ours: Any, theirs: Any, kind: FeatureKind) -> Any:
    import tensorflow as tf

    theirs = tf.stop_gradient(tf.cast(theirs, tf.float32))
    ours = tf.cast(ours, tf.float32)
    ours, theirs = _averaged(ours, theirs), _averaged(theirs, ours)
    if kind == "relative":
        return tf.reduce_mean(tf.square(ours - theirs)) / (tf.reduce_mean(tf.square(theirs)) + LEAST)
    cosine = tf.reduce_sum(tf.math.l2_normalize(ours, -1) * tf.math.l2_normalize(theirs, -1), -1)
    # where the teacher has nothing to say (all zero after a ReLU) there is no direction to learn
    there = tf.cast(tf.reduce_any(theirs != 0, -1), tf.float32)
    return tf.reduce_sum((1 - cosine) * there) / tf.maximum(tf.reduce_sum(there), 1.0)


def _averaged(x: Any, other: Any) -> Any:
    """Means over blocks of x, along each axis between the first and the last that is longer than the other's."""
    import tensorflow as tf

    for axis in range(1, len(x.shape) - 1):
        size, wanted = int(x.shape[axis]), int(other.shape[axis])
        if size > wanted:
            blocks = [-1 if n is None else int(n) for n in x.shape]
            blocks[axis : axis + 1] = [wanted, size // wanted]
            x = tf.reduce_mean(tf.reshape(x, [-1, *blocks[1:]]), axis + 1)
    return x


def _outputs(network: Any) -> dict[str, Any]:
    outputs = network.output
    if isinstance(outputs, Mapping):
        return dict(outputs)
    values = outputs if isinstance(outputs, list | tuple) else [outputs]
    return dict(zip(output_names(network), values, strict=True))


def _feature(network: Any, name: str) -> Any:
    known = [layer.name for layer in network.layers]
    if name not in known:
        raise RecipeError(
            f"network {network.name} has no layer {name!r} to learn features of",
            next_step=nearest_hint(name, known),
        )
    output = network.get_layer(name).output
    if isinstance(output, Mapping | list | tuple) or len(output.shape) < 2 or None in output.shape[1:]:
        raise RecipeError(
            f"layer {name!r} of network {network.name} has no output of one fixed shape (..., C)"
        )
    return output


def _check_pair(pair: FeaturePair, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    fits = len(ours) == len(theirs) and all(
        max(a, b) % min(a, b) == 0 for a, b in zip(ours[:-1], theirs[:-1], strict=True)
    )
    if not fits:
        raise RecipeError(
            f"features of {pair.student!r} are {ours}, those of the teacher's {pair.teacher!r} {theirs}: "
            "their maps do not divide into each other",
            next_step="choose layers at the same depth of both",
        )
