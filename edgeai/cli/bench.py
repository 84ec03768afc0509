"""`edgeai bench engines`: every engine file of a bundle on this machine, and what our wrapper costs beside it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.golden import read_golden
from edgeai.cli.figures import print_figures
from edgeai.console import print_note
from edgeai.engines import EdgeEngine, open_candidate, order_candidates, skipped_line
from edgeai.errors import EngineUnavailableError, UsageError
from edgeai.metrics import Measurement, summarize
from edgeai.types import Array

_WARM_UP = 10


def bench_engines(
    where: str, *, threads: int = 1, runs: int = 200, file: str | None = None, json_output: bool = False
) -> int:
    """Time every engine file that can run here and print percentiles, or with `json_output` the bench object.

    `<bundle>/<format>/<precision>_ms`: our call, picture or features in, float32 out. `..._overhead_us`: ours less
    the library's own invoke on ready inputs, call by call in the same loop. `overhead_us`: the largest of them by
    median. Raises UsageError for impossible counts, EngineUnavailableError where no file can run.
    """
    if runs < 1 or threads < 1:
        raise UsageError(f"runs and threads must be at least 1, are {runs} and {threads}")
    bundle = load_bundle(where)
    results, overheads, skipped = [], [], []
    for candidate in order_candidates(bundle, file=file).candidates:
        try:
            engine = open_candidate(bundle, candidate, threads=threads)
        except EngineUnavailableError as error:
            skipped.append(skipped_line(candidate, error))
            continue
        with engine:
            total, overhead = measure_overhead(
                engine, _input(bundle, engine), runs=runs, name=f"{bundle.name}/{candidate.label}"
            )
        results += [total, overhead]
        overheads.append(overhead)
    if not overheads:
        raise EngineUnavailableError(
            f"bundle {bundle.name}: no engine file can be run here: {' | '.join(skipped)}"
        )
    worst = max(overheads, key=lambda overhead: overhead.p50)
    results.append(Measurement("overhead_us", "us", worst.n, worst.p50, worst.p90, worst.p99))
    for line in skipped:
        print_note(f"left out: {line}")
    print_figures("engines", results, title=f"{threads} thread(s)", json_output=json_output)
    return 0


def measure_overhead(
    engine: EdgeEngine, array: Array, *, runs: int, name: str
) -> tuple[Measurement, Measurement]:
    """(`<name>_ms` of our call, `<name>_overhead_us` over the bare one), `runs` pairs after a warm-up.

    The two are called by turns, each first in every other pair, so that clocks, caches and neighbours weigh on both;
    the overhead is the pairwise difference, whose percentiles are its own (a p99 holds both calls' noise).
    """
    bare = engine.engine.bare_call()
    given = {engine.inputs[0].name: array}
    ours_ms, overhead_us = [], []
    for index in range(_WARM_UP + runs):
        if index % 2:
            bare_ns = _time_ns(bare)
            ours_ns = _time_ns(lambda: engine.run(given))
        else:
            ours_ns = _time_ns(lambda: engine.run(given))
            bare_ns = _time_ns(bare)
        if index >= _WARM_UP:
            ours_ms.append(ours_ns / 1e6)
            overhead_us.append((ours_ns - bare_ns) / 1e3)
    return summarize(f"{name}_ms", "ms", ours_ms), summarize(f"{name}_overhead_us", "us", overhead_us)


def _time_ns(call: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - began


def _input(bundle: Bundle, engine: EdgeEngine) -> Array:
    if bundle.manifest.golden is not None:
        return read_golden(bundle.path(bundle.manifest.golden)).input
    spec = engine.inputs[0]
    random = np.random.default_rng(0)
    if spec.dtype == "uint8":
        return random.integers(0, 256, spec.shape, dtype=np.uint8)
    return random.uniform(-1, 1, spec.shape).astype(np.float32)
