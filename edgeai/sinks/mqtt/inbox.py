"""What a broker delivers to us, and who takes it: sizes capped, faults of handlers kept from the connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgeai.sinks.mqtt.session import Announcement, Inbound, Subscription

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

_log = logging.getLogger(__name__)

MAX_INBOUND_BYTES: Final = 256 << 10
MAX_PACKET_BYTES: Final = 1 << 20
"""What an MQTT 5 broker is asked to send at most: it drops larger ones itself, before they reach our memory."""

_MAX_TOLD: Final = 200


@dataclass(slots=True)
class InboxCounters:
    """Since the start. received: taken by a handler. oversized: payloads above MAX_INBOUND_BYTES, dropped.
    unexpected: no subscription of ours fits, or the topic is no text. faults: exceptions of handlers.
    """

    received: int = 0
    oversized: int = 0
    unexpected: int = 0
    faults: int = 0


class Inbox:
    """Outlives connections. All methods are called on the thread that drives the connection.

    refused: topic filters that the broker refused, with its reason; not those that it granted and delivers nothing of,
    which mosquitto does where its ACL denies reading.
    """

    def __init__(self, name: str) -> None:
        self.counters = InboxCounters()
        self.refused: dict[str, str] = {}
        self._name = name
        self._subscriptions: Sequence[Subscription] = ()
        self._told: set[tuple[str, str]] = set()

    def listen(self, subscriptions: Sequence[Subscription]) -> None:
        """From now on these are asked; before CONNECT, as a session's waiting messages come right after CONNACK."""
        self._subscriptions = tuple(subscriptions)

    def granted(self, topic_filter: str) -> None:
        self.refused.pop(topic_filter, None)

    def refuse(self, topic_filter: str, reason: str) -> None:
        self.refused[topic_filter] = reason
        self._tell("refused", topic_filter, f"subscription to {topic_filter!r} refused: {reason}")

    def take(self, message: MQTTMessage) -> list[Announcement]:
        """Hand a message to the handler of every subscription that fits; what they answer. Never raises."""
        counters = self.counters
        if len(message.payload) > MAX_INBOUND_BYTES:
            counters.oversized += 1
            self._tell(
                "oversized",
                "",
                f"a message of {len(message.payload)} bytes dropped ({MAX_INBOUND_BYTES} at most)",
            )
            return []
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        takers = [one for one in self._subscriptions if topic and _fits(one.topic_filter, topic)]
        if not takers:
            # left over from a session that an earlier configuration began: the broker keeps it for session_expiry_s
            counters.unexpected += 1
            return []
        counters.received += 1
        properties = message.properties
        inbound = Inbound(
            topic,
            bytes(message.payload),
            retained=bool(message.retain),
            response_topic=getattr(properties, "ResponseTopic", ""),
            correlation=getattr(properties, "CorrelationData", b""),
        )
        answers: list[Announcement] = []
        for taker in takers:
            try:
                answers.extend(taker.handler(inbound))
            except Exception as error:
                counters.faults += 1
                key = (taker.topic_filter, type(error).__name__)
                if self._first(key):  # once a kind: a flood of bad messages is no flood of log lines
                    _log.exception("%s: a handler of %r failed", self._name, taker.topic_filter)
        return answers

    def fault(self, topic: str, problem: str) -> None:
        """An answer or announcement of ours that could not be sent, or that the broker refused."""
        self.counters.faults += 1
        self._tell(problem, topic, f"announcement on {topic!r}: {problem}")

    def _tell(self, kind: str, what: str, line: str) -> None:
        if self._first((kind, what)):
            _log.warning("%s: %.400s", self._name, line)

    def _first(self, key: tuple[str, str]) -> bool:
        """True where it was not told before; bounded, as others choose topics and reasons."""
        if key in self._told or len(self._told) >= _MAX_TOLD:
            return False
        self._told.add(key)
        return True


def _fits(topic_filter: str, topic: str) -> bool:
    from paho.mqtt.client import topic_matches_sub

    try:
        return topic_matches_sub(topic_filter, topic)
    except ValueError:
        return False
