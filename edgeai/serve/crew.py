"""The threads that work on a model's requests: some read and tell, one for each engine runs it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from edgeai.types import Array

E = TypeVar("E")
T = TypeVar("T")

HANDS: Final = 2
"""Threads that read and tell, for each engine: one is enough for a detector, small models want two."""

HANGS_S: Final = 5.0
"""How long the end waits for a thread."""
# An engine's thread that has handed over a result fills the next input, which gives up the interpreter's lock for a
# moment; whoever was woken by the result would take it and keep it for the whole of its work, and the engine would wait
# (0.5 ms of 4.7 for the person detector). So the woken one goes back to sleep first, until the engine is at work.
_YIELD_S: Final = 0.0003


class DroppedError(Exception):
    """Nobody waits for this answer any more."""


class Ticket:
    """Says to the threads that work on a request whether its answer is still waited for."""

    def __init__(self) -> None:
        self._dropped = threading.Event()

    def drop(self) -> None:
        self._dropped.set()

    @property
    def dropped(self) -> bool:
        return self._dropped.is_set()

    def check(self) -> None:
        """Raises DroppedError where there is no need to go on."""
        if self.dropped:
            raise DroppedError


@dataclass(frozen=True, slots=True)
class Errand(Generic[E, T]):
    """What there is to do for one request once it is read.

    run: with the engine, gives what was found; it may raise DroppedError by the ticket. tell: makes the answer of that.
    picture: where `run` is nothing but the engine's run on this, several may be run at once.
    """

    run: Callable[[E, Ticket], Any]
    tell: Callable[[Any], T]
    picture: Array | None = None


@dataclass(slots=True, eq=False)
class _Job(Generic[E, T]):
    """One request on its way: to be read, then run, then told."""

    ticket: Ticket
    done: Callable[[T | None, Exception | None], None]
    read: Callable[[], Errand[E, T]] | None
    errand: Errand[E, T] | None = None
    found: Any = None


class Crew(Generic[E, T]):
    """Engines at work, each in a thread of its own, and the threads around them.

    An engine's thread does nothing else: what is read and told around it, others do while it is in native code, where
    it does not hold the interpreter's lock.
    """

    def __init__(
        self,
        engines: Sequence[E],
        *,
        name: str,
        run_batch: Callable[[E, Sequence[Array]], Sequence[Any]] | None = None,
        max_batch: int = 1,
    ) -> None:
        """run_batch: what an engine finds on up to max_batch pictures, in their order."""
        self._run_batch = run_batch
        self._max_batch = max_batch
        self._hands: queue.SimpleQueue[_Job[E, T] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[_Job[E, T] | None] = queue.SimpleQueue()
        self._engine_threads = [
            threading.Thread(target=self._run, args=(engine,), name=f"{name}-engine", daemon=True)
            for engine in engines
        ]
        self._hand_threads = [
            threading.Thread(target=self._read_and_tell, name=f"{name}-hand", daemon=True)
            for _ in range(HANDS * len(engines))
        ]
        for thread in (*self._engine_threads, *self._hand_threads):
            thread.start()

    def submit(
        self,
        read: Callable[[], Errand[E, T]],
        ticket: Ticket,
        done: Callable[[T | None, Exception | None], None],
    ) -> None:
        """Do what `read` gives with an engine. done: called once, in one of the threads, with answer or error."""
        self._hands.put(_Job(ticket, done, read))

    def _read_and_tell(self) -> None:
        while (job := self._hands.get()) is not None:
            try:
                job.ticket.check()
                if job.errand is not None:
                    time.sleep(_YIELD_S)
                    job.done(job.errand.tell(job.found), None)
                elif job.read is not None:
                    job.errand, job.read = job.read(), None  # the errand holds all that is needed of the body
                    self._ready.put(job)
            except Exception as error:
                job.done(None, error)

    def _run(self, engine: E) -> None:
        while (job := self._ready.get()) is not None:
            jobs = [job, *self._waiting(self._max_batch - 1)]
            together = [each for each in jobs if each.errand is not None and each.errand.picture is not None]
            if self._run_batch is None or len(together) < 2:
                together = []
            else:
                self._run_together(engine, together, self._run_batch)
            for each in jobs:
                if each not in together:
                    self._run_alone(engine, each)

    def _waiting(self, most: int) -> list[_Job[E, T]]:
        """Up to `most` jobs that are ready already: nobody is kept waiting for more of them."""
        jobs: list[_Job[E, T]] = []
        with contextlib.suppress(queue.Empty):
            while len(jobs) < most:
                job = self._ready.get_nowait()
                if job is None:  # the end, which is told after these
                    self._ready.put(None)
                    break
                jobs.append(job)
        return jobs

    def _run_alone(self, engine: E, job: _Job[E, T]) -> None:
        try:
            job.ticket.check()
            if job.errand is not None:
                job.found = job.errand.run(engine, job.ticket)
                self._hands.put(job)
        except Exception as error:
            job.done(None, error)

    def _run_together(
        self, engine: E, jobs: Sequence[_Job[E, T]], run_batch: Callable[[E, Sequence[Array]], Sequence[Any]]
    ) -> None:
        """A fault is told to each: pictures fit the engine by the time they are here, so it is the engine's."""
        live, pictures = [], []
        for job in jobs:
            if job.ticket.dropped or job.errand is None or job.errand.picture is None:
                job.done(None, DroppedError())
            else:
                live.append(job)
                pictures.append(job.errand.picture)
        if not live:
            return
        try:
            found = run_batch(engine, pictures)
        except Exception as error:
            for job in live:
                job.done(None, error)
            return
        for job, job.found in zip(live, found, strict=True):
            self._hands.put(job)

    def close(self) -> bool:
        """End the threads, each after what it is at; what waits is lost. False where one hangs: it is left alone."""
        for _ in self._hand_threads:
            self._hands.put(None)
        for _ in self._engine_threads:
            self._ready.put(None)
        for thread in (*self._hand_threads, *self._engine_threads):
            thread.join(HANGS_S)
        return not any(thread.is_alive() for thread in (*self._hand_threads, *self._engine_threads))
