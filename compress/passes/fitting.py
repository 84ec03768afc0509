"""What passes that train have in common: a fit on labels, on a teacher's outputs, or on both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from compress.distill.answers import cache_batches
from compress.distill.lesson import Lesson, open_lesson
from compress.distill.losses import DistillLoss
from compress.distill.teacher_network import KerasTeacher, TeacherNetwork
from compress.distill.unlabelled import mix_unlabelled, unlabelled_inputs
from compress.passes.bench import Bench
from compress.train.fit import FitSettings, fit
from compress.train.forward import resized
from compress.train.masks import MaskSchedule, hold_masks, zero_masks
from compress.train.rounded import Kernels
from edgeai.errors import PassError


@dataclass(frozen=True, slots=True)
class Teaching:
    """What is learnt from a teacher. share: of the loss, the rest being labels. keep_batches, unlabelled: as in DistillPass."""

    teacher: TeacherNetwork
    share: float
    loss: DistillLoss
    keep_batches: int = 0
    unlabelled: int = 0


def taught_by(network: Any, share: float, loss: DistillLoss) -> Teaching | None:
    """By another Keras network of the recipe itself; None where nothing is learnt from it."""
    if network is None or share == 0:
        return None
    return Teaching(KerasTeacher(network, name="the network before", fingerprint=""), share, loss)


def fit_candidate(
    network: Any,
    teaching: Teaching | None,
    settings: FitSettings,
    bench: Bench,
    description: str,
    *,
    name: str = "fit",
    masks: MaskSchedule | None = None,
    hold: bool = False,
    rounded: Kernels | None = None,
) -> None:
    """One fit on labels, or on a mix of labels and a teacher's outputs on the same inputs.

    masks: weights that become zero on the way. hold: those that are zero now stay so. rounded: as in compress.train.fit.
    """
    if hold and masks is None:
        masks = hold_masks(zero_masks(network))
    settings = settings.model_copy(update={"seed": bench.recipe.seed + settings.seed})
    shape = bench.task.training_shape
    if teaching is not None and shape is not None:
        teaching = replace(teaching, teacher=_of_shape(teaching.teacher, shape))
    lesson = _lesson(network, teaching, settings, bench)
    fit(
        lesson.network,
        lesson.make,
        lesson.loss,
        settings,
        description=description,
        checkpoint=bench.checkpoint(name),
        validate=bench.task.validation_loss(network) if settings.patience else None,
        log_dir=bench.work / "logs" / f"{bench.step}-{name}",
        strategy=bench.strategy,
        masks=masks,
        rounded=rounded,
        shape=shape,
    )


def _of_shape(teacher: TeacherNetwork, shape: tuple[int, ...]) -> TeacherNetwork:
    """A teacher that answers to windows of what it knows. Raises PassError for one that is no Keras network."""
    if not isinstance(teacher, KerasTeacher) or not teacher.any_size:
        raise PassError(
            f"teacher {teacher.name} cannot answer to windows of {shape[0]} pixels: only a Keras network of the same input can",
            next_step="leave data.pictures.crop out, or take the teacher's bundle or .keras file",
        )
    made = KerasTeacher(resized(teacher.network, shape), name=teacher.name, fingerprint=teacher.fingerprint)
    made.rules = teacher.rules
    return made


def _lesson(network: Any, teaching: Teaching | None, settings: FitSettings, bench: Bench) -> Lesson:
    task = bench.task
    make: Any = partial(task.make_batch, size=settings.batch)
    if teaching is None:
        return Lesson(network, make, bench.batch_loss)
    if teaching.unlabelled:
        make = mix_unlabelled(make, unlabelled_inputs(task, bench.unlabelled), teaching.unlabelled)
    if teaching.keep_batches:
        make = cache_batches(
            make,
            teaching.teacher,
            bench.work / f"{bench.step}-answers",
            count=teaching.keep_batches,
            steps=settings.steps,
            seed=settings.seed,
            facts={"run": bench.fingerprint, "batch": settings.batch, "unlabelled": teaching.unlabelled},
        )
    return open_lesson(
        network, task, make, teacher=teaching.teacher, share=teaching.share, settings=teaching.loss
    )


def copy_network(network: Any) -> Any:
    """The same network with weights of its own: a pass that is undone must leave the old ones as they were."""
    import keras

    copied = keras.models.clone_model(network)
    copied.set_weights(network.get_weights())
    return copied
