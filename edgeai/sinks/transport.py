"""The interface of everything that carries messages to their destination: MQTT now, HTTP or a file alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from edgeai.errors import SinkError
from edgeai.sinks.outbox.message import Message


class TransportError(SinkError):
    """The destination cannot be reached, or was lost. Its text is told once, until it changes.

    blames_message: whether the message at hand may be why, as where a broker hangs up at what it will not take.
    """

    blames_message = True


class TransportRefusedError(TransportError):
    """The destination is there and will not have us; told again where the reason changes.

    lasting: credentials, permission, identity: only a person can help. Else it is busy or being started.
    """

    def __init__(self, message: str, *, next_step: str = "", lasting: bool = True) -> None:
        self.lasting = lasting
        super().__init__(message, next_step=next_step)


class TransportBusyError(TransportError):
    """The destination is there and can take nothing now, whatever is sent."""

    blames_message = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of messages since the last poll, by number; refused: number and reason, for good on this connection."""

    acked: tuple[int, ...] = ()
    refused: tuple[tuple[int, str], ...] = ()


NOTHING: Final = Progress()


class Transport(ABC):
    """Driven by one thread, all but `wake`: connect, then publish and poll by turns, until TransportError or close.

    A message is delivered when `poll` says so and not before; what is open when the connection is lost is published
    again on the next one. So a transport keeps no queue of its own and never sleeps between attempts.
    """

    name: str
    """What it is and where it goes, for messages: "mqtt://broker:1883". Never a secret."""

    window: int
    """How many messages may be open at once on this connection, from 1 up; known after connecting."""

    @property
    def ready(self) -> bool:
        """False while the other end is there and wants nothing yet; messages then wait in the outbox."""
        return True

    @abstractmethod
    def connect(self) -> None:
        """One attempt, a few seconds at most. Raises TransportError, TransportRefusedError."""

    @abstractmethod
    def publish(self, message: Message) -> None:
        """Hand one message over, without waiting for its acknowledgement. Raises TransportError."""

    @abstractmethod
    def poll(self, timeout_s: float) -> Progress:
        """Move bytes; back at the first news, on `wake`, or after `timeout_s`. Raises TransportError."""

    def wake(self) -> None:
        """Make a running `poll` come back at once, if it ever waits. Called from any thread, at any time."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection without a word, after it failed; safe to call twice, `connect` may follow."""

    @abstractmethod
    def close(self) -> None:
        """Say good-bye where there is a connection, a second at most, and let go; safe to call twice."""
