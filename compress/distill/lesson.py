"""What a fit is given to learn from a teacher: the network to train, its batches and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from compress.distill.answers import ANSWERS, with_answers
from compress.distill.features import feature_loss, with_features, with_projections
from compress.distill.losses import DistillLoss, ctc_teacher_loss, imitation_loss, logit_loss
from compress.distill.teacher_network import KerasTeacher, TeacherNetwork
from compress.distill.unlabelled import labelled_part
from compress.tasks.task import TrainingTask
from compress.train.batches import Make
from compress.train.step import Loss
from edgeai.errors import RecipeError

LOGITS = ("class", "keyword")
SPELLED = "symbols"


@dataclass(frozen=True, slots=True)
class Lesson:
    """For fit(network, make, loss, ...). network: the student itself, or with features a model that wraps its layers."""

    network: Any
    make: Make
    loss: Loss


def open_lesson(
    student: Any,
    task: TrainingTask,
    make: Make,
    *,
    teacher: TeacherNetwork,
    share: float,
    settings: DistillLoss | None = None,
) -> Lesson:
    """(1 - share) of the labels' loss, share of the teacher's, and feature_weight times the features' on top.

    make: batches of the task, whose targets may be of their first examples only (mix_unlabelled), and which may hold the
    teacher's answers already (cache_batches). A teacher that is a Keras network answers inside the training step, another
    one where the batches are made. Raises RecipeError for features of a teacher that is no Keras network, or that do not fit.
    """
    settings = settings or DistillLoss()
    network, said = student, teacher
    if settings.features:
        if not isinstance(teacher, KerasTeacher):
            raise RecipeError(
                f"teacher {teacher.name} is no Keras network: its features cannot be seen",
                next_step="leave features out, or take the teacher's .keras file",
            )
        network = with_projections(student, teacher.network, settings.features)
        tapped = with_features(teacher.network, [pair.teacher for pair in settings.features])
        said = KerasTeacher(tapped, name=teacher.name, fingerprint=teacher.fingerprint)
        said.rules = replace(teacher.rules, keep_others=True)
    if not teacher.in_graph:
        make = with_answers(make, teacher)

    def loss(outputs: Any, batch: Any) -> Any:
        targets = batch["targets"]
        # kept answers hold no features: those are asked for anew
        known = ANSWERS in batch and not settings.features
        answers = batch[ANSWERS] if known else said.said(batch["inputs"])
        told = teacher_loss(task, settings, outputs, answers, targets)
        parts = {"teacher": told}
        value = share * told
        if share < 1:
            parts["labels"] = task.label_loss(labelled_part(outputs, targets), targets)
            value += (1 - share) * parts["labels"]
        if settings.features:
            parts["features"] = feature_loss(outputs, answers, settings)
            value += settings.feature_weight * parts["features"]
        return {"loss": value, **parts}

    return Lesson(network, make, loss)


def teacher_loss(
    task: TrainingTask,
    settings: DistillLoss,
    outputs: Mapping[str, Any],
    answers: Mapping[str, Any],
    targets: Any,
) -> Any:
    """The loss of `settings` where the outputs are logits of exclusive classes, else the task's own (grids, rebuilding); the
    bare outputs where they are of neither kind, as those of imported detectors are.
    """
    for name in LOGITS:
        if name in outputs:
            return logit_loss(
                outputs[name], answers[name], settings, classes=_classes(answers[name], targets)
            )
    if SPELLED in outputs:
        return ctc_teacher_loss(outputs[SPELLED], answers[SPELLED], settings)
    if not task.can_label(outputs):
        return imitation_loss(outputs, answers)
    return task.teacher_loss(outputs, answers)


def _classes(answers: Any, targets: Any) -> Any:
    """(B,) the labelled class; the teacher's own choice where there is no label."""
    import tensorflow as tf

    chosen = tf.argmax(answers, -1)
    labelled = tf.argmax(targets, -1)
    return tf.concat([labelled, chosen[int(targets.shape[0]) :]], 0)
