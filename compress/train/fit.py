"""One training loop for every task: AdamW, warm-up and cosine, averaged weights, a bar with time left."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compress.train.batches import Make, open_batches
from compress.train.schedule import average_momentum_at, learning_rate_at
from edgeai.console import progress_bar
from edgeai.errors import PassError

Loss = Callable[[Any, Any], Any]


class FitSettings(BaseModel):
    """How to train.

    steps: optimiser steps. batch: examples in each, and in each replica. warm_up: fraction of the steps. average: momentum
    of the moving average of weights and batch-norm statistics, which is what comes out. clip_norm: of the whole gradient.
    freeze: layers that stay as they are, by the beginnings of their names. patience: stop after so many checks without a
    better validation, 0 = never; check_every: steps between checks, 0 = a tenth of all. precision: "auto" is mixed_float16
    on a GPU that has it, else float32. save_every_s: of the checkpoint, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    seed: Annotated[int, Field(ge=0)] = 1
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    freeze: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    patience: Annotated[int, Field(ge=0)] = 0
    check_every: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    save_every_s: Annotated[float, Field(ge=0)] = 30.0


@dataclass(frozen=True, slots=True)
class FitResult:
    """losses: one a step. steps: done, in all. best_step: whose averaged weights are in the network. resumed_from: the step
    that a checkpoint was of, 0 without. examples_per_s: median over windows. input_wait: fraction of the time in which the
    step waited for its batch.
    """

    losses: list[float] = field(repr=False)
    steps: int
    best_step: int
    stopped_early: bool = False
    resumed_from: int = 0
    examples_per_s: float = 0.0
    input_wait: float = 0.0


def fit(
    network: Any,
    make: Make,
    loss: Loss,
    settings: FitSettings,
    *,
    description: str,
    checkpoint: Path | None = None,
    validate: Callable[[], float] | None = None,
    log_dir: Path | None = None,
    strategy: Any = None,
) -> FitResult:
    """Train `network` in place; the averaged weights are left in it.

    make(rng): {"inputs": array, "targets": nest of arrays}. loss(outputs, batch): a scalar, or {"loss": ..., parts...}.
    Raises PassError where the loss becomes NaN or infinite.
    """
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.AdamW(
        settings.learning_rate, weight_decay=settings.weight_decay, clipnorm=settings.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    variables = network.trainable_variables
    optimizer.build(variables)
    averages = [tf.Variable(v, trainable=False) for v in variables]

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
    def step(batch: Any, momentum: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(network(batch["inputs"], training=True), batch)
            value = value["loss"] if isinstance(value, dict) else value
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        for average, variable in zip(averages, variables, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)
        return value

    losses: list[float] = []
    with (
        open_batches(make, seed=settings.seed) as batches,
        progress_bar(description, settings.steps) as advance,
    ):
        for number in range(settings.steps):
            batch = next(batches)
            optimizer.learning_rate.assign(
                learning_rate_at(
                    number, steps=settings.steps, peak=settings.learning_rate, warm_up=settings.warm_up
                )
            )
            momentum = average_momentum_at(number, settings.average)
            value = float(step(batch, tf.constant(momentum, tf.float32)))
            if not math.isfinite(value):
                raise PassError(
                    f"{description}: the loss became {value} at step {number + 1} of {settings.steps}",
                    next_step="lower learning_rate in the recipe, or check the data for broken labels",
                )
            losses.append(value)
            advance(1, note=f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
    for average, variable in zip(averages, variables, strict=True):
        variable.assign(average)
    return FitResult(losses, len(losses), len(losses))
