"""The engines of one model, a thread each, and the cameras that share them."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeai.engines import EdgeEngine
from edgeai.errors import EdgeError
from edgeai.metrics import Histogram
from edgeai.pulse import Doing, Pulse
from edgeai.types import Array

log = logging.getLogger("edgeai")

Outputs: TypeAlias = Mapping[str, NDArray[np.float32]]

OPEN_S: Final = 120.0
"""How long a model may take to be opened again: a plan is read, never built, as it was opened before."""
FAILURES: Final = 3
"""A camera ends whose frames fail so often one after the other, on an engine that was opened anew each time."""


class Job(Protocol):
    """One camera's work. All but `ready` is called by one thread at a time."""

    def ready(self) -> bool:
        """Whether there is something to do; asked often, by any thread, and answered at once."""

    def begin(self) -> Array | None:
        """Do what needs no engine; the picture of the newest frame, or None where there is nothing to run."""

    def finish(self, outputs: Outputs, engine_s: float) -> None:
        """What the engine says to that picture, after engine_s."""

    def lose(self, reason: str) -> None:
        """The frame that was begun came to nothing: "hung" or "engine_failed"."""

    def fail(self, error: Exception) -> None:
        """End for this reason."""


@dataclass(slots=True, eq=False)
class _Place:
    """A camera's place in the queue. served: the number of the turn in which it was served last. failures: of the engine with
    its frames, one after the other.
    """

    job: Job
    served: int = 0
    busy: bool = False
    failures: int = 0


@dataclass(eq=False)
class EngineWorker:
    """An engine and the thread that runs it; a watchdog looks at its pulse.

    label: the model, and which of its workers. engine: None until it was opened.
    """

    group: EngineGroup
    label: str
    engine: EdgeEngine | None
    pulse: Pulse = field(default_factory=Pulse)
    turn: Sequence[_Place] = ()
    stopped: bool = False
    abandoned: bool = False
    thread: threading.Thread | None = None

    def replace(self, doing: Doing) -> None:
        """Abandon this one, which hangs in `doing`, and start another in its place."""
        self.group.replace(self, doing)


class EngineGroup:
    """Runs jobs on engines of one model: whoever has waited longest since he was last served is next, so that all have
    the same share, and a slow camera is served at once. Several that are ready are run at once where the engine can.

    open_engine: called for each worker, the first by the constructor, and again for one that is replaced. Jobs are added
    and removed by any thread. engine_times: of every run. replaced: workers that were abandoned. engine_s: when a run hangs.
    """

    def __init__(self, open_engine: Callable[[], EdgeEngine], *, label: str, engine_s: float) -> None:
        self.label = label
        self.engine_times = Histogram()
        self.replaced = 0
        self._open_engine = open_engine
        self._engine_s = engine_s
        self._changed = threading.Condition()
        self._places: dict[Job, _Place] = {}
        self._turns = itertools.count(1)
        self._numbers = itertools.count()
        self._workers: list[EngineWorker] = []
        self._closed = False
        engine = open_engine()
        self.engine_label, self.engine_reason = engine.label, engine.reason
        self.input_name = engine.inputs[0].name
        self._add_worker(engine)

    @property
    def workers(self) -> tuple[EngineWorker, ...]:
        """Those at work; not the abandoned."""
        return tuple(self._workers)

    def grow(self, workers: int) -> None:
        """Open engines until there are so many. Raises what opening raises."""
        while len(self._workers) < workers:
            self._add_worker(self._open_engine())

    def add(self, job: Job) -> None:
        with self._changed:
            self._places[job] = _Place(job)
            self._changed.notify_all()

    def remove(self, job: Job) -> None:
        """No turn of it begins after this; one that is under way goes on."""
        with self._changed:
            self._places.pop(job, None)

    def wake(self) -> None:
        """Some job has become ready."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Let the workers end after what they are doing; each closes its engine. Does not wait. Safe to call twice."""
        with self._changed:
            self._closed = True
            for worker in self._workers:
                worker.stopped = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait for the workers to end after `close`; False where one did not."""
        deadline_s = time.monotonic() + timeout_s
        threads = [worker.thread for worker in self._workers if worker.thread is not None]
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def replace(self, worker: EngineWorker, doing: Doing) -> None:
        """As EngineWorker.replace. The frames it had begun are lost, its cameras' next ones are not."""
        with self._changed:
            if worker.abandoned or worker.pulse.hung(doing.due_s) is not doing:
                return  # it came back meanwhile
            worker.abandoned = True
            self.replaced += 1
            self._workers.remove(worker)
            for place in worker.turn:
                place.job.lose("hung")
                place.busy = False
            self._changed.notify_all()
            if self._closed:
                return
        self._add_worker(None)

    def _add_worker(self, engine: EdgeEngine | None) -> None:
        worker = EngineWorker(self, f"engine {self.label}#{next(self._numbers)}", engine)
        worker.thread = threading.Thread(target=self._work, args=(worker,), name=worker.label, daemon=True)
        with self._changed:
            worker.stopped = self._closed
            self._workers.append(worker)
        worker.thread.start()

    def _work(self, worker: EngineWorker) -> None:
        try:
            while (turn := self._next(worker)) is not None:
                error: Exception | None = None
                try:
                    self._run(worker, turn)
                except Exception as raised:
                    # whatever it is, the cameras must not wait for ever for the end of this turn
                    if not isinstance(raised, EdgeError):
                        log.exception("%s met a fault of the program", worker.label)
                    error = raised
                if worker.abandoned:
                    return
                if error is not None:
                    self._recover(worker, turn, error)
                self._release(turn, failed=error is not None)
        finally:
            # the last call into it has returned, in this thread: now it may go
            if worker.engine is not None:
                worker.engine.close()

    def _next(self, worker: EngineWorker) -> list[_Place] | None:
        """Those whose turn it is, longest unserved first, marked as busy; None at the end."""
        with self._changed:
            while not worker.stopped:
                ready = [place for place in self._places.values() if not place.busy and place.job.ready()]
                if ready:
                    ready.sort(key=lambda place: place.served)
                    most = worker.engine.max_batch if worker.engine is not None else 1
                    # what failed is run alone: it shall not take others with it
                    sound = [place for place in ready if not place.failures]
                    turn = ready[:1] if ready[0].failures else sound[:most]
                    for place in turn:
                        place.busy, place.served = True, next(self._turns)
                    worker.turn = turn
                    if len(ready) > len(turn):
                        self._changed.notify()  # there is work for another one
                    return turn
                self._changed.wait()
        return None

    def _run(self, worker: EngineWorker, turn: Sequence[_Place]) -> None:
        """Raises what the engine raises; nothing of a worker that was abandoned meanwhile reaches a job."""
        jobs: list[Job] = []
        pictures: list[Array] = []
        for place in turn:
            try:
                picture = place.job.begin()
            except Exception as error:
                place.job.fail(error)
                continue
            if picture is not None:
                jobs.append(place.job)
                pictures.append(picture)
        if not jobs:
            return
        engine = self._engine_of(worker)
        began_s = time.perf_counter()
        worker.pulse.begin("the model's run", self._engine_s)
        try:
            results = (
                [engine.run({self.input_name: pictures[0]})]
                if len(pictures) == 1
                else engine.run_batch(pictures)
            )
        finally:
            worker.pulse.end()
        engine_s = time.perf_counter() - began_s
        with self._changed:
            if worker.abandoned:
                return
            self.engine_times.add(engine_s)
        for job, outputs in zip(jobs, results, strict=True):
            try:
                job.finish(outputs, engine_s)
            except Exception as error:
                job.fail(error)

    def _engine_of(self, worker: EngineWorker) -> EdgeEngine:
        if worker.engine is None:
            with worker.pulse.during("opening the model", OPEN_S):
                worker.engine = self._open_engine()
        return worker.engine

    def _recover(self, worker: EngineWorker, turn: Sequence[_Place], error: Exception) -> None:
        """The engine failed: it is opened anew for the next turn, and cameras that this does not help are given up."""
        engine, worker.engine = worker.engine, None
        if engine is not None:
            engine.close()
        for place in turn:
            if place.failures + 1 >= FAILURES:
                place.job.fail(error)
            else:
                place.job.lose("engine_failed")
                log.error("%s failed and is opened again: %s", worker.label, error)

    def _release(self, turn: Sequence[_Place], *, failed: bool) -> None:
        with self._changed:
            for place in turn:
                place.busy = False
                place.failures = place.failures + 1 if failed else 0
            self._changed.notify()
