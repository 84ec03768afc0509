"""Events as lines of JSON, in a file that rotates or on standard output."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from edgeai.errors import SinkError
from edgeai.sinks.payload import Envelope
from edgeai.sinks.sink import Sink
from edgeai.types import Event


class LineSink(Sink):
    """One envelope of edgeai.sinks.payload a line, `seq` counting from 1 within this sink. Thread-safe."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._lock = threading.Lock()
        self._seq = 0
        self._out: BinaryIO | None = None

    def send(self, event: Event) -> None:
        """Raises PayloadError for an event that is not JSON, SinkError where it cannot be written."""
        with self._lock:
            if self._out is None:
                raise SinkError(f"{self._name()} is not open", next_step="use the sink inside `with`")
            line = self._envelope.encode(event, self._seq + 1) + b"\n"
            try:
                self._write(self._out, line)
            except OSError as error:
                raise SinkError(f"{self._name()} cannot be written: {error.strerror or error}") from error
            self._seq += 1

    def _write(self, out: BinaryIO, line: bytes) -> None:
        out.write(line)
        out.flush()

    def _name(self) -> str:
        return type(self).__name__


class StdoutSink(LineSink):
    """Lines on standard output, each flushed, so that a pipe sees it at once. `out` for another binary stream."""

    def __init__(self, envelope: Envelope, *, out: BinaryIO | None = None) -> None:
        super().__init__(envelope)
        self._given = out

    def open(self) -> None:
        self._out = self._given or sys.stdout.buffer

    def close(self) -> None:
        self._out = None

    def _name(self) -> str:
        return "standard output"


class JsonlSink(LineSink):
    """Appends to `path`; at `max_bytes` it becomes <path>.1, that <path>.2, and so on to `keep` old files.

    Each line is one write, so that a reader never sees half of one; a torn line that a power cut left is closed before
    the next. durable: fsync after each line.
    """

    def __init__(
        self,
        path: Path | str,
        envelope: Envelope,
        *,
        max_bytes: int = 16 << 20,
        keep: int = 3,
        durable: bool = False,
    ) -> None:
        super().__init__(envelope)
        if max_bytes < 1 or keep < 0:
            raise SinkError(f"max_bytes must be above 0 and keep at least 0, got {max_bytes} and {keep}")
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._keep = keep
        self._durable = durable

    def open(self) -> None:
        """Raises SinkError where the file cannot be opened."""
        with self._lock:
            if self._out is not None:
                return
            try:
                self._out = self._opened()
            except OSError as error:
                raise SinkError(
                    f"{self.path} cannot be opened: {error.strerror or error}",
                    next_step="name a file that can be written",
                ) from error

    def close(self) -> None:
        with self._lock:
            if self._out is not None:
                self._out.close()
                self._out = None

    def _opened(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        out = self.path.open("a+b", buffering=0)
        if out.tell():
            out.seek(-1, os.SEEK_END)
            if out.read(1) != b"\n":
                out.write(b"\n")
        return out

    def _write(self, out: BinaryIO, line: bytes) -> None:
        size = out.seek(0, os.SEEK_END)
        if size and size + len(line) > self._max_bytes:
            out = self._rotated(out)
            size = out.seek(0, os.SEEK_END)
        written = out.write(line)
        if written != len(line):
            # a disk that is full takes a part: take it back, so that no reader finds half a line
            out.truncate(size)
            raise OSError(28, f"only {written} of {len(line)} bytes could be written")
        if self._durable:
            os.fsync(out.fileno())

    def _rotated(self, out: BinaryIO) -> BinaryIO:
        out.close()
        self._out = None
        if self._keep:
            for number in range(self._keep - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self.path.replace(self._numbered(1))
        else:
            self.path.unlink()
        self._out = opened = self._opened()
        return opened

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _name(self) -> str:
        return str(self.path)
