"""Unpacks archives that come from elsewhere: nothing outside the folder, no links, no bombs."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from edgeai.errors import DataError

MAX_FILES = 500_000
MAX_BYTES = 60 << 30
MAX_RATIO = 200
_CHUNK_BYTES = 1 << 20

ArchiveKind = Literal["zip", "tar", "file"]


def unpack_archive(
    archive: Path,
    folder: Path,
    kind: ArchiveKind,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    advance: Callable[[int], None] = lambda n: None,
) -> int:
    """Unpack into a folder; how many files. kind "file" copies it. advance: called with bytes written.

    Raises DataError for a name that leads outside, a link or a device, a name that comes twice, too many files or bytes (in
    all, or 200 times the archive's), and a broken archive. What was written until then stays: unpack into a folder that is
    thrown away on failure.
    """
    limit = min(max_bytes, max(64 << 20, MAX_RATIO * archive.stat().st_size))
    if kind == "file":
        shutil.copyfile(archive, folder / archive.name)
        return 1
    members = _zip_members(archive) if kind == "zip" else _tar_members(archive)
    count = written = 0
    try:
        for name, content in members:
            target = _target(archive, folder, name)
            count += 1
            if count > max_files:
                raise DataError(f"{archive.name} holds more than {max_files:,} files")
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("xb") as out:
                while chunk := content.read(_CHUNK_BYTES):
                    written += len(chunk)
                    if written > limit:
                        raise DataError(
                            f"{archive.name} unpacks to more than {limit:,} bytes; it is no data set, or a trap"
                        )
                    out.write(chunk)
                    advance(len(chunk))
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive.name} holds the name {Path(str(error.filename)).name!r} twice") from error
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise DataError(f"{archive.name} is no {kind} archive that can be read: {error}") from error
    if not count:
        raise DataError(f"{archive.name} is empty")
    return count


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise DataError(f"{archive.name} holds {info.filename[:80]!r}, which is a link or device")
            yield info.filename, opened.open(info)


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, "r:*") as opened:
        for info in opened:
            if info.isdir() or info.type in (tarfile.XGLTYPE, tarfile.XHDTYPE):
                continue
            content = opened.extractfile(info) if info.isreg() else None
            if content is None:
                raise DataError(f"{archive.name} holds {info.name[:80]!r}, which is a link or device")
            yield info.name, content


def _target(archive: Path, folder: Path, name: str) -> Path:
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != "."]
    if (
        not parts
        or parts[0] == "/"
        or ".." in parts
        or ":" in parts[0]
        or len(name) > 1024
        or not all(part.isprintable() for part in parts)
    ):
        raise DataError(f"{archive.name} holds the name {name[:80]!r}, which leads outside its folder")
    return folder.joinpath(*parts)
