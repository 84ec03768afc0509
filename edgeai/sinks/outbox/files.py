"""The outbox's files beside each other: the lock, and what was set aside."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO, Final

from edgeai.errors import OutboxError

_MAX_SET_ASIDE: Final = 5


class OutboxBusyError(OutboxError):
    """Another process has the outbox open."""


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


def locked(path: Path) -> IO[str]:
    """Hold <path>.lock, so that two processes never number and delete in one file. The kernel lets go on kill -9."""
    file = path.with_name(path.name + ".lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BlockingIOError:
        file.seek(0)
        holder = file.read(32).strip() or "unknown"
        file.close()
        raise OutboxBusyError(
            f"outbox {path} is in use by process {holder}",
            next_step="stop it, or name another file for the outbox",
        ) from None
    except OSError:
        file.close()
        raise
    return file
