"""A bundle's engine file on labelled data, through the device's own code. One more task is one function and one line in `TASKS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.measure.scored import Scored
from compress.measure.wake_word import score_wake_word, wake_word_of
from edgeai.bundle import Bundle
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import Candidate, EdgeEngine, named
from edgeai.errors import BundleError, DataError, DataMissingError, UsageError

if TYPE_CHECKING:
    from compress.data.speech import SpeechSet


def choose_engine(bundle: Bundle, engine: str | None) -> Candidate:
    """What to measure: the engine named, else the int8 TFLite. Raises BundleError that lists what there is."""
    if engine is not None:
        return named(bundle, engine)[0]
    try:
        return Candidate("tflite", bundle.engine_file("tflite", "int8"))
    except BundleError as error:
        raise BundleError(str(error), next_step="choose one with --engine") from None


def score_bundle(
    bundle: Bundle,
    engine: EdgeEngine,
    data: Path,
    split: str,
    *,
    iou: float = 0.5,
    others: Sequence[Path] = (),
) -> Scored:
    """Run every example of the split through `engine`, one of the bundle's. iou: from which overlap on a box is found.
    others: folders of sound in which a wake word is not.

    Raises DataMissingError, DataError, UsageError for an IoU outside 0..1 or `others` of another model, and BundleError for
    a task without a metric.
    """
    if not data.is_dir():
        raise DataMissingError(
            f"no data folder at {data}",
            next_step="give a folder of labelled pictures or clips, for example of COCO JSON or of a CSV",
        )
    if not 0 < iou < 1:
        raise UsageError(f"an IoU must be between 0 and 1, got {iou:g}")
    word = wake_word_of(bundle.manifest)
    if word is not None:
        listed = load_clips(bundle, data, split, None)
        return score_wake_word(engine, bundle.manifest, listed, word=word, others=others)
    if others:
        raise UsageError(
            f"other sound is for a wake word, bundle {bundle.name} has {len(bundle.labels)} labels to tell apart",
            next_step="leave out --others",
        )
    score = TASKS.get(bundle.manifest.task)
    if score is None:
        raise BundleError(f"bundle {bundle.name}: no metric is known for the task {bundle.manifest.task!r}")
    return score(bundle, engine, data, split, iou)


def _score_pictures(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.data.formats import load_detections
    from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector, find_boxes
    from compress.measure.scored_pictures import DEFAULT_THRESHOLD, ScoredPictures

    manifest = bundle.manifest
    assert isinstance(manifest.input, ImageInput)  # noqa: S101  the manifest has checked it
    # a folder that holds labels in several formats, or in none that is known, is taken for COCO
    kind = "coco" if any(data.glob("instances_*.json")) else _known_format(data)
    pictures = load_detections(kind, data, split, manifest.labels)
    detect = BundleDetector(
        engine, manifest.input, manifest.decoder, manifest.labels, score_threshold=EVAL_SCORE_THRESHOLD
    )
    found, luma = find_boxes(detect, pictures)
    threshold = float(manifest.decoder.params.get("score_threshold", DEFAULT_THRESHOLD))
    return ScoredPictures(pictures, found, luma, manifest.input, threshold, iou)


def _known_format(data: Path) -> str:
    from compress.data.formats import detect_format

    try:
        return detect_format(data)
    except DataError:
        return "coco"


def _score_classified(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.data.formats.folders import load_picture_folders
    from compress.measure.classified import score_classified

    manifest = bundle.manifest
    assert isinstance(manifest.input, ImageInput)  # noqa: S101  the manifest has checked it
    pictures = load_picture_folders(data, split, manifest.labels)
    activation: Any = manifest.decoder.params.get("activation", "none")
    return score_classified(engine, manifest.input, pictures, activation=activation)


def _score_keywords(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.measure.keywords import score_keywords

    clips = load_clips(bundle, data, split, bundle.manifest.labels)
    activation: Any = bundle.manifest.decoder.params.get("activation", "none")
    return score_keywords(engine, _logmel(bundle), clips, activation=activation)


def _score_transcripts(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.measure.sounds import score_speller

    clips = load_clips(bundle, data, split, None)
    return score_speller(engine, _logmel(bundle), bundle.manifest.labels, clips)


def _score_anomalies(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.measure.sounds import WINDOWS, score_autoencoder

    clips = load_clips(bundle, data, split, bundle.manifest.labels)
    return score_autoencoder(engine, _logmel(bundle), replace(clips, samples=clips.samples * WINDOWS))


def load_clips(bundle: Bundle, data: Path, split: str, labels: tuple[str, ...] | None) -> SpeechSet:
    """The split's clips as the bundle hears them. labels: those wanted; None, all. Raises DataError, DataMissingError."""
    from compress.data.speech import load_sound_folders, load_speech
    from edgeai.stages.audio.logmel import samples_for

    spec = _logmel(bundle)
    samples, rate = samples_for(spec.frames, spec), spec.sample_rate_hz
    folders = (data / split).is_dir() or any((data / label).is_dir() for label in labels or ())
    if folders and not (data / f"{split}.csv").is_file():
        return load_sound_folders(data, split, labels, samples=samples, sample_rate_hz=rate)
    return load_speech(data, split, labels, samples=samples, sample_rate_hz=rate)


def _logmel(bundle: Bundle) -> LogMelInput:
    spec = bundle.manifest.input
    assert isinstance(spec, LogMelInput)  # noqa: S101  the manifest has checked it
    return spec


TASKS: dict[str, Callable[[Bundle, EdgeEngine, Path, str, float], Scored]] = {
    "detect": _score_pictures,
    "classify": _score_classified,
    "keyword": _score_keywords,
    "transcribe": _score_transcripts,
    "anomaly": _score_anomalies,
}
