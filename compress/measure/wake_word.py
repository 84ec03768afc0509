"""A wake word over whole recordings, window by window as a device hears them: what it misses, and what it takes for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.speech import SpeechSet, load_speech, read_clip
from compress.measure.calibration import Calibration
from compress.measure.false_accepts import measure_wake_word, miss_curve
from compress.measure.keywords import clip_levels_db, level_traits
from compress.measure.metric import Metric, Picks
from compress.measure.scored import Mistake, Scored
from compress.measure.scored_classes import Trait, trait_slices
from compress.measure.slices import Slice
from edgeai.bundle.manifest import LogMelInput, Manifest
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.errors import DataError, DataMissingError
from edgeai.sources.audio_file import AudioFile
from edgeai.stages.audio.logmel import samples_for
from edgeai.stages.audio.smoothing import KeywordSmoother, SmootherSettings
from edgeai.stages.audio.window import FeatureWindow
from edgeai.types import Chunk

SOUNDS = (".flac", ".wav")
PIECE = 1 << 17  # samples read and heard at once
# false accepts an hour at which the misses are told
PER_HOUR = (0.0, 0.5, 1.0, 2.0)


def wake_word_of(manifest: Manifest) -> str | None:
    """The one keyword of a model that listens for no other; None for every other model."""
    if manifest.task != "keyword" or manifest.decoder.name != "keyword":
        return None
    ignored = SmootherSettings.from_params(manifest.decoder.params).ignore
    words = [label for label in manifest.labels if label not in ignored]
    return words[0] if len(words) == 1 else None


@dataclass(frozen=True)
class ScoredWakeWord(Scored):
    """is_word: (N,) bool, whether the recording holds the word. peaks: (N,) the highest score in it. false_peaks: (M,) of every
    rise of the score where the word is not; hours: of such sound. traits: of each recording, the words' being cut by them.
    """

    word: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    paths: tuple[Path, ...]
    is_word: NDArray[np.bool_]
    peaks: NDArray[np.float64]
    false_peaks: NDArray[np.float64]
    hours: float
    threshold: float
    traits: tuple[Trait, ...] = ()
    unit: str = "recordings"

    def metric(self) -> Metric:
        words = np.flatnonzero(self.is_word)
        return measure_wake_word(
            self.peaks[words],
            self.false_peaks,
            negative_hours=self.hours,
            threshold=self.threshold,
            groups=[self.groups[i] for i in words],
        )

    def value(self, picks: Picks) -> float:
        heard = self.peaks[picks][self.is_word[picks]] >= self.threshold
        return float(heard.mean()) if len(heard) else float("nan")

    def right(self) -> NDArray[np.bool_]:
        return np.asarray((self.peaks >= self.threshold) == self.is_word, bool)

    def slices(self) -> list[Slice]:
        return trait_slices(self.traits, self.value, unit=self.unit, among=self.is_word)

    def details(self) -> dict[str, Any]:
        """The fewest misses at some rates of false accepts an hour, thresholds with them."""
        curve = miss_curve(self.peaks[self.is_word], self.false_peaks, negative_hours=self.hours)
        return {
            "negative_hours": round(self.hours, 4),
            "misses": [{"wanted_per_hour": rate} | curve.best(per_hour=rate).to_json() for rate in PER_HOUR],
        }

    def wanted(self, class_id: int) -> int:
        return int(self.is_word.sum()) if class_id == self._word else 0

    def said(self, class_id: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if class_id != self._word:
            return np.empty(0), np.empty(0, bool)
        words = self.peaks[self.is_word]
        right = np.concatenate([np.ones(len(words), bool), np.zeros(len(self.false_peaks), bool)])
        return np.concatenate([words, self.false_peaks]), right

    def calibration(self) -> Calibration | None:
        return None

    def predictions(self) -> Iterator[dict[str, Any]]:
        for name, is_word, peak in zip(self.names, self.is_word, self.peaks, strict=True):
            yield {
                "file": name,
                "is_word": bool(is_word),
                "heard": bool(peak >= self.threshold),
                "score": round(float(peak), 6),
            }

    def mistakes(self) -> list[Mistake]:
        """False accepts first, the surest before the others, then misses, the faintest first."""
        found = []
        for index in np.flatnonzero(~self.right()):
            peak, missed = float(self.peaks[index]), bool(self.is_word[index])
            text = f"missed ({peak:.2f})" if missed else f"taken for {self.word} ({peak:.2f})"
            found.append(Mistake(int(index), text, self.threshold - peak if missed else 1 + peak))
        return sorted(found, key=lambda mistake: -mistake.weight)

    @property
    def _word(self) -> int:
        return self.labels.index(self.word)


def score_wake_word(
    engine: EdgeEngine,
    manifest: Manifest,
    listed: SpeechSet,
    *,
    word: str,
    others: Sequence[Path] = (),
) -> ScoredWakeWord:
    """Every recording of `listed`, whole: those labelled `word`, and as false accepts all that has another label.

    others: folders of more sound without the word; a name beside a list of clips (fsdd/test) stands for those listed. Raises
    DataMissingError for what is not there, DataError where the word is not among the labels or nothing else is there to hear.
    """
    spec = manifest.input
    assert isinstance(spec, LogMelInput)  # noqa: S101  the manifest has checked it
    settings = SmootherSettings.from_params(manifest.decoder.params)
    if word not in listed.labels:
        raise DataError(
            f"the data has no recordings of {word!r}", next_step=f"it has {', '.join(listed.labels)}"
        )
    is_word = listed.class_ids == listed.labels.index(word)
    sounds = [path for folder in others for path in sounds_of(folder)]
    paths, groups = (*listed.paths, *sounds), (*listed.groups, *(str(path) for path in sounds))
    is_word = np.concatenate([is_word, np.zeros(len(sounds), bool)])
    if is_word.all():
        raise DataError(
            f"the data holds {word!r} only, so nothing can be taken for it",
            next_step="give other sound with --others",
        )
    peaks, false_peaks, seconds = np.empty(len(paths)), [], 0.0
    levels = np.full((len(paths), 2), np.nan)
    threshold = settings.thresholds.get(word, settings.threshold)
    listen = _Listener(engine, spec, settings, manifest.labels, manifest.labels.index(word))
    with progress_bar("listening", len(paths)) as advance:
        for number, path in enumerate(paths):
            means, samples = listen(path)
            peaks[number] = means.max(initial=0.0)
            if is_word[number]:
                clip = read_clip(path, sample_rate_hz=spec.sample_rate_hz)
                levels[number] = clip_levels_db(clip, sample_rate_hz=spec.sample_rate_hz)
            else:
                false_peaks += rises(means, settings.rearm * threshold)
                seconds += samples / spec.sample_rate_hz
            advance(1)
    names = tuple(f"{path.parent.name}/{path.name}" for path in paths)
    return ScoredWakeWord(
        word,
        manifest.labels,
        names,
        groups,
        paths,
        is_word,
        peaks,
        np.array(false_peaks, np.float64),
        seconds / 3600,
        threshold,
        level_traits(levels),
    )


def sounds_of(folder: Path) -> list[Path]:
    """Every recording below a folder; for `<folder>/<split>` beside `<split>.csv`, the listed ones. Raises DataMissingError."""
    if folder.is_dir():
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS)
        if not found:
            raise DataMissingError(f"no FLAC or WAV recordings in {folder}")
        return found
    return list(load_speech(folder.parent, folder.name, None, samples=1).paths)


def rises(means: NDArray[np.float64], rearm: float) -> list[float]:
    """The highest of each run of scores (T,) that stays at or above `rearm`: a device may fire once in it."""
    high = np.concatenate([[False], means >= max(rearm, 1e-6), [False]])
    edges = np.flatnonzero(np.diff(high.astype(np.int8)))
    return [float(means[start:end].max()) for start, end in zip(edges[::2], edges[1::2], strict=True)]


class _Listener:
    """The smoothed scores of the word over a recording, through the device's window and smoother."""

    def __init__(
        self,
        engine: EdgeEngine,
        spec: LogMelInput,
        settings: SmootherSettings,
        labels: Sequence[str],
        word: int,
    ) -> None:
        self._engine, self._spec, self._word = engine, spec, word
        self._window = FeatureWindow(spec, settings.step_frames(spec))
        self._smoother = KeywordSmoother(settings, labels)
        self._silence = samples_for(spec.frames, spec)

    def __call__(self, path: Path) -> tuple[NDArray[np.float64], int]:
        """(T,) scores of a recording with a window of silence before it and half of one behind, and its samples.

        It is read in pieces: a night's recording does not fit into memory, let alone its windows.
        """
        self._window.reset()
        self._smoother.reset()
        self._engine.reset()
        rate_hz = self._spec.sample_rate_hz
        means = self._hear(np.zeros(self._silence, np.float32), 0)
        samples = 0
        with AudioFile(path, stream=path.stem, sample_rate_hz=rate_hz, chunk_samples=PIECE) as source:
            for chunk in source:
                means += self._hear(chunk.samples, self._silence + samples)
                samples += len(chunk.samples)
        means += self._hear(np.zeros(self._silence // 2, np.float32), self._silence + samples)
        return np.array(means, np.float64), samples

    def _hear(self, sound: NDArray[np.float32], begin: int) -> list[float]:
        given, rate_hz = self._engine.inputs[0], self._spec.sample_rate_hz
        means = []
        for time_s, features in self._window.push(Chunk(sound, rate_hz, begin / rate_hz, "recording")):
            (scores,) = self._engine.run({given.name: features.reshape(given.shape)}).values()
            self._smoother.update(scores.reshape(-1), time_s)
            means.append(float(self._smoother.means[self._word]))
        return means
