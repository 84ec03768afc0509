"""From the outbox over a transport: lane by lane, a window at a time, deleted on acknowledgement, for as long as it takes."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgeai.clock import Clock
from edgeai.metrics import Histogram
from edgeai.sinks.delivery.flight import FlightWindow
from edgeai.sinks.delivery.lanes import Gate, Lanes
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import DROP_ORDER, Message
from edgeai.sinks.outbox.table import size_of
from edgeai.sinks.pace import Pace
from edgeai.sinks.transport import Transport, TransportError, TransportRefusedError
from edgeai.types import DEVICE_STREAM, JsonValue, Priority

_log = logging.getLogger(__name__)

IDLE_POLL_S: Final = 1.0
LATENCY_BOUNDS_S: Final = (
    *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0),  # what waited out an outage
)
ACK_TIMEOUT_S: Final = 15.0  # a black hole keeps the connection and answers nothing
ACK_EVERY_S: Final = 0.02  # acknowledgements are deleted together: one commit for many
RETRY_REFUSED_S: Final = 60.0
_NO_STREAM: Final = ("", DEVICE_STREAM)
STEADY_S: Final = 5.0  # a connection that has carried nothing yet counts as back when it has lasted so long
SUSPECT_LOSSES: Final = (
    3  # connections lost in a row at the same message: then one at a time; twice that: set aside
)


class Backoff:
    """Waiting times that double from `base_s` to `cap_s`, each drawn from its upper half, so that a hundred devices
    do not come back in step. Source: "Exponential Backoff And Jitter", AWS Architecture Blog 2015, equal jitter.
    """

    def __init__(self, *, base_s: float = 0.1, cap_s: float = 2.0, rng: random.Random | None = None) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)
        self._attempt = 0

    def next_s(self) -> float:
        """Seconds to wait before the next attempt, in (0, cap_s]."""
        top_s = min(self._cap_s, self._base_s * 2.0 ** min(self._attempt, 30))
        self._attempt += 1
        return top_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._attempt = 0


@dataclass(frozen=True, slots=True)
class DrainSettings:
    """backlog_per_s: messages that were there before the connection, so many a second at most; None for no limit.
    is_stale: asked with the Unix time and the monotonic one, whether a message must no longer be sent, as doing harm late.
    """

    backlog_per_s: float | None = None
    is_stale: Callable[[Message, float, float], bool] | None = None


class _OpenGate:
    """No budget, no hours: everything may go at any time."""

    def wait_s(self, message: Message, *, now_s: float) -> float:
        return 0.0

    def passed(self, message: Message) -> None:
        pass

    def take_reports(self) -> list[tuple[str, dict[str, JsonValue]]]:
        return []


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message on its way. measured: its acknowledgement tells of the link; at QoS 0 there is none. priority: of one that
    tells of a camera or microphone what happened at happened_s, on this process's clock; None of all others.
    """

    bytes: int
    at_s: float
    measured: bool
    priority: Priority | None
    happened_s: float


class Drain:
    """The loop's body, without the thread: `step` again and again, from one thread.

    Order is kept within a lane: one class of one stream. Alarms go before all else and may exceed the flight window,
    which keeps a thin link free of queues; the others share it fairly (edgeai.sinks.delivery.lanes, edgeai.sinks.delivery.flight).

    A message that the destination refuses (no permission, too large), or loses the connection over again and again,
    stays in the outbox, is told, and is offered again a minute later: so it neither blocks the others for ever nor is
    lost while somebody mends the cause.
    """

    def __init__(
        self,
        transport: Transport,
        outbox: Outbox,
        *,
        clock: Clock,
        stop: threading.Event,
        destination: str = "",
        settings: DrainSettings | None = None,
        gate: Gate | None = None,
        backoff: Backoff | None = None,
        refused_backoff: Backoff | None = None,
    ) -> None:
        self._transport = transport
        self._outbox = outbox
        self._clock = clock
        self._stop = stop
        self._backoff = backoff or Backoff()
        # a broker that knows and rejects us is not asked every second: it may ban, and only a person can help
        self._refused_backoff = refused_backoff or Backoff(base_s=1.0, cap_s=10.0)
        self._lanes = Lanes(outbox, destination)
        self._gate = gate or _OpenGate()
        self._flight = FlightWindow()
        self._settings = settings or DrainSettings()
        self._pace = Pace(self._settings.backlog_per_s)
        self._rewinds = 0
        self._seen_seq = 0  # the newest message when the lanes were last looked at
        self._backlog_seq = 0  # what has a number up to here was there before the connection
        self._soonest_s = math.inf  # when one of those that wait may go
        self._open: dict[int, _Sent] = {}  # published, not acknowledged; in order of sending
        self._open_bytes = 0
        self._acked: set[int] = set()  # acknowledged, not deleted
        self._acked_since_s = self._moved_s = 0.0
        self._refused: set[int] = set()  # not offered before _offer_at_s
        self._offer_at_s = math.inf
        self._suspect = (
            0,
            0,
        )  # a message, and how many connections in a row ended with it as the first one open
        self._told = ""
        self._connected_s = 0.0
        self._proven = False
        self._found_waiting = 0
        self.connected = False
        self.idle = False
        """True while `poll` waits for news: a put must then wake the transport."""
        self.problem = ""
        """Why there is no connection, "" while there is one."""
        self.published = self.delivered = self.refusals = self.connections = self.expired = 0
        self.latencies: dict[Priority, Histogram] = {
            priority: Histogram(LATENCY_BOUNDS_S) for priority in DROP_ORDER
        }
        """Of each class: from when that happened of which a message tells to the message's acknowledgement. Only messages
        of cameras and microphones, put since the outbox was opened. At QoS 0 until it was handed to the network."""

    def step(self) -> None:
        """Connect, or publish what has room and take in what became of it. Waits after a failed attempt."""
        if not self.connected:
            self._connect()
            return
        try:
            self._publish()
            self._poll()
        except TransportError as error:
            self._lost(error)
        except Exception as error:  # a fault of ours must not end the delivery of everything
            _log.exception("%s: unexpected fault, connecting anew", self._transport.name)
            self._lost(TransportError(f"unexpected {type(error).__name__}: {error}"))

    def wake(self) -> None:
        """Make a running `step` look for news; from any thread."""
        self._transport.wake()

    def close(self) -> None:
        """Delete what was acknowledged, and let the transport go."""
        self._delete_acked()
        self.connected = False
        with contextlib.suppress(TransportError):
            self._transport.close()

    def _connect(self) -> None:
        try:
            self._transport.connect()
        except TransportError as error:
            self._tell(error)
            self._pause(error)
            return
        self.connected = True
        self.connections += 1
        self.problem = ""
        self._proven = False
        self._connected_s = self._clock.monotonic_s()
        self._found_waiting = self._outbox.pending
        self._backlog_seq = self._outbox.newest_seq
        self._flight = FlightWindow()  # another way, perhaps
        self._rewind()
        if not self._told:
            _log.info("%s: connected, %d messages wait", self._transport.name, self._found_waiting)

    def _prove(self) -> None:
        """The connection works: it carried something, or lasted. One that only comes and goes is not told each time."""
        self._proven = True
        self._backoff.reset()
        self._refused_backoff.reset()
        if self._told:
            self._told = ""
            _log.warning("%s: connected again, %d messages waited", self._transport.name, self._found_waiting)

    def _lost(self, error: TransportError) -> None:
        self.connected = False
        self._delete_acked()
        if self._open and error.blames_message:
            self._suspect_first(next(iter(self._open)))
        self._open.clear()
        self._open_bytes = 0
        self._transport.abort()
        self._tell(error)
        self._pause(error)

    def _pause(self, error: TransportError) -> None:
        lasting = isinstance(error, TransportRefusedError) and error.lasting
        self._clock.wait(self._stop, (self._refused_backoff if lasting else self._backoff).next_s())

    def _tell(self, error: TransportError) -> None:
        """Once for being away, however that shows; a refusal again where its reason is another."""
        self.problem = str(error)
        key = self.problem if isinstance(error, TransportRefusedError) else "away"
        if key != self._told:
            self._told = key
            _log.warning("%s: %s; events wait in the outbox", self._transport.name, error)

    def _rewind(self) -> None:
        self._lanes.rewind()
        self._rewinds = self._outbox.rewinds
        self._moved_s = self._clock.monotonic_s()

    def _publish(self) -> None:
        if self._clock.monotonic_s() >= self._offer_at_s:
            self._refused.clear()
            self._offer_at_s = math.inf
            self._rewind()
        elif self._outbox.rewinds != self._rewinds:
            self._rewind()
        if not self._open:
            self._moved_s = self._clock.monotonic_s()
        self._seen_seq = self._outbox.newest_seq
        self._soonest_s = math.inf
        # one by one as acknowledgements come: a window that is filled up in bursts meets Nagle's algorithm at the
        # broker and delayed acknowledgement here, 40 ms each time
        window = 1 if self._suspect[1] >= SUSPECT_LOSSES else self._transport.window
        while len(self._open) < window and self._transport.ready:
            message, self._soonest_s = self._lanes.take(skip=self._is_handled, wait_s=self._wait_s)
            if message is None:
                break
            if self._is_stale(message):
                self._acked.add(message.seq)
                self.expired += 1
            else:
                self._send(message)

    def _send(self, message: Message) -> None:
        size = size_of(message)
        tells = message.seq >= self._outbox.first_seq and message.stream not in _NO_STREAM
        self._open[message.seq] = _Sent(
            size,
            self._clock.monotonic_s(),
            message.qos > 0,
            message.priority if tells else None,
            message.monotonic_s,
        )
        self._open_bytes += size
        self._transport.publish(message)
        self._gate.passed(message)
        if message.seq <= self._backlog_seq:
            self._pace.take()
        self.published += 1

    def _is_stale(self, message: Message) -> bool:
        is_stale = self._settings.is_stale
        return is_stale is not None and is_stale(message, self._clock.wall_s(), self._clock.monotonic_s())

    def _is_handled(self, seq: int) -> bool:
        return seq in self._open or seq in self._acked or seq in self._refused

    def _wait_s(self, message: Message) -> float:
        """Seconds until a message may go. inf: when an acknowledgement makes room for it."""
        now_s = self._clock.monotonic_s()
        if message.priority != "alarm":
            if self._open_bytes >= self._flight.limit_bytes:
                return math.inf
            if message.seq <= self._backlog_seq and (wait_s := self._pace.wait_s(now_s)) > 0:
                return wait_s
        return self._gate.wait_s(message, now_s=now_s)

    def _poll(self) -> None:
        self.idle = True  # before the question below: a put after it wakes us
        try:
            if self._outbox.newest_seq != self._seen_seq:
                timeout_s = 0.0
            else:
                timeout_s = min(ACK_EVERY_S if self._acked else IDLE_POLL_S, self._soonest_s)
            progress = self._transport.poll(timeout_s)
        finally:
            self.idle = False
        now_s = self._clock.monotonic_s()
        if progress.acked or progress.refused:
            self._moved_s = now_s
        if not self._proven and (progress.acked or now_s - self._connected_s >= STEADY_S):
            self._prove()
        if progress.acked:
            if self._suspect[0] in progress.acked:
                self._suspect = (0, 0)
            if not self._acked:
                self._acked_since_s = now_s
            for seq in progress.acked:
                self._take_ack(seq, now_s)
        for seq, reason in progress.refused:
            self._refuse(seq, reason)
        if self._acked and (not self._open or now_s - self._acked_since_s >= ACK_EVERY_S):
            self._delete_acked()
        if self._open and now_s - self._moved_s > ACK_TIMEOUT_S:
            raise TransportError(f"no acknowledgement for {ACK_TIMEOUT_S:g} s")

    def _refuse(self, seq: int, reason: str) -> None:
        if not self._refused:
            self._offer_at_s = self._clock.monotonic_s() + RETRY_REFUSED_S
            _log.warning(
                "%s: refused message %d: %s; it is kept and offered again", self._transport.name, seq, reason
            )
        self._land(seq)
        self._refused.add(seq)
        self.refusals += 1

    def _take_ack(self, seq: int, now_s: float) -> None:
        sent = self._land(seq)
        if sent is None:
            return
        self._acked.add(seq)
        if sent.priority is not None:
            self.latencies[sent.priority].add(now_s - sent.happened_s)
        if sent.measured:
            self._flight.acked(sent.bytes, now_s - sent.at_s, now_s)

    def _land(self, seq: int) -> _Sent | None:
        sent = self._open.pop(seq, None)
        if sent is not None:
            self._open_bytes -= sent.bytes
        return sent

    def _suspect_first(self, seq: int) -> None:
        """Some brokers answer a message that they will not take by hanging up: find it, and let the others pass."""
        losses = self._suspect[1] + 1 if self._suspect[0] == seq else 1
        self._suspect = (seq, losses)
        if losses >= 2 * SUSPECT_LOSSES:
            self._suspect = (0, 0)
            self._refuse(seq, f"the connection was lost {losses} times when it was sent")

    def _delete_acked(self) -> None:
        if self._acked:
            self.delivered += self._outbox.ack(self._acked)
            self._acked.clear()
