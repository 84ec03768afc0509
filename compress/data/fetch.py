"""Fetches public data sets by name: known licence, checked hash, safely unpacked, all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from time import sleep
from typing import Any, cast
from urllib.parse import urlsplit

import tomllib

from compress.data.download import check_url, download_file, hash_file, local_file
from compress.data.unpack import MAX_BYTES, MAX_FILES, ArchiveKind, unpack_archive
from edgeai.console import print_note, progress_bar
from edgeai.errors import DataError, DataMissingError, UsageError
from edgeai.whole_file import check_free, new_folder

REGISTRY = Path(__file__).with_name("public_sets.toml")
MARK = "fetched.json"


@dataclass(frozen=True, slots=True)
class PublicFile:
    """bytes: 0 unknown. sha256: "" where nobody has verified one; hash_source: who published it."""

    url: str
    bytes: int
    sha256: str
    hash_source: str
    unpack: ArchiveKind

    @property
    def name(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A set that can be fetched by name."""

    name: str
    what: str
    licence: str
    attribution: str
    homepage: str
    layout: str
    files: tuple[PublicFile, ...]

    @property
    def verified(self) -> bool:
        return all(file.sha256 for file in self.files)

    @property
    def bytes(self) -> int:
        """Of the download; 0 where a size is not known."""
        return sum(f.bytes for f in self.files) if all(f.bytes for f in self.files) else 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """fresh: False where it was there already. hashes: {file: sha256} of what was unpacked, empty for a copied folder."""

    folder: Path
    fresh: bool
    files: int
    hashes: dict[str, str]


def load_registry(path: Path = REGISTRY) -> dict[str, PublicSet]:
    """The sets of a registry file by name. Raises DataError where it is wrong."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        made = [_public_set(row) for row in content["sets"]]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no registry of data sets: {error}") from error
    return {one.name: one for one in made}


def _public_set(row: dict[str, Any]) -> PublicSet:
    files = []
    for file in row["files"]:
        digest = str(file["sha256"]).lower()
        if bool(digest) != bool(file["verified"]):
            raise ValueError(f"{row['name']}: verified must be true with a sha256, false without")
        if digest and (len(digest) != 64 or not set(digest) <= set("0123456789abcdef")):
            raise ValueError(f"{row['name']}: {digest!r} is no SHA-256")
        if file["unpack"] not in ("zip", "tar", "file"):
            raise ValueError(f"{row['name']}: unpack must be zip, tar or file")
        kind = cast("ArchiveKind", file["unpack"])
        files.append(
            PublicFile(str(file["url"]), int(file["bytes"]), digest, str(file.get("hash_source", "")), kind)
        )
    name, what, licence, attribution, homepage, layout = (
        str(row[key]) for key in ("name", "what", "licence", "attribution", "homepage", "layout")
    )
    return PublicSet(name, what, licence, attribution, homepage, layout, tuple(files))


def find_set(name: str, registry: dict[str, PublicSet]) -> PublicSet:
    """Raises UsageError that names what is near, or all."""
    if name in registry:
        return registry[name]
    near = get_close_matches(name, registry, n=1)
    known = f"is {near[0]!r} meant?" if near else f"there is {', '.join(registry)}"
    raise UsageError(
        f"no public set {name!r} is known; {known}", next_step="see edgeai-compress data fetch --list"
    )


def fetch_set(
    one: PublicSet,
    into: Path,
    *,
    source: str = "",
    accept: Sequence[str] = (),
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
    wait: Callable[[float], None] = sleep,
) -> Fetched:
    """Make `into`/<name>. A second call sees that it is there.

    source: a mirror in place of the registry's addresses: a URL or folder that has the files, or a folder with the set
    unpacked. accept: SHA-256s that the user vouches for. wait: sleeps between tries.

    Raises DataError for a hash that differs or is not known, an unsafe archive, or something else in the folder's place;
    DataMissingError where nothing can be fetched; UsageError for an address that is not https.
    """
    target = into / one.name
    mark = target / MARK
    if mark.is_file():
        return Fetched(target, False, 0, {})
    check_free(target)
    unpacked = _unpacked_mirror(one, source)
    if unpacked is not None:
        return _copy(one, unpacked, target, max_files, max_bytes)
    store = into / f".{one.name}.download"
    archives = [(file, _obtain(file, one, store, source, wait)) for file in one.files]
    hashes = {file.name: _verified(one, file, path, digest, accept) for file, (path, digest) in archives}
    count = 0
    with new_folder(target) as part:
        for file, (path, _) in archives:
            with progress_bar(f"unpacking {path.name}", None) as advance:
                count += unpack_archive(
                    path, part, file.unpack, max_files=max_files, max_bytes=max_bytes, advance=advance
                )
        if one.layout:
            from compress.data.public_layout import LAYOUTS

            LAYOUTS[one.layout](part)
        _write_mark(part, one, hashes)
    shutil.rmtree(store, ignore_errors=True)
    return Fetched(target, True, count, hashes)


def _obtain(
    file: PublicFile, one: PublicSet, store: Path, source: str, wait: Callable[[float], None]
) -> tuple[Path, str]:
    """(the archive on this disk, its SHA-256)."""
    url = file.url
    if source:
        if "://" not in source:
            path = Path(source)
            found = path / file.name if path.is_dir() else path
        else:
            whole = PurePosixPath(urlsplit(source).path).name == file.name or (
                len(one.files) == 1
                and PurePosixPath(urlsplit(source).path).suffix in (".zip", ".gz", ".tar", ".tgz")
            )
            url = source if whole else f"{source.rstrip('/')}/{file.name}"
            found = local_file(check_url(url)) or Path()
        if "://" not in source or url.startswith("file:"):
            if not found.is_file():
                raise DataMissingError(f"{source} holds neither {file.name} nor the unpacked set {one.name}")
            return found, hash_file(found)
    path = store / file.name
    return path, download_file(url, path, size_bytes=file.bytes, wait=wait)


def _verified(one: PublicSet, file: PublicFile, path: Path, seen: str, accept: Sequence[str]) -> str:
    if seen in {digest.strip().lower() for digest in accept} or seen == file.sha256:
        return seen
    if file.sha256:
        if path.parent.name == f".{one.name}.download":
            path.unlink()
        raise DataError(
            f"{file.name} has SHA-256 {seen}, {file.sha256} is expected ({file.hash_source})",
            next_step="it was changed or broken on the way: fetch it again",
        )
    raise DataError(
        f"nobody has verified a hash of {file.name}; this one has SHA-256 {seen} and {path.stat().st_size:,} bytes",
        next_step=f"compare with {one.homepage} or a colleague, then add --accept-sha256 {seen}",
    )


def _unpacked_mirror(one: PublicSet, source: str) -> Path | None:
    """The folder of an unpacked copy that `source` names; None where it is something else."""
    if not source or "://" in source:
        return None
    folder = Path(source)
    if not folder.exists():
        raise DataMissingError(f"no folder or file {source}")
    if not folder.is_dir() or all((folder / file.name).is_file() for file in one.files):
        return None
    if (folder / one.name).is_dir():
        return folder / one.name
    return folder if folder.name == one.name else None


def _copy(one: PublicSet, folder: Path, target: Path, max_files: int, max_bytes: int) -> Fetched:
    """Copy an unpacked set, links left out."""
    files: list[Path] = []
    size = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not (Path(where) / name).is_symlink()]
        for name in names:
            path = Path(where) / name
            if path.is_file() and not path.is_symlink():
                files.append(path)
                size += path.stat().st_size
        if len(files) > max_files or size > max_bytes:
            raise DataError(f"{folder} holds more than {max_files:,} files or {max_bytes:,} bytes")
    if not files:
        raise DataMissingError(f"{folder} is empty")
    with new_folder(target) as part, progress_bar(f"copying {one.name}", len(files)) as advance:
        for path in files:
            to = part / path.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
            advance(1)
        _write_mark(part, one, {})
    print_note(f"{one.name} was copied from {folder}; there is no hash to check it against")
    return Fetched(target, True, len(files), {})


def _write_mark(part: Path, one: PublicSet, hashes: dict[str, str]) -> None:
    """Say beside the data what it is: the licence asks for it, and the next call looks for it."""
    told = {
        "name": one.name,
        "what": one.what,
        "licence": one.licence,
        "attribution": one.attribution,
        "homepage": one.homepage,
        "fetched": date.today().isoformat(),
        "sha256": hashes,
    }
    (part / MARK).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
