"""Trainings that go wrong: single bad batches are passed over, many are told, and so is a loss that climbs and stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from compress.train.step import Told
from edgeai.console import print_note
from edgeai.errors import PassError

BAD_IN_A_ROW = 3
BAD_IN_ALL = 0.01  # of the steps, and at least BAD_IN_A_ROW
OVERFLOWS_IN_A_ROW = 30  # float16 finds its loss scale by halving it

START_STEPS = 20  # whose mean loss is where a training starts
FAR_ABOVE = 5.0  # times the start, above the start
SPIKE = 20.0  # times the start: what counts of a single step
LEAST_START = 0.1  # a copy that learns from itself starts at nothing; losses here are of order one
FOR_LONG = 0.1  # of the steps
LEAST_LONG = 100
MEMORY = 0.95  # of the smoothed loss: about 20 steps


class Watch:
    """Told each step's outcome; raises PassError when a training is lost."""

    def __init__(self, description: str, steps: int) -> None:
        self._description, self._steps = description, steps
        self._bad = self._row = self._overflows = self._high = 0
        self._start: list[float] = []
        self._smooth = 0.0

    def tell(self, step: int, told: Told, explain: Callable[[], str]) -> None:
        """What step 1..steps said. explain() finds out why a step was bad: called once, for it costs a while."""
        if told.ok:
            self._row = self._overflows = 0
            self._climb(step, told.loss)
            return
        if told.overflow and self._overflows < OVERFLOWS_IN_A_ROW:
            self._overflows += 1
            return
        self._bad += 1
        self._row += 1
        where = f"at step {step} of {self._steps}"
        what = f"the loss became {told.loss}" if not math.isfinite(told.loss) else "the gradient has no size"
        if self._row == 1:
            self._why = explain()
        if self._row >= BAD_IN_A_ROW or self._bad > max(BAD_IN_A_ROW, BAD_IN_ALL * self._steps):
            many = f"{self._row} steps in a row" if self._row > 1 else f"{self._bad} steps in all"
            raise PassError(
                f"{self._description}: {what} {where}, {many}{self._why}",
                next_step="lower learning_rate in the recipe, or check the data for broken labels",
            )
        print_note(f"{self._description}: {what} {where}{self._why}; this batch is passed over")

    def _climb(self, step: int, loss: float) -> None:
        if len(self._start) < START_STEPS:
            self._start.append(loss)
            self._smooth = sum(self._start) / len(self._start)
            return
        start = sum(self._start) / START_STEPS
        scale = max(abs(start), LEAST_START)
        # a single spike, however high, must not stand for a hundred steps
        self._smooth = MEMORY * self._smooth + (1 - MEMORY) * min(loss, start + SPIKE * scale)
        self._high = self._high + 1 if self._smooth - start > FAR_ABOVE * scale else 0
        if self._high >= max(LEAST_LONG, FOR_LONG * self._steps):
            raise PassError(
                f"{self._description}: the training diverged: the loss began at {start:.3g} and has been far above that "
                f"for {self._high} steps, it is {loss:.3g} at step {step} of {self._steps}",
                next_step="lower learning_rate in the recipe, or raise warm_up",
            )

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"bad": self._bad, "high": self._high, "start": self._start, "smooth": self._smooth}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what state() gave."""
        self._bad, self._high = int(state["bad"]), int(state["high"])
        self._start, self._smooth = [float(v) for v in state["start"]], float(state["smooth"])


def check_batch(batch: Any, *, description: str, number: int) -> None:
    """Raises PassError where a batch itself holds a value that is no finite number."""
    import keras

    for path, leaf in keras.tree.flatten_with_path(batch):
        values = np.asarray(leaf)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            examples = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1)).tolist()
            raise PassError(
                f"{description}: batch {number} holds values that are no finite number in {'/'.join(map(str, path))}, "
                f"example {', '.join(map(str, examples[:5]))} of {len(values)}",
                next_step="look over the data with `edgeai-compress data check`, and the augmentation's settings",
            )


def first_bad_layer(network: Any, batch: Any, loss: Callable[[Any, Any], Any]) -> str:
    """Where it began, as the end of a sentence: the first layer in order whose output is not finite, or if all are, the last
    one whose gradient is not (for gradients run backwards), or the loss; "" where nothing is found.
    """
    import keras
    import tensorflow as tf

    layers = [layer for layer in network.layers if layer.output is not None]
    inputs = network.inputs[0] if len(network.inputs) == 1 else network.inputs
    inner = keras.Model(inputs, [layer.output for layer in layers])
    outputs = inner(batch["inputs"], training=True)
    for layer, output in zip(layers, outputs, strict=True):
        if not all(bool(tf.reduce_all(tf.math.is_finite(t))) for t in tf.nest.flatten(output)):
            return f"; in the output of layer {layer.name} first"
    with tf.GradientTape() as tape:
        value = loss(network(batch["inputs"], training=True), batch)
        value = value["loss"] if isinstance(value, dict) else value
    variables = network.trainable_variables
    gradients = tape.gradient(value, variables)
    for variable, gradient in reversed(list(zip(variables, gradients, strict=True))):
        if gradient is not None and not bool(tf.reduce_all(tf.math.is_finite(gradient))):
            return f"; in the gradient of {variable.path} first"
    return "" if bool(tf.math.is_finite(value)) else "; in the loss itself, the network's outputs are finite"
