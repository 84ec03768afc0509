"""Examples without labels in a batch: the teacher's loss looks at all of it, the labels' loss at its first part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.classified import PictureSet
from compress.data.detection import DetectionSet, LabelledPicture
from compress.data.speech import SpeechSet
from compress.tasks.classify import ClassifyTask
from compress.tasks.detect import DetectTask
from compress.tasks.keyword import KeywordTask
from compress.tasks.task import Floats, TrainingTask
from compress.train.batches import Batch, Make
from edgeai.errors import PassError

# (rng, how many) -> that many inputs
MakeInputs = Callable[[np.random.Generator, int], Floats]


def mix_unlabelled(make: Make, inputs: MakeInputs, count: int) -> Make:
    """Batches of `make`, followed by `count` inputs without targets: targets are of the first examples only.

    Shapes are the same in every batch, so one graph serves all; `labelled_part` tells how many examples have targets.
    """

    def mixed(rng: np.random.Generator) -> Batch:
        batch = make(rng)
        more = inputs(rng, count)
        return {**batch, "inputs": np.concatenate([batch["inputs"], more])}

    return mixed


def labelled_part(outputs: Any, targets: Any) -> Any:
    """The outputs of the examples that `targets` are of: the first ones. Tensors or arrays, in any nest."""
    import tensorflow as tf

    count = int(tf.nest.flatten(targets)[0].shape[0])
    return tf.nest.map_structure(lambda value: value[:count], outputs)


def unlabelled_inputs(task: TrainingTask, examples: Sequence[Path] | SpeechSet) -> MakeInputs:
    """Inputs of pictures at some paths, or of clips, augmented as the task does it with its own.

    Raises PassError for a task of another kind than detect, classify and keyword, or examples that it cannot take.
    """
    if not len(examples):
        raise PassError(
            "there are no unlabelled examples to learn from", next_step="add some, or leave it out"
        )
    # the task itself makes them: whatever it does to its own pictures or clips is done to these
    if isinstance(task, KeywordTask) and isinstance(examples, SpeechSet):
        nothing = np.zeros(len(examples), np.int32)
        clips = replace(examples, labels=task.training.labels, class_ids=nothing)
        # no teacher: it would be asked for targets that nobody looks at
        plain: TrainingTask = replace(
            task, training=clips, class_weights="none", teacher=None, teacher_share=0.0
        )
    elif isinstance(task, ClassifyTask) and not isinstance(examples, SpeechSet):
        paths = tuple(examples)
        pictures = PictureSet(
            task.training.labels, paths, np.zeros(len(paths), np.int32), tuple(map(str, paths))
        )
        plain = replace(task, training=pictures, class_weights="none")
    elif isinstance(task, DetectTask) and not isinstance(examples, SpeechSet):
        found = tuple(_without_boxes(path) for path in examples)
        plain = replace(task, training=DetectionSet(task.training.labels, found), class_weights="none")
    else:
        what = "clips" if isinstance(examples, SpeechSet) else "pictures"
        raise PassError(f"{type(task).__name__} cannot learn from unlabelled {what}")

    def inputs(rng: np.random.Generator, count: int) -> Floats:
        made: Floats = plain.make_batch(rng, count)["inputs"]
        return made

    return inputs


def _without_boxes(path: Path) -> LabelledPicture:
    none = np.empty((0, 4), np.float32)
    return LabelledPicture(path, 1, 1, none, np.empty(0, np.int32), np.empty(0, np.float32), none)
