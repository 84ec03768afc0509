"""A bundle on disk: manifest.json, engine files, labels and a golden input, each with its size and SHA-256."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from edgeai.bundle.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileEntry,
    FileFormat,
    Manifest,
    Precision,
)
from edgeai.bundle.schema import parse_manifest
from edgeai.errors import BundleError, BundleHashError, BundleManifestError, BundleMissingError, EdgeError

_COPY_AGAIN = "copy the bundle again"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read, and verified unless its reader asked otherwise. `folder` is absolute."""

    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    def path(self, entry: FileEntry | str) -> Path:
        """Where a listed file is. Raises BundleError for one that the manifest does not list."""
        name = entry if isinstance(entry, str) else entry.path
        if not any(known.path == name for known in self.manifest.files):
            listed = ", ".join(known.path for known in self.manifest.files)
            raise BundleError(f"bundle {self.name}: no file {name!r}; listed are {listed}")
        return self.folder / name

    def engine_file(self, format: FileFormat | None = None, precision: Precision | None = None) -> FileEntry:
        """The first engine file of that format and precision; None is any.

        Raises BundleError that lists what there is.
        """
        for entry in self.manifest.engine_files:
            if format in {None, entry.format} and precision in {None, entry.precision}:
                return entry
        there = ", ".join(f"{entry.format}/{entry.precision}" for entry in self.manifest.engine_files)
        raise BundleError(
            f"bundle {self.name}: no {format or '*'}/{precision or '*'} engine file; there are {there}"
        )


def load_bundle(where: str | Path, *, verify: bool = True) -> Bundle:
    """Read the bundle in a folder, or the zoo's bundle of that name.

    With `verify` (the default) every listed file must be there with its size and SHA-256; without, files are not
    looked at. Nothing outside the folder is ever read: a path or link that leaves it is refused.

    Raises BundleMissingError, BundleManifestError, or BundleHashError for a missing, cut or changed file.
    """
    folder = find_bundle(where)
    manifest = _read_manifest(folder)
    if verify:
        for entry in manifest.files:
            verify_file(folder, entry)
    return Bundle(folder, manifest)


def find_bundle(where: str | Path) -> Path:
    """The absolute folder of a bundle given by path or zoo name. Raises BundleMissingError."""
    text = os.fspath(where)
    if not text or "\0" in text:
        raise BundleMissingError(f"{text!r} is no bundle", next_step="give a folder or a zoo name")
    try:
        folder = Path(text).expanduser()
        if folder.is_dir():
            return folder.resolve()
        if folder.exists():
            raise BundleMissingError(
                f"{folder} is a file, a bundle is a folder with {MANIFEST_NAME}", next_step="give the folder"
            )
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links, no home
        raise BundleMissingError(f"{text[:200]}: {error}") from None
    if isinstance(where, str) and "/" not in where:
        from edgeai.data import find_data

        try:
            zoo = find_data("models", where)
            if (zoo / MANIFEST_NAME).is_file():
                return zoo.resolve()
        except (EdgeError, FileNotFoundError):
            pass
        raise BundleMissingError(
            f"no bundle {where!r}: neither a folder here nor a model of the zoo",
            next_step="give the bundle's folder",
        )
    raise BundleMissingError(f"no bundle at {folder}", next_step="check the path")


def verify_file(folder: Path, entry: FileEntry) -> None:
    """Raise BundleHashError unless the file is there, a plain one, inside `folder`, of its size and SHA-256."""
    path = folder / entry.path
    where = f"{folder.name}/{entry.path}"
    try:
        with _open_inside(folder, entry.path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.bytes:
                how = "truncated" if size < entry.bytes else "longer than listed"
                raise BundleHashError(f"{where}: {how}, {size} of {entry.bytes} bytes", next_step=_COPY_AGAIN)
            digest = hashlib.sha256()
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except FileNotFoundError:
        raise BundleHashError(
            f"{where}: listed in {MANIFEST_NAME} but missing", next_step=_COPY_AGAIN
        ) from None
    except OSError as error:
        raise BundleHashError(f"{path}: cannot be read ({error.strerror or error})") from None
    if digest.hexdigest() != entry.sha256:
        raise BundleHashError(
            f"{where}: changed, SHA-256 is {digest.hexdigest()[:12]}…, expected {entry.sha256[:12]}…",
            next_step=_COPY_AGAIN,
        )


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST_NAME
    try:
        with _open_inside(folder, MANIFEST_NAME) as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise BundleManifestError(
            f"{folder} has no {MANIFEST_NAME}", next_step="is it a bundle's folder?"
        ) from None
    except OSError as error:
        raise BundleManifestError(f"{path}: cannot be read ({error.strerror or error})") from None
    return parse_manifest(text, where=str(path))


def _open_inside(folder: Path, name: str) -> BufferedReader:
    # O_NONBLOCK: a fifo in place of a file must not hang the reader
    try:
        resolved = (folder / name).resolve()
    except RuntimeError:  # Python up to 3.12
        raise OSError(0, "a loop of links") from None
    if not resolved.is_relative_to(folder.resolve()):
        raise PermissionError(0, "a link that leaves the bundle")
    handle = os.open(resolved, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PermissionError(0, "not a plain file")
    return os.fdopen(handle, "rb")
