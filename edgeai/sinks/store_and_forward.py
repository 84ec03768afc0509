"""A sink that never loses and never waits for the network: into the outbox, and from there over any transport."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from edgeai.clock import Clock, SystemClock
from edgeai.errors import SinkError
from edgeai.sinks.drain import Backoff, Drain
from edgeai.sinks.message import Draft
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.sink import Sink
from edgeai.sinks.transport import Transport
from edgeai.types import Event, Priority

Compose: TypeAlias = Callable[[Event], Sequence[Draft]]
"""Turns an event into its messages; raises SinkError for one that cannot travel."""

_JOIN_S = 10.0  # longer than the slowest step of a drain: one attempt to connect


@dataclass(frozen=True, slots=True)
class Counters:
    """Since opening, but for `pending`: what waits now (0 in a closed sink: its file is not looked into). sent counts repetitions, acked counts messages once.

    refused: answers of the destination that it will not take a message. problem: why there is no connection, "" while
    there is one. on_disk False: the disk fails and messages wait in memory.
    """

    sent: int
    acked: int
    pending: int
    refused: int
    dropped: dict[Priority, int]
    connections: int
    connected: bool
    problem: str
    on_disk: bool


class StoreAndForward(Sink):
    """Wraps a transport. `send` returns when the event is in the outbox; one thread takes it from there.

    `open` opens the outbox and starts the thread; a destination that is down is a warning in the log. `close` stops
    both and leaves what waits in the outbox; `flush` before it waits for delivery.
    """

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        *,
        compose: Compose,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._transport = transport
        self._outbox = outbox
        self._compose = compose
        self._clock = clock or SystemClock()
        self._backoff = backoff
        self._stop = threading.Event()
        self._drained = threading.Condition()
        self._drain: Drain | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Raises OutboxError where the outbox cannot be used at all."""
        if self._thread is not None:
            return
        self._outbox.open()
        self._stop.clear()
        drain = Drain(
            self._transport, self._outbox, clock=self._clock, stop=self._stop, backoff=self._backoff
        )
        self._drain = drain
        self._thread = threading.Thread(target=self._run, args=(drain,), name="drain", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Durable when it returns. Raises PayloadError, TopicError or OutboxError for what cannot be stored."""
        self.send_many((event,))

    def send_many(self, events: Sequence[Event]) -> None:
        """Store events, all or none, with one commit. Raises as `send` does."""
        drain = self._drain
        if drain is None:
            raise SinkError(f"{self._transport.name} is not open", next_step="use the sink inside `with`")
        self._outbox.put_many([draft for event in events for draft in self._compose(event)])
        if drain.idle:
            self._transport.wake()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is delivered, `timeout_s` at most; True where nothing waits any more, False where
        something does or the sink is not open.
        """
        if self._drain is None:
            return False
        deadline_s = time.monotonic() + timeout_s
        with self._drained:
            while self._outbox.pending:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._drained.wait(min(left_s, 1.0))
        return True

    @property
    def counters(self) -> Counters:
        drain = self._drain
        return Counters(
            sent=drain.published if drain else 0,
            acked=drain.delivered if drain else 0,
            pending=self._outbox.pending,
            refused=drain.refusals if drain else 0,
            dropped=self._outbox.dropped,
            connections=drain.connections if drain else 0,
            connected=drain.connected if drain else False,
            problem=drain.problem if drain else "not open",
            on_disk=self._outbox.on_disk,
        )

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        self._transport.wake()
        thread.join(_JOIN_S)
        self._drain = None
        self._outbox.close()

    def __enter__(self) -> StoreAndForward:
        self.open()
        return self

    def _run(self, drain: Drain) -> None:
        delivered = 0
        while not self._stop.is_set():
            drain.step()
            if drain.delivered != delivered:
                delivered = drain.delivered
                with self._drained:
                    self._drained.notify_all()
        drain.close()
