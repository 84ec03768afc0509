"""Files of SQLite that are damaged: how that is told, and where they are put.

Source of the header: https://sqlite.org/fileformat2.html, section 1.3.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_MAX_SET_ASIDE: Final = 5


def check_header(path: Path) -> None:
    """Raises sqlite3.DatabaseError for fields that no file of ours has, and that SQLite would take for something else: a file
    that must not be written, or one of a later format. OSError where it cannot be read.
    """
    if not path.exists() or path.stat().st_size < _HEADER_BYTES:
        return
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header[:16] != MAGIC:
        return  # SQLite says so itself
    versions, file_format, encoding = set(header[18:20]), header[44:48], header[56:60]
    if (
        not versions <= {1, 2}
        or file_format[:3] != b"\0\0\0"
        or file_format[3] > 4
        or encoding[:3] != b"\0\0\0"
    ):
        raise sqlite3.DatabaseError("its header is damaged")


def means_corrupt(error: Exception) -> bool:
    """Whether SQLite says that the file is damaged, rather than that the disk fails."""
    # SQLITE_CORRUPT and SQLITE_NOTADB give the class itself, a failing disk its child OperationalError
    # and a text that is none any more its child too
    return type(error) is sqlite3.DatabaseError or "decode" in str(error)


def set_aside(path: Path) -> Path:
    """Rename a database and its companions to <name>.corrupt-<n>; the new path. Raises OSError."""
    number = next(
        (n for n in range(1, _MAX_SET_ASIDE) if not _aside(path, n).exists()),
        _MAX_SET_ASIDE,  # the last name is used again: a dying card must not be filled with corpses
    )
    target = _aside(path, number)
    path.replace(target)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.replace(target.with_name(target.name + suffix))
    return target


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.corrupt-{number}")
