"""Every engine of a bundle on this machine: latency by turns, throughput, memory, power, and the machine around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from edgeai.bench.bench_process import ANSWER_S, OPEN_S, BenchProcess
from edgeai.bench.machine import MachineState, machine_warnings, read_state
from edgeai.bench.power import PowerMeter, PowerSource, find_power_source
from edgeai.bench.raw_tools import BARE, LOOP, RawFigure, find_tool, run_tool
from edgeai.bench.roofline import Limit, Work, copies_of, limit_of, work_of
from edgeai.bench.statistics import BLOCKS, Verdict, decide, sample_warnings
from edgeai.bundle import Bundle
from edgeai.bundle.bundle import verify_file
from edgeai.bundle.manifest import Measured
from edgeai.engines import Candidate, EngineHost, skipped_line
from edgeai.engines.candidates import GPU_KINDS
from edgeai.errors import BundleHashError, EngineError, EngineUnavailableError
from edgeai.metrics import Measurement, summarize

Advance = Callable[..., None]
_IDLE_S = 1.0
_MAX_CALLS = 100_000
_PROGRAM_S = 2.0  # nvidia-smi and tegrastats need most of a second before their first line


@dataclass(frozen=True, slots=True)
class EnginesSettings:
    """threads: the first is that of latency; throughput is of every one with each number of instances and inputs a call (batch).

    runs: turns of calls (ours and the library's own) of each engine; with latency_s as many as fit into so many seconds.
    window_s: of each throughput figure, 0 leaves them out.
    """

    threads: tuple[int, ...] = (1,)
    instances: tuple[int, ...] = (1,)
    batch: tuple[int, ...] = (1,)
    runs: int = 200
    latency_s: float | None = None
    window_s: float = 0.5

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """(threads, instances, batch) of each throughput figure."""
        return list(product(self.threads, self.instances, self.batch)) if self.window_s else []


@dataclass(frozen=True, slots=True)
class Throughput:
    """inputs_per_s: of `instances` engines at once in one process, each with `threads` threads and `batch` inputs a call; None
    for an engine that takes fewer at once.
    """

    threads: int
    instances: int
    batch: int
    inputs_per_s: float | None


@dataclass(slots=True)
class EngineFigures:
    """What was measured of one candidate, filled in as the bench goes on.

    ours_ms, bare_ms, loop_ms: our call, the library's own, and the loop that anyone writes around that, by turns and in order;
    no loop_ms where that is the library's own call already.
    """

    candidate: Candidate
    load_ms: float
    first_ms: float
    rss_mib: float
    max_batch: int
    accuracy: Measured | None
    work: Work | None
    ours_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)
    loop_ms: list[float] = field(default_factory=list)
    block_ms: list[float] = field(default_factory=list)
    throughput: list[Throughput] = field(default_factory=list)
    power_w: float | None = None
    raw: list[RawFigure] = field(default_factory=list)
    limit: Limit | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.candidate.label

    @property
    def p50_ms(self) -> float:
        return float(np.median(self.ours_ms))

    def latency(self, bundle: str) -> Measurement:
        """`<bundle>/<format>/<precision>_ms`: our call, picture or features in, float32 out."""
        return summarize(f"{bundle}/{self.label}_ms", "ms", self.ours_ms)

    def overhead(self, bundle: str) -> Measurement:
        """`..._overhead_us`: ours less the library's own call on ready inputs, pair by pair."""
        return summarize(f"{bundle}/{self.label}_overhead_us", "us", self.over_us(self.bare_ms))

    def over_us(self, others_ms: Sequence[float]) -> list[float]:
        """Ours less another call that took turns with it, turn by turn."""
        return [1e3 * (ours - other) for ours, other in zip(self.ours_ms, others_ms, strict=True)]


@dataclass(frozen=True, slots=True)
class EnginesReport:
    """What a bench of engines found. failed: one line each of engines that should have run; skipped: of those that cannot here."""

    bundle: Bundle
    settings: EnginesSettings
    engines: tuple[EngineFigures, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    verdict: Verdict
    peaks: dict[str, Measurement]
    power: PowerSource | None
    idle_w: float | None
    states: tuple[MachineState, MachineState, MachineState]
    warnings: tuple[str, ...]

    @property
    def worst_overhead(self) -> Measurement:
        """The largest of the engines' overheads, by median."""
        overheads = (each.overhead(self.bundle.name) for each in self.engines)
        return max(overheads, key=lambda overhead: overhead.p50)


def measure_engines(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    *,
    host: EngineHost,
    settings: EnginesSettings,
    gpu: bool,
    advance: Advance,
) -> EnginesReport:
    """Measure the candidates of a bundle whose files need not have been verified.

    Each is opened in a process of its own, one after the other; then all take turns in blocks of calls, so that what else the
    machine does weighs on all alike; then each has its throughput measured alone. A file that is changed, a library that
    crashes or hangs fails this one candidate. advance(n, note): told of steps done, of step_count in all.

    Raises EngineUnavailableError where no candidate can run.
    """
    start = read_state(ask_gpu=gpu)
    power = find_power_source(gpu=gpu)
    idle_w = _idle_watts(power)
    bench = _Bench(bundle, host, settings, advance)
    with ExitStack() as stack:
        for candidate in candidates:
            bench.open(candidate, stack)
        if not bench.running:
            tried = (
                " | ".join((*bench.failed, *bench.skipped))
                or "its manifest lists none that this device can run"
            )
            raise EngineUnavailableError(f"bundle {bundle.name}: no engine file can be run here: {tried}")
        warm = read_state(ask_gpu=gpu)
        bench.latencies()
        bench.throughputs(power)
        end = read_state(ask_gpu=gpu)
    peaks = bench.peaks()
    figures = tuple(each for each, _ in bench.running)
    if not figures:
        raise EngineError(f"bundle {bundle.name}: no engine came through: {' | '.join(bench.failed)}")
    told = (
        machine_warnings(start, warm, end)
        + bench.problems
        + [line for each in figures for line in each.warnings]
    )
    return EnginesReport(
        bundle=bundle,
        settings=settings,
        engines=figures,
        failed=tuple(bench.failed),
        skipped=tuple(bench.skipped),
        verdict=decide({each.label: each.block_ms for each in figures}),
        peaks=peaks,
        power=power,
        idle_w=idle_w,
        states=(start, warm, end),
        warnings=tuple(told),
    )


def step_count(candidates: int, settings: EnginesSettings) -> int:
    """How many steps measure_engines tells of at most."""
    return candidates * (1 + min(BLOCKS, settings.runs) + len(settings.windows)) + 1


class _Bench:
    """One bench on its way: what runs, what does not."""

    def __init__(self, bundle: Bundle, host: EngineHost, settings: EnginesSettings, advance: Advance) -> None:
        self.running: list[tuple[EngineFigures, BenchProcess]] = []
        self.failed: list[str] = []
        self.skipped: list[str] = []
        self.problems: list[str] = []
        self._bundle, self._host = bundle, host
        self._settings, self._advance = settings, advance

    def open(self, candidate: Candidate, stack: ExitStack) -> None:
        bundle, host = self._bundle, self._host
        try:
            verify_file(bundle.folder, candidate.entry)
            with ExitStack() as opening:
                process = opening.enter_context(BenchProcess(candidate.label))
                opened = process.ask(
                    "open",
                    timeout_s=OPEN_S,
                    bundle=str(bundle.folder),
                    path=candidate.entry.path,
                    label=candidate.label,
                    threads=self._settings.threads[0],
                    max_batch=max(self._settings.batch),
                    profile=host.profile.name if host.profile else None,
                    cache=str(host.cache) if host.cache else None,
                )
                stack.enter_context(opening.pop_all())  # a process that failed ends here
        except EngineUnavailableError as error:
            self.skipped.append(skipped_line(candidate, error))
        except (EngineError, BundleHashError) as error:
            self.failed.append(_failed_line(candidate, error))
        else:
            figures = EngineFigures(
                candidate,
                **opened,
                accuracy=accuracy_of(bundle, candidate),
                work=None if candidate.kind in GPU_KINDS else work_of(bundle, candidate.entry),
            )
            self.running.append((figures, process))
        self._advance(note=candidate.label)

    def latencies(self) -> None:
        """Blocks of calls by turns; a tool on PATH is run half way."""
        settings = self._settings
        blocks = min(BLOCKS, settings.runs)
        tools: dict[str, tuple[str, float, str]] = {}
        for block in range(blocks):
            # runs need not divide: the first blocks take one call more
            calls = settings.runs // blocks + (block < settings.runs % blocks)
            seconds = None if settings.latency_s is None else settings.latency_s / blocks
            if block == blocks // 2:
                self._run_tools(tools)
            for figures, process in list(self.running):
                self._block(figures, process, calls if seconds is None else _MAX_CALLS, seconds)
        for figures, _ in self.running:
            self._conclude(figures, tools.get(figures.label))

    def throughputs(self, power: PowerSource | None) -> None:
        """Each candidate alone. Its power is that of the first figure: one instance, the threads of latency."""
        for figures, process in list(self.running):
            for setting in self._settings.windows:
                meter = power if not figures.throughput else None
                try:
                    self._window(figures, process, setting, meter)
                except EngineError as error:
                    self._drop(figures, error)
                    break
                self._advance(note=figures.label)

    def peaks(self) -> dict[str, Measurement]:
        """The machine's peaks, and each candidate's limit by them."""
        works = [figures.work for figures, _ in self.running if figures.work is not None]
        found: dict[str, Measurement] = {}
        if works:
            try:
                with BenchProcess("the machine's peaks") as process:
                    told = process.ask(
                        "peaks", threads=self._settings.threads[0], copies_bytes=copies_of(works)
                    )
                found = {each["name"]: Measurement(**each) for each in told}
            except EngineError as error:
                self.problems.append(f"no roofline: {error}")
        for figures, _ in self.running:
            if figures.work is not None:
                figures.limit = limit_of(figures.work, figures.p50_ms, found)
        self._advance(note="peaks")
        return found

    def _block(
        self, figures: EngineFigures, process: BenchProcess, calls: int, seconds: float | None
    ) -> None:
        try:
            told = process.ask("turns", calls=calls, seconds=seconds)
        except EngineError as error:
            self._drop(figures, error)
            return
        ours_ms = [ns / 1e6 for ns in told["ours_ns"]]
        figures.ours_ms += ours_ms
        figures.bare_ms += [ns / 1e6 for ns in told["bare_ns"]]
        figures.loop_ms += [ns / 1e6 for ns in told.get("loop_ns", ())]
        figures.block_ms.append(float(np.median(ours_ms)))
        self._advance(note=figures.label)

    def _window(
        self,
        figures: EngineFigures,
        process: BenchProcess,
        setting: tuple[int, int, int],
        power: PowerSource | None,
    ) -> None:
        threads, instances, batch = setting
        if batch > figures.max_batch:
            figures.throughput.append(Throughput(*setting, None))
            return
        window_s = self._settings.window_s
        if power is not None and power.command:
            window_s = max(window_s, _PROGRAM_S)
        asked = {"threads": threads, "instances": instances, "batch": batch, "seconds": window_s}
        timeout_s = ANSWER_S + window_s
        if power is None:
            told = process.ask("throughput", timeout_s=timeout_s, **asked)
        else:
            with PowerMeter(power) as meter:
                told = process.ask("throughput", timeout_s=timeout_s, **asked)
                figures.power_w = meter.stop()
        figures.throughput.append(Throughput(*setting, told))

    def _run_tools(self, tools: dict[str, tuple[str, float, str]]) -> None:
        settings = self._settings
        for figures, _ in self.running:
            candidate = figures.candidate
            name = find_tool(candidate)
            if name is None:
                continue
            path = self._bundle.path(candidate.entry)
            try:
                ms, statistic = run_tool(candidate, path, threads=settings.threads[0], calls=settings.runs)
            except EngineError as error:
                figures.warnings.append(f"{figures.label}: {error}")
                continue
            tools[figures.label] = (name, ms, statistic)

    def _conclude(self, figures: EngineFigures, tool: tuple[str, float, str] | None) -> None:
        for name, others_ms in ((BARE, figures.bare_ms), (LOOP, figures.loop_ms)):
            if others_ms:
                over_us = float(np.median(figures.over_us(others_ms)))
                figures.raw.append(RawFigure(name, float(np.median(others_ms)), "median", over_us))
        if tool is not None:
            name, ms, statistic = tool
            figures.raw.append(RawFigure(name, ms, statistic, 1e3 * (figures.p50_ms - ms)))
        figures.warnings += sample_warnings(figures.label, figures.ours_ms)

    def _drop(self, figures: EngineFigures, error: EngineError) -> None:
        self.running = [each for each in self.running if each[0] is not figures]
        self.failed.append(_failed_line(figures.candidate, error))


def accuracy_of(bundle: Bundle, candidate: Candidate) -> Measured | None:
    """The manifest's first figure for a candidate's file: of the test split, else of the held-out training data."""
    found = [
        each
        for each in bundle.manifest.measured
        if each.file == candidate.entry.path and each.metric != "ms_p50"
    ]
    return next(
        (each for each in found if not each.metric.startswith("validation")), found[0] if found else None
    )


def _failed_line(candidate: Candidate, error: EngineError | BundleHashError) -> str:
    name = Path(candidate.entry.path).name
    said = str(error).removeprefix(f"{name}: ").removeprefix(f"{candidate.label}: ")
    return f"{name} ({candidate.label}): {said}"


def _idle_watts(power: PowerSource | None) -> float | None:
    if power is None:
        return None
    with PowerMeter(power) as meter:
        time.sleep(_IDLE_S)
        return meter.stop()
