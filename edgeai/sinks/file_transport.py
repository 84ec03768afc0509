"""Messages as lines of JSON, through the outbox: into a file that rotates, or to standard output."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import select
import sys
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from os import write
from pathlib import Path
from typing import BinaryIO, Final

from edgeai.sinks.file_lines import FileLines
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.transport import (
    NOTHING,
    Progress,
    Transport,
    TransportBusyError,
    TransportError,
    TransportRefusedError,
)
from edgeai.sinks.waker import Waker

_log = logging.getLogger(__name__)

WINDOW: Final = 256  # lines of one fsync
UNREAD_S: Final = 10.0  # less than a drain waits for an acknowledgement


def line_of(message: Message, *, images: bool) -> bytes | None:
    """A message as one line: its payload where that is JSON; {"topic": ..., "image_base64": ...} for anything else,
    None without `images`.
    """
    payload = message.payload.strip()
    if payload[:1] in (b"{", b"["):
        if b"\n" not in payload and b"\r" not in payload:
            return payload + b"\n"
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(json.loads(payload), ensure_ascii=False).encode() + b"\n"
    if not images:
        return None
    # payloads that hold no event have nowhere else to say where they came from
    coded = base64.b64encode(message.payload).decode()
    return json.dumps({"topic": message.topic, "image_base64": coded}).encode() + b"\n"


class LineTransport(Transport):
    """What both have in common. A message that is no line here is acknowledged, counted in `skipped` and told once."""

    def __init__(self, name: str, *, images: bool) -> None:
        self.name = name
        self.window = WINDOW
        self.skipped = 0
        self._images = images
        self._waker = Waker()
        self._lines: deque[tuple[int, bytes]] = deque()
        self._done: list[int] = []
        self._connected = False

    def connect(self) -> None:
        self.abort()
        self._waker.open()
        self._open()
        self._connected = True

    def publish(self, message: Message) -> None:
        if not self._connected:
            raise TransportError("not connected")
        line = line_of(message, images=self._images)
        if line is not None:
            self._lines.append((message.seq, line))
            return
        if not self.skipped:
            _log.warning(
                "%s: %s holds no JSON and is left out, and so are all like it", self.name, message.topic
            )
        self.skipped += 1
        self._done.append(message.seq)

    def poll(self, timeout_s: float) -> Progress:
        if not self._connected:
            raise TransportError("not connected")
        if self._waiting():
            self._write(0.0 if self._done else timeout_s)
        elif not self._done:
            self._waker.wait(timeout_s)
        if not self._done:
            return NOTHING
        done, self._done = self._done, []
        return Progress(acked=tuple(done))

    def wake(self) -> None:
        self._waker.wake()

    def abort(self) -> None:
        self._connected = False
        self._lines.clear()
        self._done.clear()
        self._shut()

    def close(self) -> None:
        self.abort()
        self._waker.close()

    @abstractmethod
    def _open(self) -> None:
        """Raises TransportError."""

    @abstractmethod
    def _write(self, timeout_s: float) -> None:
        """Move lines out; the numbers of those that are there to `_done`. Raises TransportError."""

    def _waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._lines)

    def _shut(self) -> None:
        """Let go what _open took."""


class FileTransport(LineTransport):
    """Appends to `path`, rotated as FileLines does. durable: fsync before the acknowledgement, one for many lines.

    A disk that is full makes the messages wait in the outbox, on whatever disk that is.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int = 16 << 20,
        keep: int = 3,
        durable: bool = True,
        images: bool = False,
    ) -> None:
        super().__init__(f"file://{path}", images=images)
        self._file = FileLines(path, max_bytes=max_bytes, keep=keep)
        self._durable = durable

    def _open(self) -> None:
        try:
            self._file.open()
        except OSError as error:
            raise TransportError(f"cannot be opened: {error.strerror or error}") from error

    def _write(self, timeout_s: float) -> None:
        try:
            self._file.append([line for _, line in self._lines], durable=self._durable)
        except OSError as error:
            raise TransportBusyError(f"cannot be written: {error.strerror or error}") from error
        self._done += (seq for seq, _ in self._lines)
        self._lines.clear()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class StdoutTransport(LineTransport):
    """Lines on standard output, or on `out`. A reader that pauses makes them wait; no write blocks the thread.

    reader_gone: called, on the drain's thread, when the reader has closed the pipe: nothing will ever be delivered, and
    a run that has no other purpose ends well.
    """

    def __init__(
        self,
        *,
        images: bool = False,
        out: BinaryIO | None = None,
        reader_gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__("standard output", images=images)
        self._given = out
        self._reader_gone = reader_gone
        self._rest = b""  # of a line that was begun: nothing may be written into its middle
        self._rest_seq: int | None = None
        self._moved_s = 0.0

    def _open(self) -> None:
        self._moved_s = time.monotonic()

    def publish(self, message: Message) -> None:
        if not self._lines:
            self._moved_s = time.monotonic()
        super().publish(message)

    def _write(self, timeout_s: float) -> None:
        out = self._given or sys.stdout.buffer
        try:
            fd = out.fileno()
        except (OSError, io.UnsupportedOperation):
            fd = -1
        try:
            if fd < 0:
                self._write_all(out)
            else:
                self._write_ready(fd, timeout_s)
        except BrokenPipeError as error:
            if self._reader_gone is not None:
                self._reader_gone()
            raise TransportRefusedError("nobody reads it any more") from error
        except OSError as error:
            raise TransportBusyError(f"cannot be written: {error.strerror or error}") from error

    def _write_all(self, out: BinaryIO) -> None:
        while self._lines:
            out.write(self._lines[0][1])
            self._done.append(self._lines.popleft()[0])
        out.flush()

    def _write_ready(self, fd: int, timeout_s: float) -> None:
        while self._lines or self._rest:
            if not self._waker.wait(timeout_s, fd=fd, events=select.POLLOUT):
                if time.monotonic() - self._moved_s > UNREAD_S:
                    raise TransportBusyError(f"nobody has read it for {UNREAD_S:g} s")
                return
            timeout_s = 0.0
            if not self._rest:
                self._rest_seq, self._rest = self._lines.popleft()
            # a pipe that is ready takes so much without blocking (pipe(7))
            self._rest = self._rest[write(fd, self._rest[: select.PIPE_BUF]) :]
            self._moved_s = time.monotonic()
            if not self._rest and self._rest_seq is not None:
                self._done.append(self._rest_seq)

    def _waiting(self) -> bool:
        return bool(self._lines or self._rest)

    def _shut(self) -> None:
        self._rest_seq = None  # its message comes again, whole
