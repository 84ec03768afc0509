"""Run a recipe: data, passes, measuring after each, the bundle at the end."""

from __future__ import annotations

import datetime
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.candidate import Candidate
from compress.data.detection import DetectionSet, join_sets, load_coco
from compress.data.speech import SpeechSet, load_noises, load_speech
from compress.data.video import extract_frames
from compress.distill.teacher import TeacherDetector, label_pictures, soften
from compress.export.bundle import write_candidate
from compress.measure.keywords import samples_needed
from compress.networks import detector_strides, open_network
from compress.passes import PASSES
from compress.passes.bench import Bench, Measured
from compress.recipe import CocoData, Recipe, SpeechData, VideoData
from compress.train.tasks import DetectorTask, KeywordTask, TrainingTask
from edgeai.bundle import Bundle
from edgeai.bundle.manifest import ImageInput
from edgeai.console import print_note
from edgeai.errors import DataError, EdgeError

CERTAIN_SCORE = 0.6


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: its settings, how long it took, the figures after it, and whether it was kept."""

    kind: str
    seconds: float
    measured: Measured
    kept: bool
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        m = self.measured
        return {
            "pass": self.kind,
            "seconds": round(self.seconds, 1),
            "kept": self.kept,
            "reason": self.reason,
            "metric": m.metric.name,
            "value": round(m.metric.value, 4),
            "ci95": [round(v, 4) for v in m.metric.ci95],
            "n": m.metric.n,
            "parameters": m.parameters,
            "macs": m.macs,
            "bytes": m.cost.bytes,
            "gzip_bytes": m.cost.gzip_bytes,
            "ms_p50": round(m.cost.ms_p50, 4),
            "ms_p99": round(m.cost.ms_p99, 4),
            "engine": f"{m.file.format}/{m.file.precision}",
        }


@dataclass(frozen=True, slots=True)
class RunResult:
    bundle: Bundle
    records: tuple[PassRecord, ...]
    seconds: float


def run_recipe(recipe: Recipe, *, data_root: Path, out: Path, work: Path) -> RunResult:
    """Make the bundle that `recipe` describes in `out`, working files in `work`.

    Raises RecipeError, DataMissingError or DataError before training where they can be known, PassError during it.
    A pass that breaks the budget is undone and told in its record.
    """
    import keras

    began = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(recipe.seed)
    bench = _open_bench(recipe, data_root, work)
    candidate = Candidate(open_network(recipe, data_root=data_root))
    records: list[PassRecord] = []
    for number, settings in enumerate(recipe.passes, 1):
        started = time.monotonic()
        after = PASSES[settings.kind](settings, candidate, bench)
        measured = bench.measure(after)
        reason = _broken_budget(recipe, measured, records)
        records.append(PassRecord(settings.kind, time.monotonic() - started, measured, not reason, reason))
        print_note(_line(number, len(recipe.passes), records[-1]))
        if not reason:
            candidate = after
            candidate.network.save(work / f"after-{number}-{settings.kind}.keras")
            (work / "records.json").write_text(json.dumps([r.to_json() for r in records], indent=1))
    if not candidate.files:
        raise EdgeError(
            f"recipe {recipe.name}: no engine file was left, every pass that writes one broke the budget",
            next_step="loosen [budget] or the passes before",
        )
    bundle = write_candidate(
        recipe, candidate, out, records=[r.to_json() for r in records], date=datetime.date.today().isoformat()
    )
    return RunResult(bundle, tuple(records), time.monotonic() - began)


def _line(number: int, count: int, record: PassRecord) -> str:
    m = record.measured
    text = (
        f"[{number}/{count}] {record.kind}: {m.metric.name} {m.metric.value:.3f} "
        f"({m.metric.ci95[0]:.3f} to {m.metric.ci95[1]:.3f}), {m.parameters:,} parameters, {m.macs / 1e6:.1f} M MACs, "
        f"{m.cost.bytes:,} bytes, {m.cost.ms_p50:.2f} ms, took {record.seconds:.0f} s"
    )
    return text if record.kept else f"{text}; undone: {record.reason}"


def _broken_budget(recipe: Recipe, measured: Measured, records: list[PassRecord]) -> str:
    budget = recipe.budget
    if records:
        drop = records[0].measured.metric.value - measured.metric.value
        if drop > budget.max_drop:
            return f"{measured.metric.name} dropped by {drop:.3f}, allowed are {budget.max_drop}"
    if measured.file.precision == "int8":  # the size and speed that count are the final engine's
        if budget.max_bytes is not None and measured.cost.bytes > budget.max_bytes:
            return f"{measured.cost.bytes} bytes, allowed are {budget.max_bytes}"
        if budget.max_latency_ms is not None and measured.cost.ms_p50 > budget.max_latency_ms:
            return f"{measured.cost.ms_p50:.2f} ms, allowed are {budget.max_latency_ms}"
    return ""


def _open_bench(recipe: Recipe, data_root: Path, work: Path) -> Bench:
    task: TrainingTask
    validation: DetectionSet | SpeechSet
    if isinstance(recipe.input, ImageInput):
        pictures = load_pictures(recipe, data_root, work)
        training, validation = pictures.split(recipe.data.validation)
        strides = detector_strides(recipe)
        task = DetectorTask(training, recipe.input, strides, recipe.data.pictures, recipe.seed)
    else:
        clips = _load_clips(recipe, data_root)
        spoken, validation = clips.split(recipe.data.validation)
        noises = load_noises(data_root / recipe.data.noises if recipe.data.noises else None)
        task = KeywordTask(spoken, recipe.input, noises, recipe.data.sounds, recipe.seed)
    if not len(validation):
        raise DataError(
            f"recipe {recipe.name}: nothing is left to validate on", next_step="raise data.validation"
        )
    return Bench(recipe, task, validation, work)


def load_pictures(recipe: Recipe, data_root: Path, work: Path) -> DetectionSet:
    """The recipe's labelled pictures; frames of videos are written below `work` and labelled by the teacher."""
    sets: list[DetectionSet] = []
    for source in recipe.data.train:
        if isinstance(source, CocoData):
            sets.append(load_coco(data_root / source.folder, source.split, recipe.labels))
        elif isinstance(source, VideoData):
            sets.append(_label_video(recipe, source, data_root, work))
    return join_sets(sets)


def _label_video(recipe: Recipe, source: VideoData, data_root: Path, work: Path) -> DetectionSet:
    assert recipe.teacher is not None  # noqa: S101  the recipe has checked it
    video = data_root / source.file
    folder = work / "frames" / video.stem
    paths = extract_frames(video, folder, start=source.start, stop=source.stop, every=source.every)
    with TeacherDetector(
        recipe.teacher, recipe.labels, data_root=data_root, threads=os.cpu_count() or 1
    ) as teacher:
        labelled = label_pictures(paths, folder, teacher=teacher, labels=recipe.labels)
    return soften(labelled, floor=recipe.teacher.min_score, full=CERTAIN_SCORE)


def _load_clips(recipe: Recipe, data_root: Path) -> SpeechSet:
    assert not isinstance(recipe.input, ImageInput)  # noqa: S101  called for speech only
    (source, *more) = recipe.data.train
    if more or not isinstance(source, SpeechData):
        raise DataError(
            f"recipe {recipe.name}: one speech folder is expected in data.train, there are {1 + len(more)}"
        )
    return load_speech(
        data_root / source.folder,
        source.split,
        recipe.labels,
        samples=samples_needed(recipe.input),
        sample_rate_hz=recipe.input.sample_rate_hz,
    )
