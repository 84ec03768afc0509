"""The life of a Sparkplug edge node on one connection: death as its will, births, data in sequence, rebirth on request.

Source: Eclipse Sparkplug 3.0.0, chapters 4 to 6; statements are named by their ids of its test kit (tck-id-...).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edgeai.clock import Clock, SystemClock
from edgeai.sinks.mqtt.session import Announcement, Inbound, Session, Subscription
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.pace import Pace
from edgeai.sinks.sparkplug.birth_counter import BirthCounter
from edgeai.sinks.sparkplug.catalogue import BD_SEQ, REBIRTH
from edgeai.sinks.sparkplug.composer import SparkplugComposer
from edgeai.sinks.sparkplug.datatypes import DATA_TYPES, Scalar, SparkplugError, TypeName, is_text, to_wire
from edgeai.sinks.sparkplug.namespace import state_topic
from edgeai.sinks.sparkplug.values import Known
from edgeai.sinks.sparkplug.wire import Metric, Payload, decode, encode, payload_class
from edgeai.sinks.transport import TransportError

_log = logging.getLogger(__name__)

SEQ_MODULUS: Final = 256
MAX_STATE_BYTES: Final = 4096
REBIRTHS: Final = 10
"""So many births at once may be asked for, and then one a second: a birth is large, and its request is not."""
_WARNINGS: Final = 10


class SparkplugSession(Session):
    """Needs a connection of its own, whose will is the node's death.

    composer: of the messages that this connection carries. state_folder: for the file with bdSeq.

    ready: the births of this connection are sent, so data may be; False while the primary host is away.
    ended: why the connection must now be ended, as the primary host went away; "" while it may live.
    Who drives the connection looks at both after each message that arrived (SparkplugTransport).
    Raises SparkplugError where protobuf is not installed.
    """

    def __init__(
        self, composer: SparkplugComposer, *, state_folder: Path, clock: Clock | None = None
    ) -> None:
        payload_class()
        self.ready = False
        self.ended = ""
        self._composer = composer
        self._topics = topics = composer.topics
        self._clock = clock or SystemClock()
        self._births = BirthCounter(state_folder / "sparkplug_bdseq")
        self._seq = 0
        self._alive = False  # a will is set, and no death was told
        self._open = False  # birth() was called on this connection
        self._born_change = 0
        self._sent_change: dict[int, int] = {}  # alias: the newest change that was sent of it
        self._host = composer.settings.primary_host
        self._host_online = False
        self._host_ms = -1
        self._rebirths = Pace(1.0, burst=REBIRTHS)
        self._warnings = Pace(1.0, burst=_WARNINGS)
        listened = [
            Subscription(topics.command(), self._on_node_command),
            Subscription(topics.device_commands, self._on_device_command),
        ]
        if self._host is not None:
            listened.append(Subscription(state_topic(self._host), self._on_host_state))
        self.subscriptions = tuple(listened)

    @property
    def waiting(self) -> str:
        """Why nothing may be published, for a message; true while `ready` is False."""
        if self.ended or self._host is None:
            return self.ended or "the births were not sent"
        return f"waiting for the primary host {self._host!r} to be online"

    def will(self) -> Announcement:
        self._births.advance()
        self._alive = True
        self._open = self.ready = self._host_online = False
        self.ended = ""
        return self._death()

    def birth(self) -> Sequence[Announcement]:
        self._open = True
        self._births.prove()
        if self._host is None or self._host_online:
            return self._born()
        _log.info("Sparkplug: waiting for the primary host %r", self._host)
        return ()

    def farewell(self) -> Sequence[Announcement]:
        # a DISCONNECT discards the will, so the death is told by ourselves
        # (tck-id-operational-behavior-edge-node-intentional-disconnect-ndeath)
        if not self._alive:
            return ()
        self._alive = self.ready = False
        return (self._death(),)

    def outgoing(self, message: Message) -> bytes:
        """The data message of what was stored, with the next sequence number of this connection.

        Raises TransportError while `ready` is False.
        """
        if not self.ready:
            raise TransportError(self.waiting)
        device = self._topics.device_of(message.topic)
        run, change, stored = _stored(message)
        metrics, types = [], []
        for name, type_, value, timestamp_ms in stored:
            facts = self._composer.values.catalogue.find(device, name)
            historical = run != self._composer.run_id or change <= self._born_change
            if facts is not None and facts.type == type_:
                # threads may have stored two changes in the wrong order
                # (tck-id-operational-behavior-data-publish-dbirth-order)
                if not historical:
                    newest = self._sent_change.get(facts.alias, 0)
                    historical = change < newest
                    self._sent_change[facts.alias] = max(change, newest)
                metrics.append(Metric("", value, None, facts.alias, timestamp_ms, historical))
            else:
                # an earlier configuration's: no birth names it, so it goes by name and type, and as history only
                metrics.append(Metric(name, value, type_, None, timestamp_ms, historical=True))
            types.append(type_)
        return encode(Payload(tuple(metrics), self._now_ms(), self._next_seq()), value_types=types)

    def _death(self) -> Announcement:
        # no sequence number, nothing but bdSeq (tck-id-topics-ndeath-payload, -seq); QoS 1, not retained
        # (tck-id-message-flow-edge-node-birth-publish-will-message-qos, -will-retained)
        now_ms = self._now_ms()
        raw = encode(Payload((self._bd_seq(now_ms),), now_ms))
        return Announcement(self._topics.death, raw, qos=1, retain=False)

    def _born(self) -> Sequence[Announcement]:
        """All births, in order: of the node with sequence number 0, then of each device.

        What was stored before them is history from here on, because they carry the newest values.
        """
        self._seq = 0
        self._born_change, known = self._composer.values.snapshot()
        self._sent_change.clear()
        now_ms = self._now_ms()
        node = Payload(
            (
                self._bd_seq(now_ms),
                # without an alias (tck-id-operational-behavior-data-commands-rebirth-name-aliases)
                Metric(REBIRTH, False, "Boolean", None, now_ms),
                *_births(known[""], now_ms),
            ),
            now_ms,
            self._next_seq(),
        )
        births = [(self._topics.birth(), node)]
        for device in self._composer.values.catalogue.devices:
            payload = Payload(_births(known[device], now_ms), now_ms, self._next_seq())
            births.append((self._topics.birth(device), payload))
        self.ready = True
        # QoS 0, not retained (tck-id-payloads-nbirth-qos, -retain, -dbirth-qos, -retain)
        return tuple(Announcement(topic, encode(payload), qos=0, retain=False) for topic, payload in births)

    def _on_node_command(self, inbound: Inbound) -> Sequence[Announcement]:
        payload = self._command(inbound)
        answer: Sequence[Announcement] = ()
        for metric in payload.metrics if payload is not None else ():
            if metric.name != REBIRTH:
                self._ignore("NCMD", f"metric {metric.name or metric.alias!r} takes no command")
            elif metric.value is not True:
                self._ignore("NCMD", f"{REBIRTH} has the value {metric.value!r}, not true")
            elif self.ready and not answer and self._rebirths.take_one(self._clock.monotonic_s()):
                _log.info("Sparkplug: births again, as a host asked")
                answer = self._born()
        return answer

    def _on_device_command(self, inbound: Inbound) -> Sequence[Announcement]:
        payload = self._command(inbound)
        if payload is not None:
            device = self._topics.device_of(inbound.topic)
            self._ignore("DCMD", f"device {device!r} takes no commands")
        return ()

    def _command(self, inbound: Inbound) -> Payload | None:
        if inbound.retained:
            self._ignore(inbound.topic, "the command is retained, and may be old")
            return None
        try:
            return decode(inbound.payload)
        except SparkplugError as error:
            self._ignore(inbound.topic, str(error))
            return None

    def _on_host_state(self, inbound: Inbound) -> Sequence[Announcement]:
        """Births when the primary host comes, the death when it goes; older news are passed over
        (tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp, -termination-host-offline-timestamp).
        """
        state = _host_state(inbound.payload)
        if state is None:
            self._ignore(inbound.topic, 'not {"online": true or false, "timestamp": milliseconds}')
            return ()
        online, timestamp_ms = state
        if timestamp_ms < self._host_ms:
            self._ignore(inbound.topic, f"timestamp {timestamp_ms} is older than {self._host_ms}")
            return ()
        self._host_ms = timestamp_ms
        self._host_online = online
        if online:
            if not self._open or self.ready or self.ended:
                return ()
            _log.info("Sparkplug: the primary host %r is online", self._host)
            return self._born()
        if not self.ready:
            return ()
        # tck-id-operational-behavior-edge-node-termination-host-offline: death, then the end of the connection
        self.ended = f"the primary host {self._host!r} is offline"
        _log.warning("Sparkplug: %s; events wait in the outbox", self.ended)
        return self.farewell()

    def _ignore(self, what: str, why: str) -> None:
        if self._warnings.take_one(self._clock.monotonic_s()):  # a flood of them does not flood the log
            _log.warning("Sparkplug: ignored %.200r: %.200s", what, why)

    def _bd_seq(self, now_ms: int) -> Metric:
        return Metric(BD_SEQ, self._births.value, "Int64", None, now_ms)

    def _next_seq(self) -> int:
        seq = self._seq
        self._seq = (seq + 1) % SEQ_MODULUS
        return seq

    def _now_ms(self) -> int:
        return max(0, round(self._clock.wall_s() * 1e3))


def _births(known: Sequence[Known], now_ms: int) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            one.facts.name,
            one.value,
            one.facts.type,
            one.facts.alias,
            now_ms if one.timestamp_ms is None else one.timestamp_ms,
        )
        for one in known
    )


def _stored(message: Message) -> tuple[str, int, list[tuple[str, TypeName, Scalar, int]]]:
    """The run, the change and the metrics (name, type, value, timestamp in ms) of a composer's JSON.

    What an outbox of another version may hold and we cannot read is left out, and told.
    """
    metrics: list[tuple[str, TypeName, Scalar, int]] = []
    try:
        body: Any = json.loads(message.payload)
        run, change = str(body["run"]), int(body["change"])
        for one in body["metrics"]:
            name, type_, value = one["name"], one["type"], one["value"]
            if type_ not in DATA_TYPES or not isinstance(name, str) or not is_text(name):
                raise ValueError(f"metric {name!r} has the type {type_!r}")
            if value is not None:
                to_wire(type_, value)
            metrics.append((name, type_, value, int(to_wire("UInt64", one["timestamp_ms"]))))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        _log.warning("Sparkplug: stored message %d cannot be read: %s", message.seq, error)
        return "", 0, metrics
    return run, change, metrics


def _host_state(payload: bytes) -> tuple[bool, int] | None:
    """Whether it is online, and the timestamp, of a host's STATE message, None for anything else."""
    if len(payload) > MAX_STATE_BYTES:
        return None
    try:
        state: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(state, dict):
        return None
    online, timestamp_ms = state.get("online"), state.get("timestamp")
    if not isinstance(online, bool) or isinstance(timestamp_ms, bool):
        return None
    if not isinstance(timestamp_ms, (int, float)) or not math.isfinite(timestamp_ms):
        return None
    return online, round(timestamp_ms)
