"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgeai.errors import DataError


def write_whole(path: Path, text: str) -> Path:
    """Write UTF-8 text beside `path`, then put it in place. Raises DataError where it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(text.encode())
        part.replace(path)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: {error.object[error.start]!r} is no character that a file can hold"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path
