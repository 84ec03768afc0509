"""Events as lines of JSON, in a file that rotates or on standard output."""

from __future__ import annotations

import sys
import threading
from abc import abstractmethod
from pathlib import Path
from typing import BinaryIO

from edgeai.errors import SinkError
from edgeai.sinks.file_lines import FileLines
from edgeai.sinks.payload import Envelope
from edgeai.sinks.sink import Sink
from edgeai.types import Event


class LineSink(Sink):
    """One envelope of edgeai.sinks.payload a line, `seq` counting from 1 within this sink. Thread-safe."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._lock = threading.Lock()
        self._seq = 0
        self._is_open = False

    def send(self, event: Event) -> None:
        """Raises PayloadError for an event that is not JSON, SinkError where it cannot be written."""
        with self._lock:
            if not self._is_open:
                raise SinkError(f"{self._name()} is not open", next_step="use the sink inside `with`")
            line = self._envelope.encode(event, self._seq + 1) + b"\n"
            try:
                self._write(line)
            except OSError as error:
                raise SinkError(f"{self._name()} cannot be written: {error.strerror or error}") from error
            self._seq += 1

    @abstractmethod
    def _write(self, line: bytes) -> None:
        """One line, its newline included, to where it goes. Raises OSError."""

    def _name(self) -> str:
        return type(self).__name__


class StdoutSink(LineSink):
    """Lines on standard output, each flushed, so that a pipe sees it at once. `out` for another binary stream."""

    def __init__(self, envelope: Envelope, *, out: BinaryIO | None = None) -> None:
        super().__init__(envelope)
        self._out = out

    def open(self) -> None:
        self._is_open = True

    def close(self) -> None:
        self._is_open = False

    def _write(self, line: bytes) -> None:
        out = self._out or sys.stdout.buffer
        out.write(line)
        out.flush()

    def _name(self) -> str:
        return "standard output"


class JsonlSink(LineSink):
    """Appends to `path`; rotation and repair are those of FileLines. durable: fsync after each line."""

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
        self.path = Path(path)
        self._lines = FileLines(path, max_bytes=max_bytes, keep=keep)
        self._durable = durable

    def open(self) -> None:
        """Raises SinkError where the file cannot be opened."""
        with self._lock:
            try:
                self._lines.open()
            except OSError as error:
                raise SinkError(
                    f"{self.path} cannot be opened: {error.strerror or error}",
                    next_step="name a file that can be written",
                ) from error
            self._is_open = True

    def close(self) -> None:
        with self._lock:
            self._is_open = False
            self._lines.close()

    def _write(self, line: bytes) -> None:
        self._lines.append((line,), durable=self._durable)

    def _name(self) -> str:
        return str(self.path)
