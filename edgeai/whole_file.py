"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgeai.errors import DataError, EdgeError


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write bytes, or text as UTF-8, beside `path`, then put it in place. Raises DataError where it cannot be written."""
    try:
        data = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: {error.object[error.start]!r} is no character that a file can hold"
        ) from None
    with whole_file(path) as part:
        part.write_bytes(data)
    return path


@contextlib.contextmanager
def whole_file(path: Path, *, what: str = "") -> Iterator[Path]:
    """A file to write beside `path`, of the same suffix, which takes its place at the end; whatever stops the work removes it.

    what: it is, for the message. Raises DataError where it cannot be written.
    """
    part = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        if isinstance(error, EdgeError):
            raise
        raise _cannot_write(f"{what} {path}".lstrip(), error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


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
        raise _cannot_write(str(path), error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_free(path: Path) -> None:
    """Raise DataError where a file is at `path`, or a folder that is not empty: it is somebody's work."""
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise _cannot_write(str(path), error) from error
    if taken or not path.name:
        raise DataError(f"{path} is there already", next_step="choose a new place, or remove it")


def _cannot_write(what: str, error: OSError) -> DataError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DataError(
        f"{what} cannot be written: {error.strerror or error}",
        next_step="free some space, or choose another folder" if full else "",
    )
