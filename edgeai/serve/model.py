"""One model at work: a bounded queue before its engines, and what became of the requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final

from edgeai.bundle import Bundle
from edgeai.metrics import summarize
from edgeai.serve.bodies import SOUND
from edgeai.serve.crew import Crew, Errand, Ticket
from edgeai.serve.faults import RequestError
from edgeai.serve.settings import ServeSettings
from edgeai.serve.tasks import Answer, input_facts, open_task

CLIENT_GONE: Final = 499
"""The status of a request whose client went away: in the counts only, nobody is there to see it."""
RETRY_AFTER_S: Final = 1
AHEAD: Final = 2
"""Requests an engine that are at work and not waiting: one in it, one that is read meanwhile."""
_LATENCIES: Final = 1000


class ServedModel:
    """A bundle's engines behind a queue. All but the work itself happens on the event loop's thread."""

    def __init__(self, bundle: Bundle, settings: ServeSettings) -> None:
        """Raises BundleError, StageError and EngineError for a bundle that cannot be run."""
        self.bundle = bundle
        self.name = bundle.name
        self._settings = settings
        self._task = open_task(bundle, settings)
        self._head: Answer = {"model": bundle.name, "task": bundle.manifest.task}
        self._crew: Crew[object, bytes] = Crew(
            self._task.engines,
            name=f"serve-{bundle.name}",
            run_batch=self._task.run_batch,
            max_batch=self._task.max_batch,
        )
        self._room = threading.BoundedSemaphore(AHEAD * settings.workers + settings.queue)
        self._counts: Counter[int] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)

    def kind_of(self, content_type: str) -> str:
        """The one of the task's kinds that a Content-Type names. Raises RequestError 415."""
        media = content_type.partition(";")[0].strip().lower()
        kind = SOUND if media.startswith("audio/") else media
        if kind in self._task.kinds:
            return kind
        said = f"the request says {media[:80]!r}" if media else "the request has no Content-Type"
        raise RequestError(
            415,
            f"model {self.name} takes {', '.join(self._task.kinds)}, {said}",
            next_step="send one of these types",
        )

    def check_room(self) -> None:
        """Raises RequestError 429 where a request would be refused now: before its body is read."""
        self._take_room()
        self._room.release()

    async def predict(self, body: bytes, kind: str, gone: Callable[[], Awaitable[None]]) -> bytes:
        """The answer to a body as JSON. kind: of `kind_of`. gone: comes back when the client has gone away.

        Raises RequestError: 429 where the queue is full, 504 after the deadline, CLIENT_GONE; and what Task.read and
        what comes of it do.
        """
        self._take_room()
        began_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        ticket = Ticket()

        def done(given: bytes | None, error: Exception | None) -> None:
            # here, in a thread: a request that was given up holds its place until the threads are free of it
            self._room.release()
            with contextlib.suppress(RuntimeError):  # the loop was closed: a second Ctrl-C
                loop.call_soon_threadsafe(_settle, answer, given, error)

        self._crew.submit(lambda: self._read(body, kind), ticket, done)
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait(
                (answer, left), timeout=self._settings.deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                given = answer.result()
                self._latencies_ms.append(1e3 * (time.perf_counter() - began_s))
                return given
            if left.done():
                raise RequestError(CLIENT_GONE, "the client went away")
            raise RequestError(
                504,
                f"model {self.name} gave no answer within {self._settings.deadline_s:g} s",
                next_step="try again later, or start the server with more --workers",
            )
        finally:
            ticket.drop()
            answer.cancel()
            left.cancel()

    def _read(self, body: bytes, kind: str) -> Errand[object, bytes]:
        errand = self._task.read(body, kind)

        def tell(found: object) -> bytes:
            answer = self._head | errand.tell(found)
            return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

        return Errand(errand.run, tell, errand.picture)

    def _take_room(self) -> None:
        if not self._room.acquire(blocking=False):
            raise RequestError(
                429,
                f"model {self.name} has {self._settings.queue} requests waiting, no more are taken",
                next_step=f"try again in {RETRY_AFTER_S} s",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )

    def count(self, status: int) -> None:
        """Take down how a request ended."""
        self._counts[status] += 1

    def facts(self) -> Answer:
        """What the model is, as GET /v1/models tells it."""
        manifest, file = self.bundle.manifest, self._task.file
        return {
            "name": self.name,
            "version": manifest.version,
            "task": manifest.task,
            "labels": [*manifest.labels],
            "input": input_facts(self.bundle),
            "content_types": [*self._task.kinds],
            "engine": None
            if file is None
            else {"file": file.path, "format": file.format, "precision": file.precision},
            "licence": manifest.licence,
        }

    def stats(self) -> Answer:
        """How many requests ended with which status, and how long the newest answers took from the whole body on."""
        latency: Answer = {}
        if self._latencies_ms:
            measured = summarize("latency_ms", "ms", self._latencies_ms).to_json()
            latency = {key: measured[key] for key in ("p50", "p90", "p99", "n")}
        return {
            "requests": {str(status): count for status, count in sorted(self._counts.items())},
            "latency_ms": latency,
        }

    def close(self) -> None:
        """End the threads after what they are at, and free the engines."""
        if self._crew.close():
            self._task.close()


def _settle(answer: asyncio.Future[bytes], given: bytes | None, error: Exception | None) -> None:
    if answer.done():  # given up meanwhile
        return
    if error is not None:
        answer.set_exception(error)
    elif given is not None:
        answer.set_result(given)
