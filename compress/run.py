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
from compress.data.detection import DetectionSet, join_sets
from compress.data.formats.coco import load_coco
from compress.data.speech import SpeechSet, load_noises, load_speech
from compress.data.video import extract_frames
from compress.distill.speech_teacher import SpeechTeacher
from compress.distill.teacher import TeacherDetector, label_pictures, soften
from compress.export.bundle import write_candidate
from compress.networks import detector_strides
from compress.passes import PASSES
from compress.passes.bench import Bench, Measured, chosen_file
from compress.plan import check_recipe
from compress.quiet import start_tensorflow
from compress.recipe import CocoData, Recipe, SpeechData, VideoData
from compress.train.tasks import DetectorTask, KeywordTask, TrainingTask
from edgeai.bundle import Bundle
from edgeai.bundle.manifest import ImageInput
from edgeai.console import print_note
from edgeai.errors import DataError, EdgeError, RecipeError
from edgeai.stages.audio.logmel import samples_for

# a teacher's score that counts as certain; halfway to 1 where the recipe's min_score is above it
CERTAIN_SCORE = 0.6
# what stands in a record for the network as it was loaded, where training is not the first pass
LOADED = "load"


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
    """bundle: written and verified. records: one a pass, in order, and one for the network where it was loaded."""

    bundle: Bundle
    records: tuple[PassRecord, ...]
    seconds: float


def run_recipe(recipe: Recipe, *, data_root: Path, out: Path, work: Path) -> RunResult:
    """Make the bundle that `recipe` describes in `out`, working files in `work`.

    Raises RecipeError, DataMissingError, DataError or BundleError before training where they can be known, PassError
    during it. A pass that breaks the budget is undone and told in its record. Until the very end nothing is written to
    `out`, and then all at once.
    """
    start_tensorflow()
    import keras

    began = time.monotonic()
    keras.utils.set_random_seed(recipe.seed)
    plan = check_recipe(recipe, data_root=data_root, out=out)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"the working folder {work} cannot be made: {error.strerror or error}") from error
    bench = _open_bench(recipe, data_root, work)
    candidate, records = _run_passes(recipe, bench, Candidate(plan.network))
    if not candidate.files:
        raise EdgeError(
            f"recipe {recipe.name}: no engine file was left, every pass that writes one broke the budget",
            next_step="loosen [budget] or the passes before",
        )
    final = next(r for r in reversed(records) if r.kept)
    bundle = write_candidate(
        recipe,
        candidate,
        out,
        records=[r.to_json() for r in records],
        final=final.measured,
        date=datetime.date.today().isoformat(),
    )
    return RunResult(bundle, tuple(records), time.monotonic() - began)


def _run_passes(recipe: Recipe, bench: Bench, candidate: Candidate) -> tuple[Candidate, list[PassRecord]]:
    """Every pass in turn, measured and kept or undone."""
    records: list[PassRecord] = []
    if recipe.passes[0].kind != "train":
        started = time.monotonic()
        measured = bench.measure(candidate)
        records.append(PassRecord(LOADED, time.monotonic() - started, measured, kept=True))
        print_note(_line(0, len(recipe.passes), records[-1]))
    for number, settings in enumerate(recipe.passes, 1):
        started = time.monotonic()
        kept = next((r for r in reversed(records) if r.kept), None)
        if settings.kind == "distill" and candidate.reference is None and kept is not None:
            reason = "skipped: the prune before it was undone, there is nothing to recover"
            records.append(PassRecord(settings.kind, 0.0, kept.measured, kept=False, reason=reason))
            print_note(_line(number, len(recipe.passes), records[-1]))
            continue
        after = PASSES[settings.kind](settings, candidate, bench)
        # an export leaves network and int8 file as they are: measuring them twice would cost minutes
        same = (
            kept is not None
            and after.network is candidate.network
            and chosen_file(after) == kept.measured.file
        )
        measured = kept.measured if kept is not None and same else bench.measure(after)
        reason = _broken_budget(recipe, measured, records)
        records.append(PassRecord(settings.kind, time.monotonic() - started, measured, not reason, reason))
        print_note(_line(number, len(recipe.passes), records[-1]))
        if not reason:
            candidate = after
            candidate.network.save(bench.work / f"after-{number}-{settings.kind}.keras")
        (bench.work / "records.json").write_text(json.dumps([r.to_json() for r in records], indent=1))
    return candidate, records


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
    training: DetectionSet | SpeechSet
    validation: DetectionSet | SpeechSet
    if isinstance(recipe.input, ImageInput):
        training, validation = load_pictures(recipe, data_root, work)
        task = DetectorTask(
            training, recipe.input, detector_strides(recipe), recipe.data.pictures, recipe.seed
        )
    else:
        clips = _load_clips(recipe, data_root)
        training, validation = clips.split(recipe.data.validation)
        noises = load_noises(
            data_root / recipe.data.noises if recipe.data.noises else None,
            sample_rate_hz=recipe.input.sample_rate_hz,
        )
        teacher, share = None, 0.0
        if recipe.speech_teacher is not None:
            teacher = SpeechTeacher(data_root / recipe.speech_teacher.file, recipe.labels)
            share = recipe.speech_teacher.share
        task = KeywordTask(
            training,
            recipe.input,
            noises,
            recipe.data.sounds,
            recipe.seed,
            teacher=teacher,
            teacher_share=share,
        )
    for part, what in ((training, "learn from"), (validation, "validate on")):
        if not len(part):
            raise DataError(
                f"recipe {recipe.name}: nothing is left to {what}",
                next_step="change data.validation or add data",
            )
    if isinstance(validation, DetectionSet) and not any(len(p.xyxy_px) for p in validation.pictures):
        raise DataError(
            f"recipe {recipe.name}: the {len(validation)} pictures to validate on hold no labelled box",
            next_step="raise data.validation or add data",
        )
    return Bench(recipe, task, validation, work)


def load_pictures(recipe: Recipe, data_root: Path, work: Path) -> tuple[DetectionSet, DetectionSet]:
    """The recipe's labelled pictures, for training and held out; frames of videos are written below `work`.

    Of a video its last part is held out, for frames beside each other are nearly the same picture.
    """
    training: list[DetectionSet] = []
    held: list[DetectionSet] = []
    for number, source in enumerate(recipe.data.train):
        if isinstance(source, CocoData):
            pictures = load_coco(data_root / source.folder, source.split, recipe.labels)
            parts = pictures.split(recipe.data.validation)
        elif isinstance(source, VideoData):
            folder = work / "frames" / f"{number}-{Path(source.file).stem}"
            parts = _label_video(recipe, source, data_root, folder).split_in_order(recipe.data.validation)
        else:
            raise RecipeError(f"recipe {recipe.name}: data of kind {source.kind!r} holds no pictures")
        training.append(parts[0])
        held.append(parts[1])
    return join_sets(training), join_sets(held)


def _label_video(recipe: Recipe, source: VideoData, data_root: Path, folder: Path) -> DetectionSet:
    if recipe.teacher is None:
        raise RecipeError(f"recipe {recipe.name}: videos have no labels, a [teacher] is needed")
    threads = os.cpu_count() or 1
    with TeacherDetector(recipe.teacher, recipe.labels, data_root=data_root, threads=threads) as teacher:
        paths = extract_frames(
            data_root / source.file, folder, start=source.start, stop=source.stop, every=source.every
        )
        labelled = label_pictures(paths, folder, teacher=teacher, labels=recipe.labels)
    floor = recipe.teacher.min_score
    certain = CERTAIN_SCORE if floor < CERTAIN_SCORE else (1 + floor) / 2
    return soften(labelled, floor=floor, full=certain)


def _load_clips(recipe: Recipe, data_root: Path) -> SpeechSet:
    source = recipe.data.train[0]
    if not isinstance(source, SpeechData) or isinstance(recipe.input, ImageInput):
        raise RecipeError(f"recipe {recipe.name}: data of kind {source.kind!r} holds no speech")
    return load_speech(
        data_root / source.folder,
        source.split,
        recipe.labels,
        samples=samples_for(recipe.input.frames, recipe.input),
        sample_rate_hz=recipe.input.sample_rate_hz,
    )
