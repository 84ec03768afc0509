"""Distillation without any data: a generator draws what the teacher knows, and the student learns on that.

Only a classifier's own network is needed. The generator is trained to draw pictures that the teacher is sure about, of all
classes alike, that excite its features (Chen et al. 2019, DAFL), whose statistics are those that its batch norms remember
of the real ones (Yin et al. 2020, DeepInversion), and on which the student still differs from it (Fang et al. 2019, DFAD).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from compress.distill.losses import hinton_loss
from compress.train.schedule import learning_rate_at
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.console import progress_bar
from edgeai.errors import PassError

Weight = Annotated[float, Field(ge=0)]
CHECK_EVERY = 20
MAX_BANK_BYTES = 256 << 20
WIDTHS = (64, 32)  # the generator's, after each doubling
FIRST_CONTRAST = 2.0


class DataFreeSettings(BaseModel):
    """How to distil without data.

    rounds: in each the generator makes one step and the student `student_steps`. batch: pictures in each step. latent: length
    of the noise that a picture is drawn from. bank: batches of earlier pictures that are kept for the student.
    one_hot, activation, entropy: the weights of DAFL's three terms; statistics: of the batch norms' (without any in the
    teacher it does nothing); adversarial: of the student's disagreement, which the generator seeks.

    The weights were chosen on a part of the training digits (tests/bench/bench_data_free.py): of the teacher's 98.8 % a
    student got 44 % without the adversarial term, 56 to 61 % with it and statistics at 10 and 30 (all 400 rounds); with
    1200 rounds and these weights 95 and 96 % (two seeds).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    rounds: Annotated[int, Field(ge=1)] = 2000
    student_steps: Annotated[int, Field(ge=1)] = 3
    batch: Annotated[int, Field(ge=2)] = 64
    latent: Annotated[int, Field(ge=1)] = 64
    bank: Annotated[int, Field(ge=1)] = 64
    one_hot: Weight = 0.3
    activation: Weight = 0.1
    entropy: Weight = 5.0
    statistics: Weight = 50.0
    adversarial: Weight = 10.0
    temperature: Annotated[float, Field(gt=0)] = 2.0
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    generator_rate: Annotated[float, Field(gt=0)] = 2e-3
    seed: Annotated[int, Field(ge=0)] = 1


@dataclass(frozen=True, slots=True)
class DataFreeResult:
    """generator: (B, latent) normal noise to pictures in the network's own range. parts: the generator's terms, one value a
    check. agreement: fraction of the last drawn pictures that student and teacher say the same class of.
    """

    generator: Any
    parts: dict[str, list[float]] = field(repr=False)
    agreement: float = 0.0
    seconds: float = 0.0


def distill_data_free(
    teacher: Any,
    student: Any,
    settings: DataFreeSettings,
    *,
    low: float | Sequence[float],
    high: float | Sequence[float],
    description: str = "distill without data",
) -> DataFreeResult:
    """Train `student`, in place, to say what `teacher` says, on pictures that are drawn for it.

    Both are functional Keras models from (height, width, channels) to one output of (classes,) logits: pictures, or features
    of sounds. low, high: the range of an input's values, of all channels or of each (input_range). Raises PassError for other networks, and where the training
    diverges; the student is then as it was.
    """
    import keras

    check_networks(teacher, student)
    began = time.monotonic()
    keras.utils.set_random_seed(settings.seed)
    generator = build_generator(teacher.inputs[0].shape[1:], settings.latent, low=low, high=high)
    before = student.get_weights()
    game = _Game(teacher, student, generator, settings)
    try:
        agreement = game.play(description)
    except BaseException:
        student.set_weights(before)
        raise
    return DataFreeResult(generator, game.parts, agreement, time.monotonic() - began)


def check_networks(teacher: Any, student: Any) -> None:
    """Raise PassError unless both take one picture of the same fixed size and give as many logits."""
    for network, what in ((teacher, "teacher"), (student, "student")):
        inputs, outputs = getattr(network, "inputs", None) or [], getattr(network, "outputs", None) or []
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 2:
            raise PassError(
                f"distilling without data needs a classifier of pictures or sounds; the {what} is from "
                f"{[tuple(t.shape[1:]) for t in inputs]} to {[tuple(t.shape[1:]) for t in outputs]}",
                next_step="give data, unlabelled will do",
            )
    (theirs, ours), (said, wanted) = (
        (tuple(teacher.inputs[0].shape[1:]), tuple(student.inputs[0].shape[1:])),
        (int(teacher.outputs[0].shape[1]), int(student.outputs[0].shape[1])),
    )
    if theirs != ours or said != wanted:
        raise PassError(
            f"the teacher says {said} classes of {theirs}, the student {wanted} of {ours}: they must be the same"
        )
    if _is_softmax(teacher.outputs[0]) or _is_softmax(student.outputs[0]):
        raise PassError(
            "distilling without data needs logits, and a network ends in a softmax",
            next_step="give the networks without it",
        )
    if None in ours:
        raise PassError(
            f"a picture of {ours} cannot be drawn", next_step="give networks of a fixed input size"
        )


def _is_softmax(tensor: Any) -> bool:
    layer = tensor._keras_history.operation
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return activation == "softmax" or type(layer).__name__ == "Softmax"


def input_range(spec: ImageInput | LogMelInput) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(lowest, highest) value of each channel of what a network takes.

    >>> input_range(ImageInput(width=8, height=8, std=(255.0, 255.0, 127.5)))
    ((0.0, 0.0, 0.0), (1.0, 1.0, 2.0))
    """
    if isinstance(spec, LogMelInput):
        return (-1.0,), (1.0,)
    each = list(zip(spec.mean, spec.std, strict=True))
    # no minus zero
    return tuple((0.0 - m) / s + 0.0 for m, s in each), tuple((255.0 - m) / s for m, s in each)


def build_generator(
    shape: tuple[int, ...], latent: int, *, low: float | Sequence[float], high: float | Sequence[float]
) -> Any:
    """An untrained Keras model from (latent,) noise to a picture of `shape` (height, width, channels) in low..high."""
    import keras

    def normed(x: Any) -> Any:
        return keras.layers.LeakyReLU(0.2)(keras.layers.BatchNormalization(momentum=0.9)(x))

    height, width, channels = shape
    rows, columns = -(-height // 4), -(-width // 4)
    noise = keras.Input((latent,), name="noise")
    x = keras.layers.Dense(rows * columns * WIDTHS[0])(noise)
    x = normed(keras.layers.Reshape((rows, columns, WIDTHS[0]))(x))
    for filters in WIDTHS:
        x = keras.layers.UpSampling2D(interpolation="bilinear")(x)
        x = normed(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
    x = keras.layers.Conv2D(channels, 3, padding="same", name="drawn")(x)
    x = keras.layers.Cropping2D(((0, 4 * rows - height), (0, 4 * columns - width)))(x)
    # its own mean and spread, so that real statistics can be met: with fixed ones a student had learnt nothing of digits
    contrast = keras.initializers.Constant(FIRST_CONTRAST)
    x = keras.layers.BatchNormalization(momentum=0.9, gamma_initializer=contrast)(x)
    x = keras.layers.Activation("sigmoid")(x)
    lowest, highest = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (low, high))
    x = keras.layers.Rescaling((highest - lowest).tolist(), lowest.tolist())(x)
    return keras.Model(noise, x, name="generator")


class _Game:
    """The generator's and the student's steps, in turns."""

    def __init__(self, teacher: Any, student: Any, generator: Any, settings: DataFreeSettings) -> None:
        import keras
        import tensorflow as tf

        self._generator, self._settings = generator, settings
        # one tensor out, whether the network was built with a dict of them or not
        self._student = keras.Model(student.inputs[0], student.outputs[0])
        # one that is called several times remembers a mixture, which no single batch has the statistics of
        self._norms = [
            layer
            for layer in teacher.layers
            if isinstance(layer, keras.layers.BatchNormalization) and len(layer._inbound_nodes) == 1
        ]
        logits = teacher.outputs[0]
        features = tf.nest.flatten(logits._keras_history.operation.input)[0]
        watched = [logits, features, *(layer.input for layer in self._norms)]
        self._watched = keras.Model(teacher.inputs[0], watched)
        shape = student.inputs[0].shape[1:]
        room = MAX_BANK_BYTES // (4 * settings.batch * int(np.prod(shape)))
        self._kept = max(1, min(settings.bank, room))
        self._bank = tf.Variable(tf.zeros((self._kept, settings.batch, *shape)), trainable=False)
        self._learner = keras.optimizers.AdamW(settings.learning_rate, weight_decay=1e-4)
        self._drawer = keras.optimizers.Adam(settings.generator_rate, beta_1=0.5)
        self._learner.build(student.trainable_variables)
        self._drawer.build(generator.trainable_variables)
        self.parts: dict[str, list[float]] = {}

    def play(self, description: str) -> float:
        """All rounds; the fraction of the last pictures that both name alike. Raises PassError where it diverges."""
        import tensorflow as tf

        settings, rng = self._settings, np.random.default_rng(self._settings.seed)
        draw, learn = (tf.function(step, autograph=False) for step in (self._draw, self._learn))
        agreement = 0.0
        with progress_bar(description, settings.rounds) as advance:
            for number in range(settings.rounds):
                rate = learning_rate_at(
                    number, steps=settings.rounds, peak=settings.learning_rate, warm_up=0.02
                )
                self._learner.learning_rate.assign(rate)
                parts = draw(tf.constant(number % self._kept))
                picks = rng.integers(0, min(number + 1, self._kept), (settings.student_steps, 2))
                picks[0, 0] = number % self._kept
                for pick in picks:
                    learnt = learn(tf.constant(pick))
                if number % CHECK_EVERY == CHECK_EVERY - 1 or number == settings.rounds - 1:
                    told = {name: float(value) for name, value in {**parts, **learnt}.items()}
                    self._tell(number + 1, told)
                    agreement = told["agreement"]
                    advance(number % CHECK_EVERY + 1, note=f"agree {agreement:.0%}")
        return agreement

    def _tell(self, number: int, told: dict[str, float]) -> None:
        bad = next((name for name, value in told.items() if not np.isfinite(value)), None)
        if bad is not None:
            raise PassError(
                f"distilling without data: {bad} became {told[bad]} in round {number} of {self._settings.rounds}",
                next_step="lower learning_rate and generator_rate, or take another seed",
            )
        for name, value in told.items():
            self.parts.setdefault(name, []).append(value)

    def _draw(self, slot: Any) -> dict[str, Any]:
        """One step of the generator; its pictures go into the bank."""
        import tensorflow as tf

        settings, variables = self._settings, self._generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            pictures = self._generator(tf.random.normal((settings.batch, settings.latent)), training=True)
            logits, features, *before_norms = self._watched(pictures, training=False)
            parts = generator_parts(logits, features)
            parts["statistics"] = statistics_distance(self._norms, before_norms)
            if settings.adversarial:
                parts["adversarial"] = -disagreement(self._student(pictures, training=False), logits)
            loss = sum(getattr(settings, name) * part for name, part in parts.items())
        gradients = tape.gradient(loss, [v.value for v in variables])
        self._drawer.apply_gradients(zip(gradients, variables, strict=True))
        self._bank.scatter_nd_update([[slot]], pictures[tf.newaxis])
        return parts

    def _learn(self, picks: Any) -> dict[str, Any]:
        """One step of the student, on two batches of the bank: the generator moves on, and it would forget what was before."""
        import tensorflow as tf

        settings, variables = self._settings, self._student.trainable_variables
        pictures = tf.concat([self._bank[picks[0]], self._bank[picks[1]]], 0)
        said = self._watched(pictures, training=False)[0]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([v.value for v in variables])
            logits = self._student(pictures, training=True)
            loss = hinton_loss(logits, said, temperature=settings.temperature)
        gradients = tape.gradient(loss, [v.value for v in variables])
        self._learner.apply_gradients(zip(gradients, variables, strict=True))
        alike = tf.equal(tf.argmax(logits, -1), tf.argmax(said, -1))
        return {"student": loss, "agreement": tf.reduce_mean(tf.cast(alike, tf.float32))}


def generator_parts(logits: Any, features: Any) -> dict[str, Any]:
    """DAFL's three terms, scalars (Chen et al. 2019), of (B, K) logits and the features before them.

    one_hot: cross-entropy with the teacher's own choice. activation: minus the mean size of the features. entropy: minus
    the entropy of the batch's mean distribution, in nats: -ln K where all classes are drawn alike.
    """
    import tensorflow as tf

    chosen = tf.stop_gradient(tf.argmax(logits, -1))
    sure = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=chosen, logits=logits)
    mean = tf.reduce_mean(tf.nn.softmax(logits), 0)
    return {
        "one_hot": tf.reduce_mean(sure),
        "activation": -tf.reduce_mean(tf.abs(features)),
        "entropy": tf.reduce_sum(mean * tf.math.log(mean + 1e-8)),
    }


def statistics_distance(norms: Sequence[Any], inputs: Sequence[Any]) -> Any:
    """How far the batch's mean and deviation before each batch norm are from those that it remembers (after Yin et al. 2020).

    Squared, in units of the remembered deviation, averaged over channels and summed over layers: 0 where they are the same.
    """
    import tensorflow as tf

    total = tf.constant(0.0)
    for layer, x in zip(norms, inputs, strict=True):
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        deviation = tf.sqrt(layer.moving_variance + layer.epsilon)
        moved = (mean - layer.moving_mean) / deviation
        wider = tf.sqrt(variance + layer.epsilon) / deviation - 1
        total += tf.reduce_mean(tf.square(moved) + tf.square(wider))
    return total / max(1, len(norms))


def disagreement(logits: Any, teacher: Any) -> Any:
    """Jensen-Shannon divergence of two (B, K) logits, mean over the batch, 0 to ln 2 nats."""
    import tensorflow as tf

    p, q = tf.nn.softmax(logits), tf.nn.softmax(teacher)
    middle = tf.math.log((p + q) / 2 + 1e-12)
    both = p * (tf.math.log(p + 1e-12) - middle) + q * (tf.math.log(q + 1e-12) - middle)
    return tf.reduce_mean(tf.reduce_sum(both, -1)) / 2
