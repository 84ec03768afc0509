"""What the passes of a plan will cost, roughly, before any of them runs: minutes and bytes.

A few training steps of the network are timed on zeros; everything else follows from multiplications and parameters. Good to
a factor of about two: pictures have to be read too, and a machine that is busy now may be idle later.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from compress.passes.settings import PassSettings

TIMED_STEPS = 2
# of a training step, forward only: what a teacher's answer costs beside the student's step
TEACHER_SHARE = 1 / 3
CONVERSION_S = 5.0
# bytes of a TFLite file beside its weights: operators and tensors, and for int8 a scale and a zero point a channel
LAYER_BYTES, INT8_LAYER_BYTES = 350, 900
INTEGERS = ("int8", "int4", "int16x8")
BYTES_PER_WEIGHT = {"int4": 0.5, "int8": 1, "int16x8": 1, "dynamic": 1, "float16": 2, "float32": 4}


def time_step_s(network: Any, batch: int) -> float:
    """Seconds of one training step (forward and backward, without the optimiser) on a batch of zeros."""
    import tensorflow as tf

    variables = network.trainable_variables
    inputs = tf.zeros((batch, *network.inputs[0].shape[1:]))

    @tf.function(autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def step() -> Any:
        with tf.GradientTape() as tape:
            outputs = network(inputs, training=True)
            total = tf.add_n([tf.reduce_mean(value) for value in tf.nest.flatten(outputs)])
        gradients = tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    # training=True moves batch norm statistics: what was before comes back
    kept = network.get_weights()
    step().numpy()
    taken = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        step().numpy()
        taken.append(time.perf_counter() - began)
    network.set_weights(kept)
    return min(taken)


def pass_seconds(settings: PassSettings, *, example_s: float, macs_ratio: float, teacher: bool) -> float:
    """Of one attempt. example_s: of a training step, an example, of the network that was timed; macs_ratio: the
    multiplications of the one that is trained, against it. teacher: whether another network of that size answers too.
    """
    if not settings.fits:
        return CONVERSION_S
    examples = sum(fit.steps * fit.batch for fit in settings.fits)
    return examples * example_s * (macs_ratio + (TEACHER_SHARE if teacher else 0.0)) + CONVERSION_S


def written_bytes(settings: PassSettings, *, parameters: int, layers: int) -> int:
    """Of the engine files that a pass writes, together; 0 for one that writes none."""
    precisions = [name.split("/")[1] for name in settings.writes]
    return sum(
        int(parameters * BYTES_PER_WEIGHT[name])
        + layers * (INT8_LAYER_BYTES if name in INTEGERS else LAYER_BYTES)
        for name in precisions
    )


def weighted_layers(network: Any) -> int:
    """Layers with a kernel: what a converter leaves of a network."""
    return sum(any(np.ndim(w) > 1 for w in layer.get_weights()) for layer in network.layers)
