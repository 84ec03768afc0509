"""Training a network that spells what it hears, by connectionist temporal classification (Graves et al. 2006)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.speech import SpeechSet
from compress.data.spelling import spell
from compress.measure.scored import Scored
from compress.measure.sounds import score_speller
from compress.tasks.keyword import masked_inputs, representative_features
from compress.tasks.task import Batch, Floats, TrainingTask
from compress.train import ctc_loss
from compress.train.sound_augment import SoundAugment, augment_clips
from edgeai.bundle.manifest import LogMelInput
from edgeai.engines import EdgeEngine
from edgeai.stages.audio.logmel import log_mel_batch

PADDING = -1  # what follows the symbols of a shorter text


@dataclass(frozen=True)
class TranscribeTask(TrainingTask):
    """symbols: what texts are spelled in. joined: up to so many clips of one speaker in a window, as room allows."""

    training: SpeechSet
    validation: SpeechSet
    symbols: tuple[str, ...]
    spec: LogMelInput
    noises: list[Floats]
    augmentation: SoundAugment
    seed: int
    joined: int = 1

    def make_batch(self, rng: np.random.Generator, size: int) -> Batch:
        clips, texts = [], []
        for _ in range(size):
            clip, text = self._window(rng)
            clips.append(clip)
            texts.append(text)
        augmented = augment_clips(
            np.stack(clips),
            self.noises,
            sample_rate_hz=self.spec.sample_rate_hz,
            settings=self.augmentation,
            rng=rng,
        )
        inputs = masked_inputs(augmented, self.spec, self.augmentation, rng)
        return {"inputs": inputs, "targets": self._padded(texts)}

    def validation_batch(self, indices: Sequence[int]) -> Batch:
        features = log_mel_batch(self.validation.clips(indices), self.spec)
        texts = [self._spelled[self.validation.labels[self.validation.class_ids[i]]] for i in indices]
        return {"inputs": features[..., np.newaxis], "targets": self._padded(texts)}

    def label_loss(self, outputs: Mapping[str, Any], targets: Any) -> Any:
        return ctc_loss.label_loss(outputs["symbols"], targets)

    def representative_inputs(self, count: int) -> Iterable[Floats]:
        return representative_features(self.training, self.spec, count, seed=self.seed)

    def score(self, engine: EdgeEngine) -> Scored:
        return score_speller(engine, self.spec, self.symbols, self.validation)

    def _window(self, rng: np.random.Generator) -> tuple[Floats, list[int]]:
        """One clip, or as many of the same speaker one after the other as fit; and how they are spelled."""
        clips = self.training
        first = int(rng.integers(len(clips)))
        wanted = int(rng.integers(1, self.joined + 1))
        picks = [first, *rng.choice(self._by_group[clips.groups[first]], wanted - 1)]
        window = np.zeros(clips.samples, np.float32)
        at, spelled = 0, []
        for pick in picks:
            spoken = _spoken(clips.clip(int(pick)))
            if at + len(spoken) > len(window):
                break
            window[at : at + len(spoken)] = spoken
            spelled += self._spelled[clips.labels[clips.class_ids[pick]]]
            at += len(spoken) + int(rng.uniform(0.02, 0.25) * clips.sample_rate_hz)
        return window, spelled

    def _padded(self, texts: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        """(B, L) int32, L the same for every batch, so that one graph serves all."""
        longest = max((len(text) for text in self._spelled.values()), default=1) * self.joined
        padded = np.full((len(texts), max(1, longest)), PADDING, np.int32)
        for row, text in zip(padded, texts, strict=True):
            row[: len(text)] = text
        return padded

    @cached_property
    def _spelled(self) -> dict[str, list[int]]:
        return {text: spell(text, self.symbols) for text in self.training.labels}

    @cached_property
    def _by_group(self) -> dict[str, NDArray[np.intp]]:
        groups: dict[str, list[int]] = {}
        for index, group in enumerate(self.training.groups):
            groups.setdefault(group, []).append(index)
        return {group: np.array(indices, np.intp) for group, indices in groups.items()}


def _spoken(clip: Floats, *, floor: float = 1e-3) -> Floats:
    """A clip without the digital silence that padding put at its end."""
    loud = np.flatnonzero(np.abs(clip) > floor)
    return clip[: int(loud[-1]) + 1] if len(loud) else clip[:1]
