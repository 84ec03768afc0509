"""Training a keyword model: clips augmented, mixed, and turned into the device's own features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.speech import SpeechSet
from compress.distill.speech_teacher import SpeechTeacher
from compress.measure.keywords import score_keywords
from compress.measure.scored import Scored
from compress.tasks.sampling import ClassWeights, Draw, example_shares
from compress.tasks.task import Batch, Floats, TrainingTask
from compress.train import keyword_loss
from compress.train.batch_features import log_mel_features
from compress.train.sound_augment import SoundAugment, augment_clips, mask_features_batch
from edgeai.bundle.manifest import LogMelInput
from edgeai.engines import EdgeEngine
from edgeai.stages.audio.logmel import log_mel_batch


@dataclass(frozen=True)
class KeywordTask(TrainingTask):
    """seed: of the choice of representative clips. smoothing: of the labels. teacher_share: see the recipe."""

    training: SpeechSet
    validation: SpeechSet
    spec: LogMelInput
    noises: list[Floats]
    augmentation: SoundAugment
    seed: int
    smoothing: float = 0.1
    class_weights: ClassWeights = "balanced"
    teacher: SpeechTeacher | None = None
    teacher_share: float = 0.0

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        picks = self._draw(rng, size)
        clips = augment_clips(
            self.training.clips(picks),
            self.noises,
            sample_rate_hz=self.spec.sample_rate_hz,
            settings=self.augmentation,
            rng=rng,
        )
        wanted = soft_targets(self.training.class_ids[picks], len(self.training.labels), self.smoothing)
        if self.augmentation.mix:
            share = rng.beta(self.augmentation.mix, self.augmentation.mix, size).astype(np.float32)[:, None]
            share = np.maximum(share, 1 - share)
            clips = share * clips + (1 - share) * clips[::-1]
            wanted = share * wanted + (1 - share) * wanted[::-1]
        if self.teacher is not None:
            # the teacher hears the very clip that the student is given, noise and all
            wanted = (1 - self.teacher_share) * wanted + self.teacher_share * self.teacher(clips)
        inputs = masked_inputs(clips, self.spec, self.augmentation, rng)
        return {"inputs": inputs, "targets": wanted}

    def validation_batch(self, indices: Sequence[int]) -> Batch:
        features = log_mel_batch(self.validation.clips(indices), self.spec)
        wanted = soft_targets(
            self.validation.class_ids[list(indices)], len(self.validation.labels), self.smoothing
        )
        return {"inputs": features[..., np.newaxis], "targets": wanted}

    def label_loss(self, outputs: Mapping[str, Any], targets: Any) -> Any:
        return keyword_loss.label_loss(outputs["keyword"], targets)

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        return representative_features(self.training, self.spec, count, seed=self.seed)

    def score(self, engine: EdgeEngine) -> Scored:
        return score_keywords(engine, self.spec, self.validation)

    @cached_property
    def _draw(self) -> Draw:
        return Draw(example_shares(self.training.class_ids, self.training.labels, self.class_weights))


def soft_targets(class_ids: NDArray[np.int32], classes: int, smoothing: float) -> Floats:
    """(B, classes): 1 - smoothing on the class, the rest shared by all (Szegedy et al. 2016)."""
    wanted = np.full((len(class_ids), classes), smoothing / classes, np.float32)
    wanted[np.arange(len(class_ids)), class_ids] += 1 - smoothing
    return wanted


def masked_inputs(
    clips: Floats, spec: LogMelInput, settings: SoundAugment, rng: np.random.Generator
) -> Floats:
    """(B, frames, mels, 1) features of augmented clips (B, N), masked as SpecAugment does."""
    features = log_mel_features(clips, spec)
    return mask_features_batch(features, settings=settings, rng=rng)[..., np.newaxis]


def representative_features(
    clips: SpeechSet, spec: LogMelInput, count: int, *, seed: int
) -> Iterable[Floats]:
    """At most `count` inputs (1, frames, mels, 1) of clips chosen by `seed`."""
    for index in np.random.default_rng(seed).permutation(len(clips))[:count]:
        yield log_mel_batch(clips.clips([index]), spec)[..., np.newaxis]
