"""Training an autoencoder on what a machine sounds like when all is well: what it cannot rebuild is unusual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.speech import SpeechSet
from compress.measure.metric import Metric
from compress.measure.scored_sounds import ScoredAnomalies
from compress.tasks.keyword import representative_features
from compress.tasks.task import Batch, Floats, TrainingTask
from compress.train import reconstruction_loss
from compress.train.batch_features import log_mel_features
from edgeai.bundle.manifest import LogMelInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.stages.audio.logmel import log_mel, log_mel_batch, samples_for


# how many windows of the model's length a clip is taken to hold; a shorter one is padded
WINDOWS = 8


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
        return representative_features(self.training, self.spec, count, seed=self.seed)

    def measure(self, engine: EdgeEngine) -> Metric:
        return score_autoencoder(engine, self.spec, self.validation).metric()

    @staticmethod
    def _batch(features: Floats) -> Batch:
        inputs = features[..., np.newaxis]
        return {"inputs": inputs, "targets": inputs}


def score_autoencoder(engine: EdgeEngine, spec: LogMelInput, data: SpeechSet) -> ScoredAnomalies:
    """The mean squared rebuilding error over each clip's windows, label 0 being the normal sound."""
    errors = np.empty(len(data), np.float64)
    with progress_bar("AUC", len(data)) as advance:
        for number in range(len(data)):
            errors[number] = rebuilding_errors(engine, spec, data.clip(number)).mean()
            advance(1)
    names = [path.name for path in data.paths]
    return ScoredAnomalies(data.labels, names, data.groups, errors, data.class_ids != 0)


def rebuilding_errors(engine: EdgeEngine, spec: LogMelInput, clip: Floats) -> NDArray[np.float64]:
    """The mean squared error of each whole window of a clip, one beside the other; (windows,)."""
    name, shape = engine.inputs[0].name, engine.inputs[0].shape
    samples = samples_for(spec.frames, spec)
    errors = []
    for start in range(0, len(clip) - samples + 1, samples):
        features = log_mel(clip[start : start + samples], spec).reshape(shape)
        (rebuilt,) = engine.run({name: features}).values()
        errors.append(float(np.mean(np.square(rebuilt - features))))
    return np.array(errors, np.float64)
