"""What differs between training a detector and training a keyword model: batches, losses, representative inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, PictureCache
from compress.data.speech import SpeechSet
from compress.distill.speech_teacher import SpeechTeacher
from compress.train import detector_loss, keyword_loss
from compress.train.batches import Prefetch
from compress.train.fit import FitSettings
from compress.train.grid_targets import grid_targets
from compress.train.picture_augment import PictureAugment, augment
from compress.train.sound_augment import SoundAugment, augment_clip, mask_features
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.stages.audio.logmel import log_mel_batch
from edgeai.stages.letterbox import letterbox

Floats = NDArray[np.float32]


class TrainingTask(ABC):
    """Gives `fit` its batches and losses. Inputs are what the model takes: normalised pictures or features."""

    @abstractmethod
    def batches(self, settings: FitSettings) -> Prefetch:
        """Endless {"inputs", "targets"} for `fit`."""

    @abstractmethod
    def label_loss(self, outputs: Any, targets: Any) -> Any: ...

    @abstractmethod
    def teacher_loss(self, outputs: Any, teacher: Any) -> Any:
        """Against the outputs of a teacher with the same outputs."""

    @abstractmethod
    def representative_inputs(self, count: int) -> Iterable[Floats]:
        """Inputs (1, ...) from training data, through the device's own pre-processing, for calibration."""


@dataclass(frozen=True)
class DetectorTask(TrainingTask):
    data: DetectionSet
    spec: ImageInput
    strides: tuple[int, ...]
    augmentation: PictureAugment
    seed: int

    def batches(self, settings: FitSettings) -> Prefetch:
        cache = PictureCache()
        mean, std = np.array(self.spec.mean, np.float32), np.array(self.spec.std, np.float32)

        def make(rng: np.random.Generator) -> dict[str, Any]:
            pictures = np.empty((settings.batch, self.spec.height, self.spec.width, 3), np.uint8)
            targets: list[dict[str, Floats]] = []
            for number in range(settings.batch):
                picks = [self.data.pictures[i] for i in rng.integers(0, len(self.data), 4)]
                made = augment(
                    picks,
                    height=self.spec.height,
                    width=self.spec.width,
                    settings=self.augmentation,
                    rng=rng,
                    read=cache,
                )
                pictures[number] = made.image if self.spec.colour == "BGR" else made.image[..., ::-1]
                targets.append(
                    grid_targets(
                        made.xyxy_px,
                        made.class_ids,
                        made.scores,
                        made.crowd_px,
                        height=self.spec.height,
                        width=self.spec.width,
                        classes=len(self.data.labels),
                        strides=self.strides,
                    )
                )
            stacked = {name: np.stack([t[name] for t in targets]) for name in targets[0]}
            return {"inputs": (pictures - mean) / std, "targets": stacked}

        return Prefetch(make, seed=self.seed + settings.seed)

    def label_loss(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        return detector_loss.label_loss(outputs, targets, self.strides)

    def teacher_loss(self, outputs: Mapping[str, Any], teacher: Mapping[str, Any]) -> Any:
        return detector_loss.teacher_loss(outputs, teacher, self.strides)

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        cache = PictureCache(max_bytes=0)
        rng = np.random.default_rng(self.seed)
        mean, std = np.array(self.spec.mean, np.float32), np.array(self.spec.std, np.float32)
        for index in rng.permutation(len(self.data))[:count]:
            picture, _ = letterbox(cache(self.data.pictures[index].path), self.spec)
            yield ((picture - mean) / std)[np.newaxis]


@dataclass(frozen=True)
class KeywordTask(TrainingTask):
    data: SpeechSet
    spec: LogMelInput
    noises: list[Floats]
    augmentation: SoundAugment
    seed: int
    smoothing: float = 0.1
    teacher: SpeechTeacher | None = None
    teacher_share: float = 0.0

    def batches(self, settings: FitSettings) -> Prefetch:
        classes = len(self.data.labels)
        by_class = [np.flatnonzero(self.data.class_ids == k) for k in range(classes)]
        filled = [k for k in range(classes) if len(by_class[k])]

        def make(rng: np.random.Generator) -> dict[str, Any]:
            class_ids = np.array(filled)[rng.integers(0, len(filled), settings.batch)]
            clips = np.stack(
                [
                    augment_clip(
                        self.data.clip(int(rng.choice(by_class[k]))),
                        self.noises,
                        sample_rate_hz=self.spec.sample_rate_hz,
                        settings=self.augmentation,
                        rng=rng,
                    )
                    for k in class_ids
                ]
            )
            wanted = np.full((settings.batch, classes), self.smoothing / classes, np.float32)
            wanted[np.arange(settings.batch), class_ids] += 1 - self.smoothing
            if self.augmentation.mix:
                share = rng.beta(self.augmentation.mix, self.augmentation.mix, settings.batch).astype(
                    np.float32
                )[:, None]
                share = np.maximum(share, 1 - share)
                clips = share * clips + (1 - share) * clips[::-1]
                wanted = share * wanted + (1 - share) * wanted[::-1]
            if self.teacher is not None:
                # the teacher hears the very clip that the student is given, noise and all
                wanted = (1 - self.teacher_share) * wanted + self.teacher_share * self.teacher(clips)
            features = log_mel_batch(clips, self.spec)
            for row in features:
                mask_features(row, settings=self.augmentation, rng=rng)
            return {"inputs": features[..., np.newaxis], "targets": wanted}

        return Prefetch(make, seed=self.seed + settings.seed)

    def label_loss(self, outputs: Mapping[str, Any], targets: Any) -> Any:
        return keyword_loss.label_loss(outputs["keyword"], targets)

    def teacher_loss(self, outputs: Mapping[str, Any], teacher: Mapping[str, Any]) -> Any:
        return keyword_loss.teacher_loss(outputs["keyword"], teacher["keyword"])

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        rng = np.random.default_rng(self.seed)
        for index in rng.permutation(len(self.data))[:count]:
            yield log_mel_batch(self.data.clips([index]), self.spec)[..., np.newaxis]
