"""Tasks by the name that a recipe gives. One more is one file with a TrainingTask, and one line in `TASKS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from compress.distill.speech_teacher import SpeechTeacher
from compress.networks import detector_strides
from compress.recipe import Recipe
from compress.tasks.sampling import ClassWeights
from compress.tasks.sources import load_boxes, load_classified, load_clips
from compress.tasks.task import TrainingTask
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.errors import DataError, RecipeError

# held-out pictures that each pass is measured on: AP50's interval is a percent wide by then, and boxes cost memory
MAX_MEASURED = 2000


def open_task(recipe: Recipe, *, data_root: Path, work: Path) -> TrainingTask:
    """The recipe's task on its data; frames of videos and made sounds are written below `work`.

    Raises DataMissingError or DataError for data that is not there, is something else, or leaves nothing to learn from or
    to measure on; RecipeError where data and task do not fit.
    """
    task = TASKS[recipe.task](recipe, data_root, work)
    for part, what in ((task.training, "learn from"), (task.validation, "validate on")):
        if not len(part):
            raise DataError(
                f"recipe {recipe.name}: nothing is left to {what}",
                next_step="change data.validation or add data",
            )
    return task


def _open_detect(recipe: Recipe, data_root: Path, work: Path) -> TrainingTask:
    from compress.tasks.detect import DetectTask

    training, validation = load_boxes(recipe, data_root, work)
    validation = validation.thin(MAX_MEASURED)
    if len(validation) and not any(len(p.xyxy_px) for p in validation.pictures):
        raise DataError(
            f"recipe {recipe.name}: the {len(validation)} pictures to validate on hold no labelled box",
            next_step="raise data.validation or add data",
        )
    return DetectTask(
        training,
        validation,
        _image(recipe),
        recipe.decoder,
        detector_strides(recipe),
        recipe.data.pictures,
        recipe.seed,
        class_weights=_weights(recipe, "none"),
    )


def _open_classify(recipe: Recipe, data_root: Path, work: Path) -> TrainingTask:
    from compress.tasks.classify import ClassifyTask

    training, validation = load_classified(recipe, data_root)
    return ClassifyTask(
        training,
        validation,
        _image(recipe),
        recipe.data.pictures,
        recipe.seed,
        class_weights=_weights(recipe, "balanced"),
    )


def _open_keyword(recipe: Recipe, data_root: Path, work: Path) -> TrainingTask:
    from compress.data.speech import load_noises
    from compress.tasks.keyword import KeywordTask

    spec = _logmel(recipe)
    clips = load_clips(recipe, data_root, work, labels=recipe.labels)
    training, validation = clips.split(recipe.data.validation, never_held=recipe.data.never_held)
    noises = load_noises(_noises(recipe, data_root), sample_rate_hz=spec.sample_rate_hz)
    teacher, share = None, 0.0
    if recipe.speech_teacher is not None:
        teacher = SpeechTeacher(data_root / recipe.speech_teacher.file, recipe.labels)
        share = recipe.speech_teacher.share
    return KeywordTask(
        training,
        validation,
        spec,
        noises,
        recipe.data.sounds,
        recipe.seed,
        class_weights=_weights(recipe, "balanced"),
        teacher=teacher,
        teacher_share=share,
    )


def _open_transcribe(recipe: Recipe, data_root: Path, work: Path) -> TrainingTask:
    from compress.data.speech import load_noises
    from compress.data.spelling import spell
    from compress.tasks.transcribe import TranscribeTask

    spec = _logmel(recipe)
    clips = load_clips(recipe, data_root, work, labels=None)
    for text in clips.labels:
        spell(text, recipe.labels)  # a text that cannot be spelled is told before training
    training, validation = clips.split(recipe.data.validation, never_held=recipe.data.never_held)
    noises = load_noises(_noises(recipe, data_root), sample_rate_hz=spec.sample_rate_hz)
    return TranscribeTask(
        training,
        validation,
        recipe.labels,
        spec,
        noises,
        recipe.data.sounds,
        recipe.seed,
        joined=recipe.data.joined,
    )


def _open_anomaly(recipe: Recipe, data_root: Path, work: Path) -> TrainingTask:
    from dataclasses import replace

    from compress.measure.sounds import WINDOWS
    from compress.tasks.anomaly import AnomalyTask

    clips = load_clips(recipe, data_root, work, labels=recipe.labels)
    clips = replace(clips, samples=clips.samples * WINDOWS)
    kept, held = clips.split(recipe.data.validation, never_held=recipe.data.never_held)
    normal = kept.class_ids == 0
    # what is unusual is never learnt from, so all of it may be measured on
    unusual = clips.class_ids != 0
    if not normal.any() or not unusual.any():
        raise DataError(
            f"recipe {recipe.name}: clips of {recipe.labels[0]!r} (the normal sound) and of others are needed",
            next_step="the first label is the normal sound; at least one more label is what must be noticed",
        )
    held_paths = set(held.paths)
    measured = np.array([path in held_paths for path in clips.paths]) | unusual
    return AnomalyTask(kept.pick(normal), clips.pick(measured), _logmel(recipe), recipe.seed)


TASKS: dict[str, Callable[[Recipe, Path, Path], TrainingTask]] = {
    "detect": _open_detect,
    "classify": _open_classify,
    "keyword": _open_keyword,
    "transcribe": _open_transcribe,
    "anomaly": _open_anomaly,
}


def _weights(recipe: Recipe, default: Literal["none", "balanced"]) -> ClassWeights:
    given = recipe.data.class_weights
    return default if given is None else given


def _noises(recipe: Recipe, data_root: Path) -> Path | None:
    return data_root / recipe.data.noises if recipe.data.noises else None


def _image(recipe: Recipe) -> ImageInput:
    if not isinstance(recipe.input, ImageInput):
        raise RecipeError(f"recipe {recipe.name}: task {recipe.task!r} needs an input of kind 'image'")
    return recipe.input


def _logmel(recipe: Recipe) -> LogMelInput:
    if not isinstance(recipe.input, LogMelInput):
        raise RecipeError(f"recipe {recipe.name}: task {recipe.task!r} needs an input of kind 'logmel'")
    return recipe.input
