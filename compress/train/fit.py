"""One training loop for every task: AdamW, warm-up and cosine, averaged weights, a bar with time left."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from edgeai.console import progress_bar
from edgeai.errors import PassError


class FitSettings(BaseModel):
    """steps: optimiser steps. warm_up: fraction of them. average: momentum of the weights' moving average."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    seed: int = 1


def learning_rate_at(step: int, settings: FitSettings) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak."""
    warm = max(1, int(settings.steps * settings.warm_up))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def fit(
    model: Any,
    batches: Iterable[Any],
    loss: Callable[[Any, Any], Any],
    settings: FitSettings,
    *,
    description: str,
) -> list[float]:
    """Train `model` in place on `loss(outputs, batch["targets"])`; the losses, one a step.

    batches yields {"inputs": array, "targets": nest of arrays}. The averaged weights are left in the model. Raises
    PassError where the loss becomes NaN or infinite, or the batches end too early.
    """
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.AdamW(
        settings.learning_rate, weight_decay=settings.weight_decay, clipnorm=5.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    variables = model.trainable_variables
    optimizer.build(variables)
    averages = [tf.Variable(v, trainable=False) for v in variables]

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
    def step(inputs: Any, targets: Any, momentum: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(model(inputs, training=True), targets)
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        for average, variable in zip(averages, variables, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)
        return value

    losses: list[float] = []
    # closing the stream stops its threads on an error and on Ctrl-C too
    with closing(_Stream(batches)) as stream, progress_bar(description, settings.steps) as advance:
        for number in range(settings.steps):
            batch = stream.take()
            optimizer.learning_rate.assign(learning_rate_at(number, settings))
            # a short memory at the start, so that the average forgets the untrained weights
            momentum = min(settings.average, (1 + number) / (10 + number))
            value = float(step(batch["inputs"], batch["targets"], tf.constant(momentum, tf.float32)))
            if not math.isfinite(value):
                raise PassError(
                    f"{description}: the loss became {value} at step {number + 1} of {settings.steps}",
                    next_step="lower learning_rate in the recipe, or check the data for broken labels",
                )
            losses.append(value)
            advance(1, note=f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
    for average, variable in zip(averages, variables, strict=True):
        variable.assign(average)
    return losses


class _Stream:
    """An iterator that can be closed, whether or not it is a generator."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._iterator = iter(batches)

    def take(self) -> Any:
        batch = next(self._iterator, None)
        if batch is None:
            raise PassError("the batches ended before the training did", next_step="they must go on for ever")
        return batch

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
