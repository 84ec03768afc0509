"""Training a detector: pictures with boxes, augmented, assigned to the cells of a grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, LabelledPicture, PictureCache, read_picture
from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector, find_boxes
from compress.measure.scored import Scored
from compress.measure.scored_pictures import DEFAULT_THRESHOLD, ScoredPictures
from compress.tasks.sampling import ClassWeights, Draw, picture_shares
from compress.tasks.task import Batch, Floats, TrainingTask
from compress.train import detector_loss
from compress.train.grid_targets import grid_targets
from compress.train.picture_augment import PictureAugment, TrainingPicture, augment
from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.engines import EdgeEngine
from edgeai.stages.letterbox import letterbox

MOSAIC_PICTURES = 4


@dataclass(frozen=True)
class DetectTask(TrainingTask):
    """strides: of the network's outputs. seed: of the choice of representative pictures."""

    training: DetectionSet
    validation: DetectionSet
    spec: ImageInput
    decoder: Decoder
    strides: tuple[int, ...]
    augmentation: PictureAugment
    seed: int
    class_weights: ClassWeights = "none"
    cache: PictureCache = field(default_factory=PictureCache, repr=False)

    @property
    def training_shape(self) -> tuple[int, ...] | None:
        crop = self.augmentation.crop
        return (crop, crop, 3) if crop else None

    def whole(self) -> DetectTask:
        return replace(self, augmentation=self.augmentation.model_copy(update={"crop": 0}))

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        made = []
        full = (self.spec.height, self.spec.width)
        height, width = (self.augmentation.crop,) * 2 if self.augmentation.crop else full
        picks = self._draw(rng, size * MOSAIC_PICTURES)
        for number in range(size):
            four = [self.training.pictures[i] for i in picks[number::size]]
            made.append(
                augment(
                    four,
                    height=height,
                    width=width,
                    settings=self.augmentation,
                    rng=rng,
                    read=self.cache,
                    zoom=(full[0] / height, full[1] / width),
                )
            )
        images = np.stack([picture.image for picture in made])
        return self._batch(images if self.spec.colour == "BGR" else images[..., ::-1], made)

    def validation_batch(self, indices: Sequence[int]) -> Batch:
        plain = [plain_picture(self.validation.pictures[i], self.spec) for i in indices]
        return self._batch(np.stack([picture.image for picture in plain]), plain)

    def can_label(self, outputs: Mapping[str, Any]) -> bool:
        return detector_loss.has_maps(outputs, self.strides)

    def label_loss(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        return detector_loss.label_loss(outputs, targets, self.strides)

    def teacher_loss(self, outputs: Mapping[str, Any], teacher: Mapping[str, Any]) -> Any:
        return detector_loss.teacher_loss(outputs, teacher, self.strides)

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        paths = [picture.path for picture in self.training.pictures]
        return representative_pictures(paths, self.spec, count, seed=self.seed)

    def score(self, engine: EdgeEngine) -> Scored:
        detect = BundleDetector(
            engine, self.spec, self.decoder, self.validation.labels, score_threshold=EVAL_SCORE_THRESHOLD
        )
        threshold = float(self.decoder.params.get("score_threshold", DEFAULT_THRESHOLD))
        return ScoredPictures(self.validation, *find_boxes(detect, self.validation), self.spec, threshold)

    def pictures_measured_on(self) -> tuple[Path, ...]:
        return tuple(picture.path for picture in self.validation.pictures)

    @cached_property
    def _draw(self) -> Draw:
        ids = [picture.class_ids for picture in self.training.pictures]
        return Draw(picture_shares(ids, self.training.labels, self.class_weights))

    def _batch(self, images: NDArray[np.uint8], made: Sequence[TrainingPicture]) -> Batch:
        targets = [
            grid_targets(
                picture.xyxy_px,
                picture.class_ids,
                picture.scores,
                picture.crowd_px,
                height=images.shape[1],
                width=images.shape[2],
                classes=len(self.training.labels),
                strides=self.strides,
            )
            for picture in made
        ]
        stacked = {name: np.stack([t[name] for t in targets]) for name in targets[0]}
        return {"inputs": normalised(images, self.spec), "targets": stacked}


def normalised(images: NDArray[np.uint8], spec: ImageInput) -> Floats:
    """(B, H, W, 3) uint8 in the model's colour order to what it takes, as the device's edge does it: (pixel - mean) / std."""
    inputs = images.astype(np.float32)
    if any(spec.mean):
        inputs -= _per_channel(spec.mean)
    if spec.std != (1.0, 1.0, 1.0):
        inputs /= _per_channel(spec.std)
    return inputs


def _per_channel(values: tuple[float, float, float]) -> Floats | np.float32:
    """One number where the channels have the same: numpy divides twenty times as fast by it."""
    return np.float32(values[0]) if len(set(values)) == 1 else np.array(values, np.float32)


def plain_picture(picture: LabelledPicture, spec: ImageInput) -> TrainingPicture:
    """A picture and its boxes as the device letterboxes it, in the model's colour order."""
    source = read_picture(picture.path)
    image, placement = letterbox(source, spec)
    to_file = np.array([source.shape[1] / picture.width, source.shape[0] / picture.height] * 2, np.float32)
    return TrainingPicture(
        image,
        placement.to_model(picture.xyxy_px * to_file),
        picture.class_ids,
        picture.scores,
        placement.to_model(picture.crowd_px * to_file),
    )


def representative_pictures(
    paths: Sequence[Path], spec: ImageInput, count: int, *, seed: int
) -> Iterable[Floats]:
    """At most `count` inputs (1, H, W, 3) of the pictures at `paths`, chosen by `seed`, letterboxed as on the device."""
    for index in np.random.default_rng(seed).permutation(len(paths))[:count]:
        image, _ = letterbox(read_picture(paths[index]), spec)
        yield normalised(image[np.newaxis], spec)
