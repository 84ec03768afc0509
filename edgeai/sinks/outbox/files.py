"""The lock beside the outbox's file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from edgeai.errors import OutboxError


class OutboxBusyError(OutboxError):
    """Another process has the outbox open."""


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
