"""Run a recipe: data, passes, measuring after each, the bundle at the end."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from compress.candidate import Candidate
from compress.control import Control, train_control
from compress.export.bundle import write_candidate
from compress.measure.metric import LOWER_IS_BETTER
from compress.passes.bench import Bench, Measured, chosen_file
from compress.passes.settings import PassSettings
from compress.passes.table import PASSES
from compress.plan import check_recipe
from compress.prune.sparsity import SENTENCES, SparseTarget, describe_sparsity
from compress.quiet import start_tensorflow
from compress.recipe import Recipe
from compress.record import PassRecord, SavedRun, run_fingerprint
from compress.tasks import open_task
from compress.tasks.sources import load_unlabelled
from edgeai.bundle import Bundle
from edgeai.console import print_note
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

# what stands in a record for the network as it was loaded, where training is not the first pass
LOADED = "load"


@dataclass(frozen=True, slots=True)
class RunResult:
    """bundle: written and verified. records: one an attempt at a pass, in order, and one for the network where it was
    loaded. control: where one was asked for.
    """

    bundle: Bundle
    records: tuple[PassRecord, ...]
    seconds: float
    control: Control | None = None


def run_recipe(
    recipe: Recipe,
    *,
    data_root: Path,
    out: Path,
    work: Path,
    fresh: bool = False,
    control: bool = False,
    strategy: Any = None,
) -> RunResult:
    """Make the bundle that `recipe` describes in `out`, working files in `work`.

    A run of the same recipe and data that was cut off in `work` goes on where it was, unless `fresh`. control: train the
    final architecture from nothing too, for as many examples, and tell how it compares (compress.control). strategy: from
    open_strategy(), where several devices or hosts train together; each process has an `out` and a `work` of its own.

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
    task = open_task(recipe, data_root=data_root, work=work)
    measured_on = task.pictures_measured_on()
    unlabelled = load_unlabelled(recipe, data_root, work, measured_on=measured_on)
    fingerprint = run_fingerprint(recipe, data_root)
    bench = Bench(
        recipe, task, work, unlabelled, strategy=strategy, data_root=data_root, fingerprint=fingerprint
    )
    saved = SavedRun(work, fingerprint)
    state = None if fresh else saved.load()
    if state is not None:
        print_note(f"going on with the run that was cut off in {work}; --fresh starts over")
    else:
        saved.clear()
        state = Candidate(plan.network), []
        saved.save(*state, name="start")
    candidate, records = _run_passes(recipe, bench, saved, *state)
    if not candidate.files:
        raise EdgeError(
            f"recipe {recipe.name}: no engine file was left, every pass that writes one broke the budget",
            next_step="loosen [budget] or the passes before",
        )
    final = next(r for r in reversed(records) if r.kept)
    compared = None
    if control:
        lower = final.measured.metric.name in LOWER_IS_BETTER
        compared = train_control(_kept(recipe, records), candidate, bench, lower_is_better=lower)
    bundle = write_candidate(
        recipe,
        candidate,
        out,
        records=[r.to_json() for r in records],
        final=final.measured,
        control=compared.to_json() if compared else None,
        notes=_notes(candidate, final),
        date=datetime.date.today().isoformat(),
    )
    saved.clear()
    return RunResult(bundle, tuple(records), time.monotonic() - began, compared)


def _notes(candidate: Candidate, final: PassRecord) -> dict[str, Any]:
    """What passes want told, and what the zeros bring where they are meant."""
    if not candidate.sparse:
        return candidate.notes
    file = final.measured.file
    target: SparseTarget = "onnx" if file.format == "onnx" else "tflite"
    told = describe_sparsity(candidate.network, file.path.read_bytes(), target=target)
    print_note(f"sparsity: {told.zeros:.0%} of the weights are zero: {told.brings}")
    notes = told.to_json()
    if told.pattern == "2:4":
        notes["brings_tensorrt"] = SENTENCES["2:4", "tensorrt"]
    return {**candidate.notes, "sparsity": notes}


def _run_passes(
    recipe: Recipe, bench: Bench, saved: SavedRun, candidate: Candidate, records: list[PassRecord]
) -> tuple[Candidate, list[PassRecord]]:
    """Every pass in turn that is not in `records` yet, measured and kept or undone."""
    first = recipe.passes[0]
    if not records and "trained" not in first.gives and first.kind != "pretrain":
        started = time.monotonic()
        measured = bench.measure(candidate)
        records.append(PassRecord(LOADED, time.monotonic() - started, measured, kept=True))
        print_note(_line(0, len(recipe.passes), records[-1]))
    done = sum(record.kind != LOADED and not record.tried_again for record in records)
    for number, settings in enumerate(recipe.passes[done:], done + 1):
        step = f"{number}-{settings.kind}"
        for attempt, asked in enumerate(_ever_softer(settings, recipe.budget.retries)):
            if attempt < _attempts_made(records):  # before the run was cut off
                continue
            name = f"{step}-again-{attempt}" if attempt else step
            last = attempt == recipe.budget.retries
            record, candidate = _run_pass(recipe, asked, replace(bench, step=name), candidate, records, last)
            records.append(record)
            print_note(_line(number, len(recipe.passes), record))
            saved.save(candidate, records, name=f"after-{name}")
            write_whole(bench.work / "records.json", json.dumps([r.to_json() for r in records], indent=1))
            if not record.tried_again:
                break
    return candidate, records


def _kept(recipe: Recipe, records: Sequence[PassRecord]) -> list[PassSettings]:
    """The passes that the candidate went through."""
    ended = [record for record in records if record.kind != LOADED and not record.tried_again]
    return [asked for asked, record in zip(recipe.passes, ended, strict=True) if record.kept]


def _ever_softer(settings: PassSettings, retries: int) -> Iterator[PassSettings]:
    """The pass, then the same asking for less each time, as long as it can."""
    asked: PassSettings | None = settings
    for _ in range(retries + 1):
        if asked is None:
            return
        yield asked
        asked = asked.softer()


def _attempts_made(records: Sequence[PassRecord]) -> int:
    """Of the pass that is next."""
    return len(list(takewhile(lambda record: record.tried_again, reversed(records))))


def _run_pass(
    recipe: Recipe,
    settings: PassSettings,
    bench: Bench,
    candidate: Candidate,
    records: list[PassRecord],
    last: bool,
) -> tuple[PassRecord, Candidate]:
    """One attempt at a pass, measured; its candidate, or the one before where it breaks the budget."""
    started = time.monotonic()
    kind = settings.kind
    kept = next((r for r in reversed(records) if r.kept), None)
    if candidate.reference is None and settings.needs_reference and kept is not None:
        reason = "skipped: the prune before it was undone, there is nothing to recover"
        return PassRecord(kind, 0.0, kept.measured, kept=False, reason=reason), candidate
    after = PASSES[kind](settings, candidate, bench)
    # an export leaves network and int8 file as they are: measuring them twice would cost minutes
    same = (
        kept is not None and after.network is candidate.network and chosen_file(after) == kept.measured.file
    )
    measured = kept.measured if kept is not None and same else bench.measure(after)
    reason = _broken_budget(recipe, measured, records, written=measured.file in after.files)
    if bench.agree(bool(reason)) != bool(reason):
        reason = "" if reason else "undone by the first process"
    again = bool(reason) and not last and settings.softer() is not None
    seconds = time.monotonic() - started
    record = PassRecord(kind, seconds, measured, not reason, reason, tried_again=again)
    return record, candidate if reason else after


def _line(number: int, count: int, record: PassRecord) -> str:
    m = record.measured
    text = (
        f"[{number}/{count}] {record.kind}: {m.metric.name} {m.metric.value:.3f} "
        f"({m.metric.ci95[0]:.3f} to {m.metric.ci95[1]:.3f}), {m.parameters:,} parameters, {m.macs / 1e6:.1f} M MACs, "
        f"{m.cost.bytes:,} bytes, {m.cost.ms_p50:.2f} ms, took {record.seconds:.0f} s"
    )
    if record.kept:
        return text
    return f"{text}; {'tried again, asking for less' if record.tried_again else 'undone'}: {record.reason}"


def _broken_budget(recipe: Recipe, measured: Measured, records: list[PassRecord], *, written: bool) -> str:
    """What a pass broke, "" where nothing. written: whether it was measured by a file of the bundle."""
    budget = recipe.budget
    first = next((r for r in records if r.kind != "pretrain"), None)  # that one knows no labels
    if first is not None:
        drop = first.measured.metric.value - measured.metric.value
        changed = "dropped"
        if measured.metric.name in LOWER_IS_BETTER:
            drop, changed = -drop, "rose"
        if drop > budget.max_drop:
            return f"{measured.metric.name} {changed} by {drop:.3f}, allowed are {budget.max_drop}"
    if (
        written
    ):  # the size and speed that count are an engine file's, not the float network's on its way there
        if budget.max_bytes is not None and measured.cost.bytes > budget.max_bytes:
            return f"{measured.cost.bytes} bytes, allowed are {budget.max_bytes}"
        if budget.max_latency_ms is not None and measured.cost.ms_p50 > budget.max_latency_ms:
            return f"{measured.cost.ms_p50:.2f} ms, allowed are {budget.max_latency_ms}"
    return ""
