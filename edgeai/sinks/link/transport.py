"""Events that travel together become one compressed message; what goes over the link is metered."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edgeai.errors import ConfigError
from edgeai.sinks.link.gate import HEADERS_BYTES, LinkGate
from edgeai.sinks.link.settings import Encoding
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import Progress, Transport

MAX_BATCH: Final = 100
MAX_BATCH_BYTES: Final = (
    128 << 10
)  # before compression: a receiver's memory, and what is sent twice after a loss
_LEVEL: Final = 6


def open_compressor(encoding: Encoding) -> Callable[[bytes], bytes]:
    """Raises ConfigError where the library is missing."""
    if encoding == "gzip":
        return lambda data: gzip.compress(data, _LEVEL, mtime=0)
    try:
        import zstandard
    except ImportError:
        raise ConfigError(
            'compress = "zstd" needs the zstandard library',
            next_step="pip install 'edgeai[zstd]', or compress = \"gzip\"",
        ) from None
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return lambda data: bytes(compressor.compress(data))


class LinkTransport(Transport):
    """Around another transport. Of class "event", what is published between two polls is packed by stream: envelopes as
    lines, compressed, on batch_topic(stream, encoding); a single one stays as it is. All else passes, other
    vocabularies' messages too, alarms first.

    While batches are on their way, more are only made where they are full (as Nagle's algorithm does, RFC 896): else each
    acknowledgement would make room for a handful, and those would be packed alone.
    A message is acknowledged or refused with the batch it is in.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        encoding: Encoding | None,
        topics: TopicTree,
        gate: LinkGate,
    ) -> None:
        """Raises ConfigError where the compression's library is missing."""
        self.name = inner.name
        self._inner = inner
        self._encoding = encoding
        self._compress = None if encoding is None else open_compressor(encoding)
        self._topics = topics
        self._gate = gate
        self.window = self._window()
        self._gathered: dict[str, list[Message]] = {}
        self._ready_to_go: deque[Message] = deque()  # beyond what the other end takes at once
        self._on_way: set[int] = set()
        self._members: dict[int, tuple[int, ...]] = {}
        self._batches = 0
        self._plain = self._sent = 0  # bytes since the last poll, before and after packing

    @property
    def ready(self) -> bool:
        return self._inner.ready

    def connect(self) -> None:
        self._forget()
        self._inner.connect()
        self.window = self._window()

    def publish(self, message: Message) -> None:
        if (
            self._compress is None
            or message.priority != "event"
            or message.topic != self._topics.event(message.stream)
        ):
            if message.priority == "alarm":
                self._ready_to_go.appendleft(message)
            else:
                self._ready_to_go.append(message)
            self._go()
            return
        gathered = self._gathered.setdefault(message.stream, [])
        if sum(len(one.payload) for one in gathered) + len(message.payload) > MAX_BATCH_BYTES:
            self._pack(message.stream)
            gathered = self._gathered.setdefault(message.stream, [])
        gathered.append(message)
        if len(gathered) >= MAX_BATCH:
            self._pack(message.stream)

    def poll(self, timeout_s: float) -> Progress:
        if not self._members:
            for stream in tuple(self._gathered):
                self._pack(stream)
        self._go()
        self._settle()
        progress = self._inner.poll(timeout_s)
        self._on_way.difference_update(progress.acked, (number for number, _ in progress.refused))
        acked = [seq for number in progress.acked for seq in self._members.pop(number, (number,))]
        refused = [
            (seq, reason)
            for number, reason in progress.refused
            for seq in self._members.pop(number, (number,))
        ]
        self._go()
        return Progress(tuple(acked), tuple(refused))

    def wake(self) -> None:
        self._inner.wake()

    def abort(self) -> None:
        self._forget()
        self._inner.abort()

    def close(self) -> None:
        self._forget()
        self._inner.close()
        self._gate.meter.save()

    def _window(self) -> int:
        return self._inner.window if self._compress is None else self._inner.window * MAX_BATCH

    def _forget(self) -> None:
        self._gathered.clear()
        self._ready_to_go.clear()
        self._on_way.clear()
        self._members.clear()

    def _go(self) -> None:
        while self._ready_to_go and len(self._on_way) < self._inner.window:
            message = self._ready_to_go.popleft()
            self._on_way.add(message.seq)
            self._inner.publish(message)

    def _pack(self, stream: str) -> None:
        gathered = self._gathered.pop(stream, [])
        if self._compress is None or self._encoding is None or not gathered:
            return
        plain = sum(len(one.payload) + len(one.topic.encode()) + HEADERS_BYTES for one in gathered)
        if len(gathered) == 1:
            packed, sent = gathered[0], plain
        else:
            payload = self._compress(b"\n".join(one.payload for one in gathered))
            topic = self._topics.batch(stream, self._encoding)
            self._batches += 1
            # the outbox has no number below 1
            packed = replace(gathered[0], seq=-self._batches, topic=topic, payload=payload)
            sent = len(payload) + len(topic.encode()) + HEADERS_BYTES
        self._members[packed.seq] = tuple(one.seq for one in gathered)
        self._ready_to_go.append(packed)
        self._go()
        self._plain += plain
        self._sent += sent

    def _settle(self) -> None:
        """The gate has counted what packing was thought to bring: make it what it brought."""
        if self._plain:
            self._gate.meter.spend("event", self._sent - round(self._plain * self._gate.ratio))
            self._gate.ratio = 0.8 * self._gate.ratio + 0.2 * self._sent / self._plain
            self._plain = self._sent = 0
