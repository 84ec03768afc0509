"""`edgeai-compress eval`: what a bundle is worth on labelled data, through the device's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.measure.cost import measure_cost
from compress.measure.metric import Metric
from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import FileEntry, ImageInput, LogMelInput
from edgeai.console import print_json, print_table
from edgeai.engines import EdgeEngine, engine_order, open_file
from edgeai.errors import BundleError, DataMissingError


def evaluate_bundle(
    where: str, *, data: Path, split: str, engine: str | None = None, json_output: bool = False
) -> int:
    """Print metric, interval, count, bytes and the median of the engine call on one thread.

    Raises BundleError, EngineError, DataMissingError and DataError.
    """
    bundle = load_bundle(where)
    entry = _engine_file(bundle, engine)
    if not data.is_dir():
        raise DataMissingError(
            f"no data folder at {data}", next_step="give a folder of COCO JSON or of a CSV with clips"
        )
    with open_file(bundle, entry, threads=1) as opened:
        metric = _measure(bundle, opened, data, split)
        cost = measure_cost(opened, bundle.path(entry))
    figures: dict[str, Any] = {
        "metric": metric.name,
        "value": round(metric.value, 4),
        "ci95": [round(end, 4) for end in metric.ci95],
        "n": metric.n,
        "engine": f"{entry.format}/{entry.precision}",
        "bytes": cost.bytes,
        "ms_p50": round(cost.ms_p50, 4),
    }
    if json_output:
        print_json(figures)
        return 0
    print_table(
        [metric.name, "95 % interval", "n", "engine", "bytes", "ms p50"],
        [
            [
                f"{metric.value:.4f}",
                f"{metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}",
                metric.n,
                figures["engine"],
                f"{cost.bytes:,}",
                f"{cost.ms_p50:.3f}",
            ]
        ],
        title=f"{bundle.name} on {split} of {data}",
    )
    recalls = metric.details.get("recall")
    if isinstance(recalls, dict):
        print_table(["label", "recall"], [[label, f"{value:.3f}"] for label, value in recalls.items()])
    return 0


def _engine_file(bundle: Bundle, engine: str | None) -> FileEntry:
    if engine is not None:
        return engine_order(bundle, file=engine)[0]
    try:
        return bundle.engine_file("tflite", "int8")
    except BundleError as error:
        raise BundleError(str(error), next_step="choose one with --engine") from None


def _measure(bundle: Bundle, engine: EdgeEngine, data: Path, split: str) -> Metric:
    manifest = bundle.manifest
    if manifest.task == "detect" and isinstance(manifest.input, ImageInput):
        from compress.data.formats.coco import load_coco
        from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector, measure_detector

        pictures = load_coco(data, split, manifest.labels)
        detect = BundleDetector(
            engine, manifest.input, manifest.decoder, manifest.labels, score_threshold=EVAL_SCORE_THRESHOLD
        )
        return measure_detector(detect, pictures)
    if manifest.task == "keyword" and isinstance(manifest.input, LogMelInput):
        from compress.data.speech import load_speech
        from compress.measure.keywords import measure_keywords
        from edgeai.stages.audio.logmel import samples_for

        clips = load_speech(
            data,
            split,
            manifest.labels,
            samples=samples_for(manifest.input.frames, manifest.input),
            sample_rate_hz=manifest.input.sample_rate_hz,
        )
        return measure_keywords(engine, manifest.input, clips)
    raise BundleError(f"bundle {bundle.name}: no metric is known for the task {manifest.task!r}")
