"""The threads that work on a model's requests: some read and tell, one for each engine runs it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

E = TypeVar("E")
T = TypeVar("T")

Tell: TypeAlias = Callable[[], T]
"""Makes the answer of what the engine gave."""
Run: TypeAlias = Callable[[E, "Ticket"], Tell[T]]
"""Runs the engine on what was read."""

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

    def check(self) -> None:
        """Raises DroppedError where there is no need to go on."""
        if self._dropped.is_set():
            raise DroppedError


@dataclass(slots=True)
class _Job(Generic[E, T]):
    """One request on its way: what is to be done next with it is what is not None."""

    ticket: Ticket
    done: Callable[[T | None, Exception | None], None]
    read: Callable[[], Run[E, T]] | None = None
    run: Run[E, T] | None = None
    tell: Tell[T] | None = None


class Crew(Generic[E, T]):
    """Engines at work, each in a thread of its own, and the threads around them.

    An engine's thread does nothing else: what is read and told around it, others do while it is in native code, where
    it does not hold the interpreter's lock.
    """

    def __init__(self, engines: Sequence[E], *, name: str) -> None:
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
        read: Callable[[], Run[E, T]],
        ticket: Ticket,
        done: Callable[[T | None, Exception | None], None],
    ) -> None:
        """Do what `read` gives with an engine. done: called once, in one of the threads, with answer or error."""
        self._hands.put(_Job(ticket, done, read=read))

    def _read_and_tell(self) -> None:
        while (job := self._hands.get()) is not None:
            try:
                job.ticket.check()
                if job.tell is not None:
                    time.sleep(_YIELD_S)
                    job.done(job.tell(), None)
                elif job.read is not None:
                    job.run, job.read = job.read(), None  # what was read holds all that is needed of the body
                    self._ready.put(job)
            except Exception as error:
                job.done(None, error)

    def _run(self, engine: E) -> None:
        while (job := self._ready.get()) is not None:
            try:
                job.ticket.check()
                if job.run is not None:
                    job.tell, job.run = job.run(engine, job.ticket), None
                    self._hands.put(job)
            except Exception as error:
                job.done(None, error)

    def close(self) -> bool:
        """End the threads, each after what it is at; what waits is lost. False where one hangs: it is left alone."""
        for _ in self._hand_threads:
            self._hands.put(None)
        for _ in self._engine_threads:
            self._ready.put(None)
        for thread in (*self._hand_threads, *self._engine_threads):
            thread.join(HANGS_S)
        return not any(thread.is_alive() for thread in (*self._hand_threads, *self._engine_threads))
