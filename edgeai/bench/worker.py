"""The process that holds one engine while it is measured; edgeai.bench.bench_process starts it and asks.

A process for each engine: its memory is its own, loading it is cold, and a native library that crashes ends nothing else.
Requests and answers are lines of JSON. Nothing heavy is imported at the top: numpy's BLAS takes its threads from the
environment when it is imported, and what is imported before the memory is looked at counts for nobody.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai.errors import EdgeError, EngineUnavailableError

if TYPE_CHECKING:
    from edgeai.engines import EdgeEngine
    from edgeai.types import Array

WARM_UP = 10
_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")
_SEED = 0


def main() -> int:
    """Answer requests until standard input ends. Answers: {"ok": ...}, or {"error": one line, "unavailable": bool}."""
    # native libraries may print: what they say goes to standard error, answers to a copy of standard output
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine = _Worker()
    requests: dict[str, Callable[..., Any]] = {
        "open": engine.open,
        "turns": engine.turns,
        "throughput": engine.throughput,
        "peaks": peaks,
    }
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("do")
        try:
            answer: dict[str, Any] = {"ok": requests[name](**asked)}
        except EdgeError as error:
            answer = {"error": str(error), "unavailable": isinstance(error, EngineUnavailableError)}
        except Exception as error:  # it must be told, whatever it is: the other side waits
            answer = {"error": f"{type(error).__name__}: {error}", "unavailable": False}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


class _Worker:
    """What one process does for one candidate."""

    def open(
        self,
        *,
        bundle: str,
        path: str,
        label: str,
        threads: int,
        max_batch: int,
        profile: str | None,
        cache: str | None,
    ) -> dict[str, Any]:
        """Open the candidate, run it once, then warm it up.

        load_ms: until it is open, its library's import included. first_ms: the first call. rss_mib: memory that both added to
        this process, the library's own included. max_batch: inputs that it takes at once, of those wanted.
        """
        import psutil

        from edgeai.bundle import load_bundle
        from edgeai.engines import EngineHost, named
        from edgeai.profile import load_profile

        self._bundle = load_bundle(bundle, verify=False)
        self._host = EngineHost(
            profile=load_profile(profile) if profile else None,
            cache=Path(cache) if cache else None,
            max_batch=max_batch,
        )
        (self._candidate,) = [each for each in named(self._bundle, label) if each.entry.path == path]
        process = psutil.Process()
        before_bytes = process.memory_info().rss
        began_ns = time.perf_counter_ns()
        self._engine = self._new(threads)
        load_ms = (time.perf_counter_ns() - began_ns) / 1e6
        self._given = {self._engine.inputs[0].name: bench_input(self._bundle, self._engine)}
        began_ns = time.perf_counter_ns()
        self._engine.run(self._given)
        first_ms = (time.perf_counter_ns() - began_ns) / 1e6
        rss_bytes = process.memory_info().rss - before_bytes
        engine, given = self._engine, self._given
        self._calls = {"ours_ns": lambda: engine.run(given), "bare_ns": engine.engine.bare_call()}
        loop = engine.engine.bare_loop()
        if loop is not None:
            self._calls["loop_ns"] = loop
        for _ in range(WARM_UP):
            for call in self._calls.values():
                call()
        return {
            "load_ms": load_ms,
            "first_ms": first_ms,
            "rss_mib": rss_bytes / 2**20,
            "max_batch": engine.max_batch,
        }

    def turns(self, *, calls: int, seconds: float | None = None) -> dict[str, list[int]]:
        """Nanoseconds of our call (ours_ns), of the library's own on ready inputs (bare_ns), and of the loop that anyone writes
        around that (loop_ns, where there is one), call by call by turns.

        Each is first, second and last equally often, so that clocks, caches and neighbours weigh on all. seconds: begin no
        turn after so long.
        """
        order = list(self._calls.items())
        took: dict[str, list[int]] = {name: [] for name in self._calls}
        until_ns = None if seconds is None else time.perf_counter_ns() + int(1e9 * seconds)
        for _ in range(calls):
            for name, call in order:
                took[name].append(_time_ns(call))
            order.append(order.pop(0))
            if until_ns is not None and time.perf_counter_ns() > until_ns:
                break
        return took

    def throughput(self, *, threads: int, instances: int, batch: int, seconds: float) -> float:
        """Inputs in a second of `instances` engines, each in a thread of this process and with `threads` of its own, called
        with `batch` inputs at once.
        """
        engines = [self._new(threads) for _ in range(instances)]
        (array,) = self._given.values()

        def call_of(engine: EdgeEngine) -> Callable[[], object]:
            if batch == 1:
                return lambda: engine.run(self._given)
            return lambda: engine.run_batch([array] * batch)

        try:
            calls = [call_of(engine) for engine in engines]
            for call in calls:
                for _ in range(WARM_UP // 2):
                    call()
            return batch * _calls_per_s(calls, seconds)
        finally:
            for engine in engines:
                engine.close()

    def _new(self, threads: int) -> EdgeEngine:
        from edgeai.engines import open_candidate

        return open_candidate(self._bundle, self._candidate, host=self._host, threads=threads)


def peaks(*, threads: int, copies_bytes: list[int]) -> list[dict[str, Any]]:
    """What edgeai.bench.peaks measures, with as many threads of numpy's BLAS."""
    os.environ.update({name: str(threads) for name in _BLAS})
    from dataclasses import asdict

    from edgeai.bench.peaks import measure_peaks

    return [asdict(each) for each in measure_peaks(threads=threads, copies_bytes=copies_bytes)]


def bench_input(bundle: Any, engine: EdgeEngine) -> Array:
    """The bundle's golden input, else random numbers of a fixed seed."""
    import numpy as np

    from edgeai.bundle.golden import read_golden

    if bundle.manifest.golden is not None:
        return read_golden(bundle.path(bundle.manifest.golden)).input
    spec = engine.inputs[0]
    random = np.random.default_rng(_SEED)
    if spec.dtype == "uint8":
        return random.integers(0, 256, spec.shape, dtype=np.uint8)
    return random.uniform(-1, 1, spec.shape).astype(np.float32)


def _calls_per_s(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    """Of all together, each in a thread of its own."""
    done = [0] * len(calls)
    failed: list[BaseException] = []
    ready = threading.Barrier(len(calls) + 1)
    stop = threading.Event()

    def work(number: int) -> None:
        ready.wait()
        try:
            while not stop.is_set():
                calls[number]()
                done[number] += 1
        except Exception as error:  # told by the thread that waits
            failed.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for worker in workers:
        worker.start()
    ready.wait()
    began_s = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    # whole calls until the last has ended
    return sum(done) / (time.perf_counter() - began_s)


def _time_ns(call: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - began
