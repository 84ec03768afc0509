"""A destination in memory that can be away, slow, deaf or choosy."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgeai.sinks.outbox.message import Message
from edgeai.sinks.transport import Progress, Transport, TransportError


class FakeTransport(Transport):
    """received: every message handed over, repetitions too. up: connecting works. deaf: takes and never acknowledges.

    refuse: asked for each message, a reason to refuse it or "".
    """

    ready = True

    def __init__(self, *, window: int = 4) -> None:
        self.name = "fake://here"
        self.window = window
        self.up = True
        self.deaf = False
        self.error: TransportError = TransportError("cannot connect: nobody there")
        self.refuse: Callable[[Message], str] = lambda message: ""
        self.received: list[Message] = []
        self.attempts = self.goodbyes = self.max_open = 0
        self.connected = False
        self._open: list[Message] = []
        self._news = threading.Event()

    def connect(self) -> None:
        self.attempts += 1
        if not self.up:
            raise self.error
        self.connected = True

    def publish(self, message: Message) -> None:
        self._check()
        self._open.append(message)
        self.max_open = max(self.max_open, len(self._open))
        self.received.append(message)

    def poll(self, timeout_s: float) -> Progress:
        self._check()
        if not self._open and timeout_s:
            self._news.wait(timeout_s)
        self._news.clear()
        if self.deaf:
            return Progress()
        taken, self._open = self._open, []
        refused = tuple((message.seq, self.refuse(message)) for message in taken if self.refuse(message))
        numbers = {seq for seq, _ in refused}
        return Progress(tuple(message.seq for message in taken if message.seq not in numbers), refused)

    def wake(self) -> None:
        self._news.set()

    def lose(self) -> None:
        """Cut the connection: what is open was not acknowledged."""
        self.connected = False
        self._open.clear()

    def abort(self) -> None:
        self.lose()

    def close(self) -> None:
        self.goodbyes += self.connected
        self.lose()

    def _check(self) -> None:
        if not self.connected or not self.up:
            self.lose()
            raise TransportError("connection lost")
