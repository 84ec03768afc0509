"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeai.errors import DataError, EdgeError


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


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill beside `path`, which takes its place at the end; whatever stops the work removes it.

    Raises DataError where `path` is there already, unless it is an empty folder, or where it cannot be made.
    """
    check_free(path)
    part = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        part.replace(path)
    except OSError as error:
        if isinstance(error, EdgeError):
            raise
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_free(path: Path) -> None:
    """Raise DataError where a file is at `path`, or a folder that is not empty: it is somebody's work."""
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    if taken or not path.name:
        raise DataError(f"{path} is there already", next_step="choose a new place, or remove it")
