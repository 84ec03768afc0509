"""Batches on disk: one .npy file for each of their arrays, mapped into memory, as small as is exact enough.

A folder is there whole or not at all. Each array of each batch has a checksum: one that was damaged is noticed when it is
read, and given as None, to be made anew.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.train.batches import Batch
from edgeai.console import print_note
from edgeai.errors import PassError

VERSION = 1
HEADER = "batches.json"
MAX_HEADER_BYTES = 64 << 20
# float16 holds 11 bits: enough for features, pixels and logits, too few for a box's corner in a large picture
RELATIVE, TINY, ABSOLUTE = 1e-3, 1e-6, 2e-3
TARGETS = "targets"

_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError)


class KeptBatches:
    """`count` batches in a folder. Any thread may read."""

    def __init__(self, leaves: list[dict[str, Any]], arrays: list[NDArray[Any]], count: int) -> None:
        self._leaves, self._arrays, self.count = leaves, arrays, count
        self._told = False

    @classmethod
    def load(cls, folder: Path, key: str) -> KeptBatches | None:
        """What is kept in `folder` under `key`; None, with a note where there is something else, to be made anew."""
        if not (folder / HEADER).is_file():
            return None
        try:
            if (folder / HEADER).stat().st_size > MAX_HEADER_BYTES:
                raise ValueError("its header is larger than any")
            header = json.loads((folder / HEADER).read_text())
            if header["version"] != VERSION or header["key"] != key:
                print_note(f"{folder} keeps batches of another training or teacher: they are made anew")
                return None
            leaves, count = list(header["leaves"]), int(header["count"])
            arrays = [_mapped(folder / f"{n}.npy", leaf, count) for n, leaf in enumerate(leaves)]
        except _DAMAGE as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            print_note(f"{folder} is damaged ({first[:100]}): its batches are made anew")
            return None
        return cls(leaves, arrays, count)

    def read(self, number: int) -> Batch | None:
        """Batch `number` as it was made; None, with a note the first time, where it is damaged."""
        values = []
        for leaf, array in zip(self._leaves, self._arrays, strict=True):
            stored = np.array(array[number])
            if _checksum(stored) != leaf["sums"][number]:
                if not self._told:
                    print_note(f"a kept batch ({number}) is damaged: it is made anew")
                self._told = True
                return None
            values.append(stored.astype(leaf["dtype"], copy=False))
        return _nested([leaf["path"] for leaf in self._leaves], values)


def write_batches(folder: Path, key: str, make: Callable[[], Batch], count: int) -> KeptBatches:
    """Keep the next `count` batches of `make` in `folder`, in the place of whatever is there.

    Raises PassError where the disk does not take them, and what `make` raises; `folder` is then as it was.
    """
    part = folder.with_name(f".{folder.name}.part")
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / HEADER).exists())
    ):
        raise PassError(f"{folder} holds something else than kept batches", next_step="choose another folder")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        leaves = _write(part, make, count)
        text = json.dumps({"version": VERSION, "key": key, "count": count, "leaves": leaves})
        (part / HEADER).write_text(text)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise PassError(
            f"the batches cannot be kept in {folder}: {error.strerror or error}",
            next_step="free some space, or choose another working folder",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    kept = KeptBatches.load(folder, key)
    if kept is None:
        raise PassError(f"the batches kept in {folder} cannot be read back", next_step="check the disk")
    return kept


def batch_bytes(batch: Batch) -> int:
    """What one batch takes on disk."""
    return sum(value.astype(_stored_type(path, value)).nbytes for path, value in _leaves(batch))


def _write(folder: Path, make: Callable[[], Batch], count: int) -> list[dict[str, Any]]:
    leaves: list[dict[str, Any]] = []
    arrays: list[NDArray[Any]] = []
    for number in range(count):
        made = list(_leaves(make()))
        if number == 0:
            for n, (path, value) in enumerate(made):
                arrays.append(_file(folder / f"{n}.npy", _stored_type(path, value), (count, *value.shape)))
                leaves.append({"path": path, "dtype": str(value.dtype), "sums": [0] * count})
        _check_same(leaves, arrays, made, number)
        for n, (path, value) in enumerate(made):
            wider = np.promote_types(arrays[n].dtype, _stored_type(path, value))
            if wider != arrays[n].dtype:  # pixels in one batch were whole numbers by chance
                arrays[n] = _widened(folder, n, arrays[n], wider, leaves[n]["sums"], number)
            arrays[n][number] = value
            leaves[n]["sums"][number] = _checksum(arrays[n][number])
    for leaf, array in zip(leaves, arrays, strict=True):
        if isinstance(array, np.memmap):
            array.flush()
        leaf["stored"] = str(array.dtype)
    return leaves


def _widened(
    folder: Path, n: int, array: NDArray[Any], dtype: np.dtype[Any], sums: list[int], done: int
) -> NDArray[Any]:
    """The same batches in another file of a wider type, in the place of the old one."""
    path, part = folder / f"{n}.npy", folder / f"{n}.part.npy"
    wide = _file(part, dtype, array.shape)
    for number in range(done):
        wide[number] = array[number]
        sums[number] = _checksum(wide[number])
    part.replace(path)  # the mapping follows the file, not its name
    return wide


def _check_same(
    leaves: list[dict[str, Any]], arrays: list[NDArray[Any]], made: list[tuple[list[str], Any]], number: int
) -> None:
    known = [(leaf["path"], a.shape[1:], leaf["dtype"]) for leaf, a in zip(leaves, arrays, strict=True)]
    if known != [(path, value.shape, str(value.dtype)) for path, value in made]:
        raise PassError(f"batch {number} has other arrays than the first one: such batches cannot be kept")


def _stored_type(path: list[str], value: NDArray[Any]) -> np.dtype[Any]:
    """The smallest type that is exact enough for it."""
    if value.dtype != np.float32 or not value.size:
        return value.dtype
    if value.min() >= 0 and value.max() <= 255 and np.array_equal(np.rint(value), value):
        return np.dtype(np.uint8)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(value.astype(np.float16).astype(np.float32) - value)
    allowed = ABSOLUTE if path[0] == TARGETS else RELATIVE * np.abs(value) + TINY
    # a value that is no number fails here, and is kept as it is: whoever looks for it will find it
    return np.dtype(np.float16) if bool((error <= allowed).all()) else value.dtype


def _file(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    return array


def _mapped(path: Path, leaf: dict[str, Any], count: int) -> NDArray[Any]:
    """Raises ValueError or OSError where it is not what the header says."""
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    names = leaf["path"]
    np.dtype(leaf["dtype"])
    if str(array.dtype) != leaf["stored"] or array.shape[:1] != (count,) or len(leaf["sums"]) != count:
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}")
    if not count or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("its header names nothing")
    return array


def _checksum(array: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def _leaves(batch: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[list[str], NDArray[Any]]]:
    """(path, array) of each array in a nest of dicts."""
    if isinstance(batch, dict):
        for name, value in batch.items():
            yield from _leaves(value, (*path, str(name)))
    else:
        yield list(path), np.asarray(batch)


def _nested(paths: list[list[str]], values: list[NDArray[Any]]) -> Batch:
    batch: Batch = {}
    for path, value in zip(paths, values, strict=True):
        inner = batch
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return batch
