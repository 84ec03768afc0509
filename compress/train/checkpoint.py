"""A training's state in one file, so that a killed training goes on where it was. No pickle: arrays and a JSON header."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.console import print_note
from edgeai.errors import PassError

VERSION = 1
HEADER = "header"
MAX_BYTES = 32 << 30
MAX_HEADER_BYTES = 64 << 20

_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, NDArray[Any]]


def fingerprint_of(facts: dict[str, Any]) -> str:
    """A hash of what a checkpoint must have in common with the training that takes it up."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Checkpoint:
    """A file that is there as a whole or not at all, whenever the process is killed."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint

    def save(self, header: dict[str, Any], arrays: Arrays) -> None:
        """Put a new state in the place of the old one. Raises PassError where the disk does not take it."""
        text = json.dumps({"version": VERSION, "fingerprint": self._fingerprint, **header})
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(
                    file, allow_pickle=False, **{HEADER: np.frombuffer(text.encode(), np.uint8)}, **arrays
                )
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise PassError(
                f"the checkpoint {self._path} cannot be written: {error.strerror or error}",
                next_step="free some space, or choose another working folder",
            ) from error

    def load(
        self, expected: Arrays, check: Callable[[dict[str, Any], Arrays], None]
    ) -> tuple[dict[str, Any], Arrays] | None:
        """(header, arrays), or None with a note where there is none that fits: absent, damaged, of another training.

        expected: arrays that must be there, in these shapes and types; others may be. check(header, arrays) raises ValueError,
        KeyError or TypeError where their content cannot be.
        """
        if not self._path.is_file():
            return None
        try:
            header, arrays = self._read()
            if header.get("version") != VERSION or header.get("fingerprint") != self._fingerprint:
                print_note(
                    f"{self._path} is of another training (settings or network differ): training starts over"
                )
                return None
            for name, array in expected.items():
                if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                    raise ValueError(f"its {name} is {arrays[name].dtype} {arrays[name].shape}")
            check(header, arrays)
        except _DAMAGE as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            print_note(f"{self._path} is damaged ({first[:100]}): training starts over")
            return None
        return header, arrays

    def _read(self) -> tuple[dict[str, Any], Arrays]:
        with zipfile.ZipFile(self._path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if sum(sizes.values()) > MAX_BYTES or sizes.get(f"{HEADER}.npy", 0) > MAX_HEADER_BYTES:
            raise ValueError("larger than any checkpoint")
        with np.load(self._path, allow_pickle=False) as archive:
            header = dict(json.loads(archive[HEADER].tobytes().decode()))
            return header, {name: archive[name] for name in archive.files if name != HEADER}

    def remove(self) -> None:
        """The training is done."""
        self._path.unlink(missing_ok=True)
        self._path.with_name(f".{self._path.name}.part").unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable (POSIX: the folder is a file of its own)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
