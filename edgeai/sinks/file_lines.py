"""A file of lines that only ever holds whole ones: appended, rotated, repaired."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from edgeai.errors import SinkError


class FileLines:
    """Appends to `path`; at `max_bytes` it becomes <path>.1, that <path>.2, and so on to `keep` old files.

    What is appended at once is one write, so that a reader never sees half a line; a torn line that a power cut left is
    closed before the next. Everything below raises OSError as the system does. Not thread-safe.
    """

    def __init__(self, path: Path | str, *, max_bytes: int = 16 << 20, keep: int = 3) -> None:
        if max_bytes < 1 or keep < 0:
            raise SinkError(f"max_bytes must be above 0 and keep at least 0, got {max_bytes} and {keep}")
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._keep = keep
        self._out: BinaryIO | None = None
        self._is_new = False

    def open(self) -> None:
        if self._out is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._out = self._opened()

    def close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            out.close()

    def append(self, lines: Sequence[bytes], *, durable: bool = False) -> None:
        """Write lines, their newlines included; durable: on the disk when it returns.

        All or none of those that share a file: what a full disk took of them is taken back.
        """
        batch: list[bytes] = []
        size = self._size()
        for line in lines:
            if size and size + len(line) > self._max_bytes:
                self._write(b"".join(batch), durable=durable)
                batch.clear()
                self._rotate()
                size = self._size()
            batch.append(line)
            size += len(line)
        self._write(b"".join(batch), durable=durable)

    def _write(self, data: bytes, *, durable: bool) -> None:
        if not data:
            return
        out = self._opened_before()
        size = out.seek(0, os.SEEK_END)
        try:
            written = out.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes could be written")
            if durable:
                os.fsync(out.fileno())
                self._sync_name()
        except OSError:
            # no reader finds half a line, nor one that is told as not written
            with contextlib.suppress(OSError):
                out.truncate(size)
            raise

    def _rotate(self) -> None:
        self.close()
        if self._keep:
            for number in range(self._keep - 1, 0, -1):
                older = self._numbered(number)
                if older.exists():
                    older.replace(self._numbered(number + 1))
            self.path.replace(self._numbered(1))
        else:
            self.path.unlink()
        self._out = self._opened()

    def _opened(self) -> BinaryIO:
        out = self.path.open("a+b", buffering=0)
        try:
            self._is_new = not out.tell()
            if not self._is_new:
                out.seek(-1, os.SEEK_END)
                if out.read(1) != b"\n":
                    out.write(b"\n")
        except OSError:
            out.close()
            raise
        return out

    def _sync_name(self) -> None:
        """A new file is on the disk when its name in the folder is, too (fsync(2))."""
        if self._is_new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._is_new = False

    def _size(self) -> int:
        return self._opened_before().seek(0, os.SEEK_END)

    def _opened_before(self) -> BinaryIO:
        if self._out is None:
            # a rotation that failed half-way left none
            self._out = self._opened()
        return self._out

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
