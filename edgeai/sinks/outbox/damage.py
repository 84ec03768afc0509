"""What can still be read of a damaged outbox: past torn pages, behind a broken header, beyond a break in the log.

Source of the formats: https://sqlite.org/fileformat2.html, sections 1.3 (header) and 4 (write-ahead log).
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from edgeai.sinks.outbox.message import Message
from edgeai.sinks.outbox.seal import Seal
from edgeai.sinks.outbox.table import APPLICATION_ID, SCHEMA, parse_rows
from edgeai.sqlite_file import MAGIC

_PAGE_BYTES: Final = 4096  # SQLite's default since 3.12, and never set otherwise
_LOG_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
_LOGMAGICS: Final = {0x377F0682: "<", 0x377F0683: ">"}  # byte order of its checksums
_MAX_LOG_BYTES: Final = 64 << 20
_WORD: Final = 0xFFFFFFFF


def salvage(path: Path, seal: Seal | None = None) -> list[Message]:
    """What can still be read of a corrupt file, in order: from its beginning, and from its end, to the damage; as it
    is, and with a header made anew.
    """
    saved = dict(_read(path, seal))
    with (
        contextlib.suppress(OSError),
        tempfile.TemporaryDirectory(prefix=".outbox-", dir=path.parent) as name,
    ):
        copy = Path(name) / "outbox.db"
        shutil.copyfile(path, copy)
        log = path.with_name(path.name + "-wal")
        has_log = log.exists() and log.stat().st_size > 0
        if has_log:
            shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
        with copy.open("r+b") as file:
            file.write(_new_header(copy.stat().st_size, has_log=has_log))
        for seq, message in _read(copy, seal):
            saved.setdefault(seq, message)
    return [saved[seq] for seq in sorted(saved)]


def read_log(path: Path) -> bytes:
    """The write-ahead log beside a database that nobody has open, b"" where there is none, or a huge one."""
    log = path.with_name(path.name + "-wal")
    with contextlib.suppress(OSError):
        if log.stat().st_size <= _MAX_LOG_BYTES:
            return log.read_bytes()
    return b""


def frames_beyond(log: bytes, used: int) -> int:
    """How many frames lie beyond the `used` first ones, where the end of a transaction is among them: SQLite stops at the
    first that is damaged, without a word. A power cut can leave such too, of what was not yet reported as stored; a
    process that was killed while it wrote cannot.
    """
    beyond = [frame for frame in _frames(log)[used:] if frame.salted]
    return len(beyond) if any(frame.commits for frame in beyond) else 0


def salvage_log(path: Path, log: bytes, seal: Seal | None = None) -> list[Message]:
    """What a database holds where its log, read before it was opened, is taken over whole but for the damaged frames."""
    with (
        contextlib.suppress(OSError),
        tempfile.TemporaryDirectory(prefix=".outbox-", dir=path.parent) as name,
    ):
        copy = Path(name) / "outbox.db"
        shutil.copyfile(path, copy)
        copy.with_name(copy.name + "-wal").write_bytes(_mended(log))
        saved = dict(_read(copy, seal))
        return [saved[seq] for seq in sorted(saved)]
    return []


def _read(path: Path, seal: Seal | None) -> Iterator[tuple[int, Message]]:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = lambda text: text.decode(
            "utf-8", "replace"
        )  # a damaged one fails its row's checksum
        columns = {row[1] for row in db.execute("PRAGMA table_info(message)")}
        if not {"seq", "topic", "payload"} <= columns:
            return
        for backwards in (False, True):
            with contextlib.suppress(sqlite3.Error):
                for message in parse_rows(db, columns, seal, backwards=backwards):
                    yield message.seq, message


def _new_header(size_bytes: int, *, has_log: bool) -> bytes:
    """The header of a file of ours. Without its list of free pages: nothing is going to be written."""
    version = 2 if has_log else 1
    pages = size_bytes // _PAGE_BYTES
    head = MAGIC + struct.pack(">H6B", _PAGE_BYTES, version, version, 0, 64, 32, 32)
    fields = (1, pages, 0, 0, 1, 4, 0, 0, 1, SCHEMA, 0, APPLICATION_ID)
    return head + struct.pack(">12I", *fields) + bytes(20) + struct.pack(">2I", 1, sqlite_number())


def sqlite_number() -> int:
    """SQLite's version as its files have it: 3.40.1 is 3040001."""
    major, minor, patch = sqlite3.sqlite_version_info
    return major * 1_000_000 + minor * 1000 + patch


class _Frame(NamedTuple):
    """start: where it begins. salted: of this round of the log. whole: as it was written. commits: ends a transaction."""

    start: int
    salted: bool
    whole: bool
    commits: bool


def _frames(log: bytes) -> list[_Frame]:
    if len(log) < _LOG_HEADER.size:
        return []
    magic, _, page_bytes, _, salt1, salt2, sum1, sum2 = _LOG_HEADER.unpack_from(log)
    order = _LOGMAGICS.get(magic)
    if order is None or page_bytes not in {1 << n for n in range(9, 17)}:
        return []
    found = []
    step = _FRAME_HEADER.size + page_bytes
    for start in range(_LOG_HEADER.size, len(log) - step + 1, step):
        _, pages, frame_salt1, frame_salt2, frame_sum1, frame_sum2 = _FRAME_HEADER.unpack_from(log, start)
        salted = (frame_salt1, frame_salt2) == (salt1, salt2)
        # from the sum that the frame before has: so one that is damaged does not spoil all that follow
        whole = salted and _checksum(log, start, page_bytes, order, (sum1, sum2)) == (frame_sum1, frame_sum2)
        found.append(_Frame(start, salted, whole, commits=pages != 0))
        sum1, sum2 = frame_sum1, frame_sum2
    return found


def _mended(log: bytes) -> bytes:
    """The log with its whole frames only, their sums made anew."""
    header = _LOG_HEADER.unpack_from(log)
    order, page_bytes, sums = _LOGMAGICS[header[0]], header[2], (header[6], header[7])
    parts = [log[: _LOG_HEADER.size]]
    for start, _, whole, _ in _frames(log):
        if whole:
            sums = _checksum(log, start, page_bytes, order, sums)
            page_start = start + _FRAME_HEADER.size
            head = log[start : start + 16] + struct.pack(">2I", *sums)
            parts.append(head + log[page_start : page_start + page_bytes])
    return b"".join(parts)


def _checksum(log: bytes, start: int, page_bytes: int, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    page_start = start + _FRAME_HEADER.size
    words = struct.unpack_from(f"{order}2I", log, start) + struct.unpack_from(
        f"{order}{page_bytes // 4}I", log, page_start
    )
    first, second = sums
    for number in range(0, len(words), 2):
        first = (first + words[number] + second) & _WORD
        second = (second + words[number + 1] + first) & _WORD
    return first, second
