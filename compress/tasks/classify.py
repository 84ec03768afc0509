"""Training a picture classifier: whole pictures, augmented, with one label each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.classified import PictureSet
from compress.data.detection import LabelledPicture, PictureCache
from compress.measure.classified import score_classified
from compress.measure.scored import Scored
from compress.tasks.detect import normalised, representative_pictures
from compress.tasks.keyword import soft_targets
from compress.tasks.sampling import ClassWeights, Draw, example_shares
from compress.tasks.task import Batch, Floats, TrainingTask
from compress.train import class_loss
from compress.train.picture_augment import PictureAugment, augment
from edgeai.bundle.manifest import ImageInput
from edgeai.engines import EdgeEngine
from edgeai.stages.letterbox import letterbox

_NO_BOXES = np.empty((0, 4), np.float32)
_NO_CLASSES = np.empty(0, np.int32)
_NO_SCORES = np.empty(0, np.float32)


@dataclass(frozen=True)
class ClassifyTask(TrainingTask):
    """seed: of the choice of representative pictures. smoothing: of the labels."""

    training: PictureSet
    validation: PictureSet
    spec: ImageInput
    augmentation: PictureAugment
    seed: int
    smoothing: float = 0.1
    class_weights: ClassWeights = "balanced"
    cache: PictureCache = field(default_factory=PictureCache, repr=False)

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        picks = self._draw(rng, size)
        # four classes in one picture would have no one label
        settings = self.augmentation.model_copy(update={"mosaic": 0.0})
        images = np.stack(
            [
                augment(
                    [_without_boxes(self.training, int(index))],
                    height=self.spec.height,
                    width=self.spec.width,
                    settings=settings,
                    rng=rng,
                    read=self.cache,
                ).image
                for index in picks
            ]
        )
        ordered = images if self.spec.colour == "BGR" else images[..., ::-1]
        wanted = soft_targets(self.training.class_ids[picks], len(self.training.labels), self.smoothing)
        return {"inputs": normalised(ordered, self.spec), "targets": wanted}

    def validation_batch(self, indices: Sequence[int]) -> Batch:
        images = np.stack([letterbox(self.validation.picture(index), self.spec)[0] for index in indices])
        ids = self.validation.class_ids[list(indices)]
        wanted = soft_targets(ids, len(self.validation.labels), self.smoothing)
        return {"inputs": normalised(images, self.spec), "targets": wanted}

    def label_loss(self, outputs: Mapping[str, Any], targets: Any) -> Any:
        return class_loss.label_loss(outputs["class"], targets)

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        return representative_pictures(self.training.paths, self.spec, count, seed=self.seed)

    def score(self, engine: EdgeEngine) -> Scored:
        return score_classified(engine, self.spec, self.validation)

    def pictures_measured_on(self) -> tuple[Path, ...]:
        return self.validation.paths

    @cached_property
    def _draw(self) -> Draw:
        return Draw(example_shares(self.training.class_ids, self.training.labels, self.class_weights))


def _without_boxes(data: PictureSet, index: int) -> LabelledPicture:
    return LabelledPicture(data.paths[index], 1, 1, _NO_BOXES, _NO_CLASSES, _NO_SCORES, _NO_BOXES)
