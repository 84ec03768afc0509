"""What a connection to a broker says of itself, and what it listens to: last will, birth, good-bye, subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from edgeai.sinks.outbox.message import Message


@dataclass(frozen=True, slots=True)
class Announcement:
    """A message about the connection itself. It is never stored: it would be untrue by the time it is sent."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that the broker delivered.

    retained: it lay there before we subscribed. response_topic, correlation: MQTT 5 only, else "" and b"".
    """

    topic: str
    payload: bytes
    retained: bool = False
    response_topic: str = ""
    correlation: bytes = b""


Handler: TypeAlias = Callable[[Inbound], Sequence[Announcement]]
"""Takes a message on the thread of the connection and returns at once; what it answers is sent on this connection."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic filter and who takes what arrives on it."""

    topic_filter: str
    handler: Handler
    qos: int = 1


class Session:
    """The plain session: no will, no birth, nothing heard. Others override what they need.

    All methods are called on the one thread that drives the connection.
    """

    subscriptions: tuple[Subscription, ...] = ()

    def will(self) -> Announcement | None:
        """Before each connecting: what the broker shall say when the connection is lost."""
        return None

    def birth(self) -> Sequence[Announcement]:
        """After each connecting, before anything else is sent; all acknowledged first."""
        return ()

    def farewell(self) -> Sequence[Announcement]:
        """Before an orderly end."""
        return ()

    def outgoing(self, message: Message) -> bytes:
        """The payload of a stored message as it goes out on this connection."""
        return message.payload
