"""bdSeq: the number that ties a birth of the node to its death, kept over restarts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

_log = logging.getLogger(__name__)

MODULUS: Final = 256
_MAX_BYTES: Final = 64


class BirthCounter:
    """0 to 255 and round again: one number for each attempt to connect, because a broker may have taken one whose
    answer was lost, and its death may come late.

    In a file, so that the next process goes on; but not at each failed attempt of a long outage, to spare the disk.
    A file that cannot be read or written costs that, and a warning: the numbers then begin at 0 with the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value: int | None = None
        self._written: int | None = None
        self._told = False
        self._proven = True

    @property
    def value(self) -> int:
        """The number of this connection, -1 before the first `advance`."""
        return -1 if self._value is None else self._value

    def advance(self) -> int:
        """The number for the connection that is now tried."""
        if self._value is None:
            self._written = self._value = self._read()
        self._value = 0 if self._value is None else (self._value + 1) % MODULUS
        if self._proven:
            self._write()
        self._proven = False
        return self._value

    def prove(self) -> None:
        """The connection is there: its number must never come back."""
        self._proven = True
        if self._written != self._value:
            self._write()

    def _read(self) -> int | None:
        """The last number of an earlier process, None where there was none."""
        try:
            with self._path.open("rb") as file:
                text = file.read(_MAX_BYTES).decode("ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(f"cannot be read: {error.strerror or error}")
            return None
        if not text.isascii() or not text.isdigit() or int(text) >= MODULUS:
            self._tell(f"holds {text[:20]!r}, which is no number from 0 to 255")
            return None
        return int(text)

    def _write(self) -> None:
        try:
            write_whole(self._path, f"{self._value}\n")
        except EdgeError as error:
            self._tell(str(error))
            return
        self._written = self._value

    def _tell(self, problem: str) -> None:
        if not self._told:
            self._told = True
            _log.warning("Sparkplug: the file for bdSeq, %s, %s", self._path, problem)
