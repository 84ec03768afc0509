"""A bundle's engine file on labelled data, through the device's own code. One more task is one function and one line in `TASKS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.measure.scored import Scored
from edgeai.bundle import Bundle
from edgeai.bundle.manifest import FileEntry, ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, engine_order
from edgeai.errors import BundleError, DataMissingError, UsageError

# the device's own where a bundle's decoder does not say
_DEFAULT_THRESHOLD = 0.3


def choose_engine(bundle: Bundle, engine: str | None) -> FileEntry:
    """The engine file to measure: the one named, else the int8 TFLite. Raises BundleError that lists what there is."""
    if engine is not None:
        return engine_order(bundle, file=engine)[0]
    try:
        return bundle.engine_file("tflite", "int8")
    except BundleError as error:
        raise BundleError(str(error), next_step="choose one with --engine") from None


def score_bundle(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, *, iou: float = 0.5) -> Scored:
    """Run every example of the split through `engine`, one of the bundle's. iou: from which overlap on a box is found.

    Raises DataMissingError, DataError, UsageError for an IoU outside 0..1, and BundleError for a task without a metric.
    """
    if not data.is_dir():
        raise DataMissingError(
            f"no data folder at {data}", next_step="give a folder of COCO JSON or of a CSV with clips"
        )
    if not 0 < iou < 1:
        raise UsageError(f"an IoU must be between 0 and 1, got {iou:g}")
    score = TASKS.get(bundle.manifest.task)
    if score is None:
        raise BundleError(f"bundle {bundle.name}: no metric is known for the task {bundle.manifest.task!r}")
    return score(bundle, engine, data, split, iou)


def _score_pictures(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.data.formats.coco import load_coco
    from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector, find_boxes
    from compress.measure.scored_pictures import ScoredPictures

    manifest = bundle.manifest
    assert isinstance(manifest.input, ImageInput)  # noqa: S101  the manifest has checked it
    pictures = load_coco(data, split, manifest.labels)
    detect = BundleDetector(
        engine, manifest.input, manifest.decoder, manifest.labels, score_threshold=EVAL_SCORE_THRESHOLD
    )
    found, luma = find_boxes(detect, pictures)
    threshold = float(manifest.decoder.params.get("score_threshold", _DEFAULT_THRESHOLD))
    return ScoredPictures(pictures, found, luma, manifest.input, threshold, iou)


def _score_clips(bundle: Bundle, engine: EdgeEngine, data: Path, split: str, iou: float) -> Scored:
    from compress.data.speech import load_speech
    from compress.measure.keywords import score_keywords
    from edgeai.stages.audio.logmel import samples_for

    manifest = bundle.manifest
    assert isinstance(manifest.input, LogMelInput)  # noqa: S101  the manifest has checked it
    clips = load_speech(
        data,
        split,
        manifest.labels,
        samples=samples_for(manifest.input.frames, manifest.input),
        sample_rate_hz=manifest.input.sample_rate_hz,
    )
    activation: Any = manifest.decoder.params.get("activation", "none")
    return score_keywords(engine, manifest.input, clips, activation=activation)


TASKS: dict[str, Callable[[Bundle, EdgeEngine, Path, str, float], Scored]] = {
    "detect": _score_pictures,
    "keyword": _score_clips,
}
