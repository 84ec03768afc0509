"""A sink that never loses and never waits for the network: into the outbox, and from there over any transport."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from edgeai.clock import Clock, SystemClock
from edgeai.errors import SinkError
from edgeai.metrics import HistogramCounts
from edgeai.sinks.delivery.drain import Backoff, Drain, DrainSettings
from edgeai.sinks.delivery.lanes import Gate
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.carry import take_acknowledgements
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.sink import Sink
from edgeai.sinks.transport import Transport
from edgeai.types import DEVICE_STREAM, Event, JsonValue, Priority

_log = logging.getLogger(__name__)

Compose: TypeAlias = Callable[[Event], Sequence[Draft]]
"""Turns an event into its messages; raises SinkError for one that cannot travel."""

_JOIN_S = 10.0  # longer than the slowest step of a drain: one attempt to connect
DROPS_EVERY_S: Final = 60.0
CARRIED_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go, and as what. name: of its messages in the outbox, for good: those of a name that is gone are
    dropped. gate: when they may go.
    """

    transport: Transport
    compose: Compose
    name: str = ""
    gate: Gate | None = None
    settings: DrainSettings = field(default_factory=DrainSettings)


@dataclass(frozen=True, slots=True)
class DestinationCounters:
    """Since opening, but for `pending`: what waits for it now. sent counts repetitions, acked counts messages once.
    refused: answers that it will not take a message. problem: why there is no connection, "" while there is one.
    latency: as Drain.latencies, of the classes of which there were messages.
    """

    sent: int
    acked: int
    refused: int
    connections: int
    connected: bool
    problem: str
    pending: int
    latency: Mapping[Priority, HistogramCounts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counters:
    """Since opening, but for `pending`: what waits now (0 in a closed sink: its file is not looked into). sent counts repetitions, acked counts messages once.

    refused: answers of the destination that it will not take a message. problem: why there is no connection, "" while
    there is one; like sent to connected of the first destination, `destinations` has all by name. on_disk False: the
    disk fails and messages wait in memory. oldest_s: how long the oldest message has waited.
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
    pending_bytes: int = 0
    oldest_s: float = 0.0
    destinations: dict[str, DestinationCounters] = field(default_factory=dict)


class StoreAndForward(Sink):
    """Wraps transports. `send` returns when the event is in the outbox; a thread for each destination takes it from there.

    `open` opens the outbox and starts the threads; a destination that is down is a warning in the log. `close` stops
    them and leaves what waits in the outbox; `flush` before it waits for delivery.

    What is dropped, and what happens to the outbox's file, becomes events itself: messages_dropped, outbox_degraded,
    outbox_recovered, outbox_set_aside, outbox_log_damaged, of the stream DEVICE_STREAM, as alarms.
    """

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        *,
        compose: Compose,
        name: str = "",
        gate: Gate | None = None,
        settings: DrainSettings | None = None,
        also: Sequence[Destination] = (),
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """also: further destinations of the same events; what cannot be composed for one of them is told and left out."""
        first = Destination(transport, compose, name, gate, settings or DrainSettings())
        self._destinations = (first, *also)
        self._outbox = outbox
        self._clock = clock or SystemClock()
        self._backoff = backoff
        self._stop = threading.Event()
        self._drained = threading.Condition()
        self._drains: list[Drain] = []
        self._threads: list[threading.Thread] = []
        self._faulty: set[str] = set()
        self._drops_seen = -1
        self._drops_due_s = self._carried_due_s = 0.0

    @classmethod
    def to(cls, first: Destination, *also: Destination, outbox: Outbox) -> StoreAndForward:
        """For destinations that are made already; what the first cannot carry, `send` raises."""
        return cls(
            first.transport,
            outbox,
            compose=first.compose,
            name=first.name,
            gate=first.gate,
            settings=first.settings,
            also=also,
        )

    def open(self) -> None:
        """Raises OutboxError where the outbox cannot be used at all."""
        if self._threads:
            return
        self._outbox.open()
        self._stop.clear()
        self._drops_seen, self._drops_due_s = -1, self._clock.monotonic_s()
        known = {one.name for one in self._destinations}
        for name in sorted({lane.destination for lane in self._outbox.lanes} - known):
            count = self._outbox.discard(name)
            if count:
                _log.warning(
                    "outbox %s: %d messages for %r are dropped: nothing goes there any more",
                    self._outbox.path,
                    count,
                    name,
                )
        self._drains = [
            Drain(
                one.transport,
                self._outbox,
                clock=self._clock,
                stop=self._stop,
                destination=one.name,
                settings=one.settings,
                gate=one.gate,
                backoff=self._backoff,
            )
            for one in self._destinations
        ]
        for one, drain in zip(self._destinations, self._drains, strict=True):
            name = f"drain {one.name}".strip()
            self._threads.append(threading.Thread(target=self._run, args=(drain,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def send(self, event: Event) -> None:
        """Durable when it returns. Raises PayloadError, TopicError or OutboxError for what cannot be stored."""
        self.send_many((event,))

    def send_many(self, events: Sequence[Event]) -> None:
        """Store events, all or none, with one commit. Raises as `send` does."""
        drains = self._drains
        if not drains:
            name = self._destinations[0].transport.name
            raise SinkError(f"{name} is not open", next_step="use the sink inside `with`")
        first = self._destinations[0]
        drafts = [
            replace(draft, destination=first.name) if first.name else draft
            for event in events
            for draft in first.compose(event)
        ]
        for one in self._destinations[1:]:
            for event in events:
                drafts += self._composed(one, event)
        self._put(drafts)

    def put(self, drafts: Sequence[Draft]) -> None:
        """Store messages that are no events, such as answers to commands. Raises OutboxError."""
        if not self._drains:
            raise SinkError("the sink is not open", next_step="use it inside `with`")
        self._put(drafts)

    def _put(self, drafts: Sequence[Draft]) -> None:
        self._outbox.put_many(drafts)
        for drain in self._drains:
            if drain.idle:
                drain.wake()

    def _composed(self, one: Destination, event: Event) -> list[Draft]:
        """A further destination's messages; a fault of its own costs the event no other."""
        try:
            return [
                replace(draft, destination=one.name, happened_s=event.monotonic_s)
                for draft in one.compose(event)
            ]
        except Exception as error:
            if one.name not in self._faulty:
                self._faulty.add(one.name)
                level = logging.ERROR if isinstance(error, SinkError) else logging.CRITICAL
                _log.log(
                    level,
                    "%s: an event %r cannot be sent there: %s",
                    one.name,
                    event.type,
                    error,
                    exc_info=not isinstance(error, SinkError),
                )
            return []

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is delivered, `timeout_s` at most; True where nothing waits any more, False where
        something does or the sink is not open.
        """
        if not self._drains:
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
        drains = dict(zip((one.name for one in self._destinations), self._drains, strict=False))
        waiting = self._outbox.pending_by_destination
        each = {
            one.name: _counters_of(drains.get(one.name), waiting.get(one.name, 0))
            for one in self._destinations
        }
        first = each[self._destinations[0].name]
        outbox = self._outbox
        return Counters(
            sent=first.sent,
            acked=first.acked,
            pending=outbox.pending,
            refused=first.refused,
            dropped=outbox.dropped,
            connections=first.connections,
            connected=first.connected,
            problem=first.problem,
            on_disk=outbox.on_disk,
            pending_bytes=outbox.pending_bytes,
            oldest_s=outbox.oldest_s,
            destinations=each,
        )

    def close(self) -> None:
        threads, self._threads = self._threads, []
        if not threads:
            return
        self._stop.set()
        for drain in self._drains:
            drain.wake()
        deadline_s = time.monotonic() + _JOIN_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._report()
        self._drains = []
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
            if drain is self._drains[0]:
                self._outbox.retry_disk()
                self._report()
        drain.close()

    def _report(self) -> None:
        """What was dropped, and what happened to the outbox, as events of the device's own."""
        if self._clock.monotonic_s() >= self._carried_due_s:
            self._carried_due_s = self._clock.monotonic_s() + CARRIED_EVERY_S
            carried = take_acknowledgements(self._outbox.path)
            if carried and (count := self._outbox.ack(carried)):
                _log.info("outbox %s: %d messages were carried and have arrived", self._outbox.path, count)
        try:
            reports = [_of_device(type_, facts) for type_, facts in self._outbox.take_incidents()]
            for one in self._destinations:
                if one.gate is not None:
                    reports += [
                        Event(type_, DEVICE_STREAM, round(time.monotonic(), 3), facts)
                        for type_, facts in one.gate.take_reports()
                    ]
            drops = sum(self._outbox.dropped.values())
            now_s = self._clock.monotonic_s()
            counts: dict[Priority, int] = {}
            if drops != self._drops_seen and now_s >= self._drops_due_s:
                counts = self._outbox.untold
                if counts:
                    self._drops_due_s = now_s + DROPS_EVERY_S
                    told: dict[str, JsonValue] = {priority: count for priority, count in counts.items()}  # noqa: C416
                    reports.append(_of_device("messages_dropped", {"dropped": told}))
                self._drops_seen = drops
            if reports:
                self.send_many(reports)
                self._outbox.set_told(counts)
        except SinkError as error:
            _log.error("outbox %s: a report of it cannot be stored: %s", self._outbox.path, error)


def _of_device(type_: str, facts: dict[str, JsonValue]) -> Event:
    return Event(type_, DEVICE_STREAM, round(time.monotonic(), 3), facts, "alarm")


def _counters_of(drain: Drain | None, pending: int) -> DestinationCounters:
    if drain is None:
        return DestinationCounters(0, 0, 0, 0, connected=False, problem="not open", pending=pending)
    return DestinationCounters(
        drain.published,
        drain.delivered,
        drain.refusals,
        drain.connections,
        drain.connected,
        drain.problem,
        pending,
        {priority: counts for priority, each in drain.latencies.items() if (counts := each.read()).count},
    )
