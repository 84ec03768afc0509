"""Writing a bundle: complete beside its place first, then swapped in, so that no reader sees half of one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeai.bundle.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import MANIFEST_NAME, SCHEMA
from edgeai.bundle.schema import dump_manifest, validate_fields
from edgeai.errors import BundleError, BundleManifestError

# what may stand in a folder that is no bundle yet: a zoo model's recipe, card and labels
_PROSE = {".toml", ".md", ".txt"}
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


def write_bundle(
    folder: Path | str, manifest_fields: Mapping[str, Any], files: Mapping[str, Path | bytes]
) -> Bundle:
    """Write a bundle and read it back, verified.

    manifest_fields: the keys of manifest.json, `schema` optional. Its `files` may list entries with only `path`,
    `format`, `precision` and `tolerance`; sizes and SHA-256 are always computed here. files: what to write, by path
    inside the bundle, as bytes or as the place to copy from; those that `manifest_fields` does not list get a plain
    entry. An existing bundle is replaced in one step; files in it that its manifest does not list (recipe.toml,
    card.md) stay.

    Raises BundleManifestError for fields that do not fit, BundleError where a source is missing, the disk fails, or
    the folder holds something that is no bundle. Whatever was there before is untouched then.
    """
    folder = Path(folder).resolve()
    listed = _listed(manifest_fields, files)
    try:
        kept = _kept_files(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(folder) as temporary:
            for name in kept:
                if name not in files:
                    _copy(folder / name, temporary / name)
            for name, source in files.items():
                entry = listed[name]
                entry["bytes"], entry["sha256"] = _put(source, _place(temporary, name))
            fields = {"schema": SCHEMA, **manifest_fields, "files": list(listed.values())}
            manifest = validate_fields(fields, where=str(folder / MANIFEST_NAME))
            _put(dump_manifest(manifest), temporary / MANIFEST_NAME)
            load_bundle(temporary)
            _sync_folders(temporary)
            _swap(temporary, folder)
    except OSError as error:
        raise BundleError(
            f"bundle {folder} cannot be written: {error}", next_step="nothing was changed"
        ) from None
    return load_bundle(folder)


def check_place(folder: Path | str) -> None:
    """Raise BundleError where write_bundle would refuse `folder`: said before hours of work go into its content."""
    _kept_files(Path(folder).resolve())


def _listed(fields: Mapping[str, Any], files: Mapping[str, Path | bytes]) -> dict[str, dict[str, Any]]:
    given = fields.get("files") or ()
    listed: dict[str, dict[str, Any]] = {}
    for entry in given:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise BundleManifestError("each of `files` must be a mapping with a 'path'")
        if entry["path"] not in files:
            raise BundleManifestError(f"`files` lists {entry['path']!r}, but no content is given for it")
        listed[entry["path"]] = dict(entry)
    for name in files:
        listed.setdefault(name, {"path": name})
    return listed


def _kept_files(folder: Path) -> list[str]:
    """Paths inside `folder` to carry into the new bundle. Raises BundleError where it is no place for one."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file, a bundle is a folder", next_step="give another place")
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    if (folder / MANIFEST_NAME).is_file():
        try:
            old = {entry.path for entry in load_bundle(folder, verify=False).manifest.files}
        except BundleManifestError as error:
            raise BundleError(
                f"the bundle to replace is broken ({error})", next_step=f"rm -r {folder}"
            ) from None
        return [str(path) for path in found if str(path) not in old and str(path) != MANIFEST_NAME]
    strange = [str(path) for path in found if path.suffix not in _PROSE or len(path.parts) > 1]
    if strange:
        raise BundleError(f"{folder} is no bundle but holds {strange[0]!r}", next_step="give an empty folder")
    return [str(path) for path in found]


@contextlib.contextmanager
def _temporary_beside(folder: Path) -> Iterator[Path]:
    # beside, not in /tmp: a rename works within one file system only
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(temporary: Path, name: str) -> Path:
    place = (temporary / name).resolve()
    if not place.is_relative_to(temporary) or place == temporary:
        raise BundleManifestError(f"path {name!r} leaves the bundle")
    return place


def _put(source: Path | bytes, place: Path) -> tuple[int, str]:
    """Write and sync one file; its size and SHA-256 as written."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Path):
        if not source.is_file():
            raise BundleError(f"no file {source} to put into the bundle")
        shutil.copyfile(source, place)
    else:
        place.write_bytes(source)
    with place.open("rb") as file:
        os.fsync(file.fileno())
        data = file.read()
    return len(data), hashlib.sha256(data).hexdigest()


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap(temporary: Path, folder: Path) -> None:
    """Put `temporary` at `folder`; what was there is at `temporary` afterwards, or gone if it was empty."""
    try:
        temporary.rename(folder)  # replaces nothing, or an empty folder
        return
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
    if _exchange(temporary, folder):
        return
    aside = temporary.with_suffix(".old")
    folder.rename(aside)
    try:
        temporary.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step (renameat2, Linux 3.15); False where libc or the file system has no such call."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    done: int = call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return done == 0
