"""Training an autoencoder on what a machine sounds like when all is well: what it cannot rebuild is unusual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compress.data.speech import SpeechSet
from compress.measure.scored import Scored
from compress.measure.sounds import score_autoencoder
from compress.tasks.keyword import representative_features
from compress.tasks.task import Batch, Floats, TrainingTask
from compress.train import reconstruction_loss
from compress.train.batch_features import log_mel_features
from edgeai.bundle.manifest import LogMelInput
from edgeai.engines import EdgeEngine
from edgeai.stages.audio.logmel import log_mel_batch, samples_for


@dataclass(frozen=True)
class AnomalyTask(TrainingTask):
    """training: clips of the normal sound only. validation: normal ones and others; label 0 is the normal one.

    A window of the clip is drawn for each example; a clip is longer than the window on purpose.
    """

    training: SpeechSet
    validation: SpeechSet
    spec: LogMelInput
    seed: int

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        samples = samples_for(self.spec.frames, self.spec)
        windows = np.empty((size, samples), np.float32)
        for row, index in enumerate(rng.integers(0, len(self.training), size)):
            clip = self.training.clip(int(index))
            start = int(rng.integers(0, len(clip) - samples + 1))
            windows[row] = clip[start : start + samples]
        return self._batch(log_mel_features(windows, self.spec))

    def validation_batch(self, indices: Sequence[int]) -> Batch:
        samples = samples_for(self.spec.frames, self.spec)
        normal = np.flatnonzero(self.validation.class_ids == 0)
        picks = normal[np.array(indices) % len(normal)] if len(normal) else np.array(indices)
        return self._batch(log_mel_batch(self.validation.clips(picks)[:, :samples], self.spec))

    def label_loss(self, outputs: Mapping[str, Any], targets: Any) -> Any:
        return reconstruction_loss.label_loss(outputs["rebuilt"], targets)

    def teacher_loss(self, outputs: Mapping[str, Any], teacher: Mapping[str, Any]) -> Any:
        return reconstruction_loss.label_loss(outputs["rebuilt"], teacher["rebuilt"])

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        samples = samples_for(self.spec.frames, self.spec)
        first_window = replace(self.training, samples=samples)
        return representative_features(first_window, self.spec, count, seed=self.seed)

    def score(self, engine: EdgeEngine) -> Scored:
        return score_autoencoder(engine, self.spec, self.validation)

    @staticmethod
    def _batch(features: Floats) -> Batch:
        inputs = features[..., np.newaxis]
        return {"inputs": inputs, "targets": inputs}
