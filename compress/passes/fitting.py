"""What passes that train have in common: a fit on labels, on another network's outputs, or on both."""

from __future__ import annotations

from functools import partial
from typing import Any

from compress.passes.bench import Bench
from compress.train.fit import FitSettings, fit
from compress.train.masks import MaskSchedule, hold_masks, zero_masks


def fit_candidate(
    network: Any,
    reference: Any,
    share: float,
    settings: FitSettings,
    bench: Bench,
    description: str,
    *,
    name: str = "fit",
    masks: MaskSchedule | None = None,
    hold: bool = False,
) -> None:
    """One fit on labels, or on a mix of labels and the reference network's outputs on the same inputs.

    masks: weights that become zero on the way. hold: those that are zero now stay so.
    """
    if hold and masks is None:
        masks = hold_masks(zero_masks(network))
    task = bench.task

    def loss(outputs: Any, batch: Any) -> Any:
        value = task.label_loss(outputs, batch["targets"])
        if reference is None or share == 0:
            return value
        said = reference(batch["inputs"], training=False)
        return (1 - share) * value + share * task.teacher_loss(outputs, said)

    fit(
        network,
        partial(task.make_batch, size=settings.batch),
        loss,
        settings.model_copy(update={"seed": bench.recipe.seed + settings.seed}),
        description=description,
        checkpoint=bench.checkpoint(name),
        validate=task.validation_loss(network) if settings.patience else None,
        log_dir=bench.work / "logs" / f"{bench.step}-{name}",
        strategy=bench.strategy,
        masks=masks,
    )


def copy_network(network: Any) -> Any:
    """The same network with weights of its own: a pass that is undone must leave the old ones as they were."""
    import keras

    copied = keras.models.clone_model(network)
    copied.set_weights(network.get_weights())
    return copied
