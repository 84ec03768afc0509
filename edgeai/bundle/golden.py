"""Golden outputs: what the float reference gave for one input, kept in the bundle and compared on every device.

The file is a .npz without pickles: `input` holds the model's edge-level input ((H, W, 3) uint8, or float32
features), every other array a float32 output by its name.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.bundle import Bundle
from edgeai.bundle.manifest import FileEntry
from edgeai.errors import BundleError, GoldenMismatchError
from edgeai.types import Array, TensorSpec

MAX_GOLDEN_BYTES = 64 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DTYPES = ("uint8", "float32")


class Runs(Protocol):
    """What edgeai.engines.EdgeEngine is seen from here: engines are a layer above."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True)
class Golden:
    """input: uint8 picture or float32 features; outputs: float32, by name."""

    input: Array
    outputs: dict[str, NDArray[np.float32]]


def make_golden(engine: Runs, array: Array) -> bytes:
    """The .npz file for one input of a reference engine (float32 where there is one); same bytes for same values."""
    outputs = engine.run({engine.inputs[0].name: array})
    if "input" in outputs:
        raise BundleError("an output is called 'input': rename it before making golden outputs")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in {"input": array, **outputs}.items():
            # a fixed date: the file is as reproducible as its values
            member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w") as file:
                np.lib.format.write_array(
                    file, np.ascontiguousarray(value), version=(1, 0), allow_pickle=False
                )
    return buffer.getvalue()


def read_golden(path: Path) -> Golden:
    """Read a golden file. Raises BundleError for one that is absent, broken, oversized or of other types."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MAX_GOLDEN_BYTES:
                raise BundleError(f"{path}: {total} bytes unpacked, the limit is {MAX_GOLDEN_BYTES}")
            arrays = {
                member.filename.removesuffix(".npy"): _read_array(archive, member) for member in members
            }
    except BundleError:
        raise
    except Exception as error:  # zipfile, zlib and numpy's header reader raise a dozen kinds on hostile bytes
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: no golden file ({reason})", next_step="copy the bundle again") from None
    array = arrays.pop("input", None)
    if array is None or not arrays:
        raise BundleError(f"{path}: must hold 'input' and at least one output, holds {sorted(arrays)}")
    wrong = [name for name, value in arrays.items() if value.dtype != np.float32]
    if wrong:
        raise BundleError(f"{path}: output {wrong[0]!r} is not float32")
    return Golden(array, {name: value.astype(np.float32, copy=False) for name, value in arrays.items()})


def check_golden(bundle: Bundle, entry: FileEntry, engine: Runs) -> dict[str, float]:
    """Run `engine` (of the file `entry`) on the golden input.

    Returns for each output its largest absolute error as a fraction of the golden output's range (max - min; its
    largest magnitude where the output is constant). A stateful model must be freshly opened.

    Raises GoldenMismatchError where one exceeds entry.tolerance, BundleError where the bundle has no golden file.
    """
    if bundle.manifest.golden is None:
        raise BundleError(f"bundle {bundle.name} has no golden file", next_step="export the bundle again")
    golden = read_golden(bundle.path(bundle.manifest.golden))
    got = engine.run({engine.inputs[0].name: golden.input})
    if len(got) == len(golden.outputs) == 1:  # one output needs no name: converters rename it as they like
        got = {next(iter(golden.outputs)): next(iter(got.values()))}
    where = f"bundle {bundle.name}, {entry.path}"
    if set(got) != set(golden.outputs):
        raise GoldenMismatchError(f"{where}: outputs are {sorted(got)}, golden are {sorted(golden.outputs)}")
    errors = {}
    for name, wanted in golden.outputs.items():
        if got[name].shape != wanted.shape:
            raise GoldenMismatchError(
                f"{where}: output {name!r} is {got[name].shape}, golden is {wanted.shape}"
            )
        errors[name] = relative_error(got[name], wanted)
        if not errors[name] <= entry.tolerance:
            raise GoldenMismatchError(
                f"{where}: output {name!r} is off by {errors[name]:.4f} of its range, allowed is {entry.tolerance}",
                next_step="another engine library or version? see `edgeai bundle verify`",
            )
    return errors


def relative_error(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Max |got - wanted| / (max - min of wanted); inf where either holds a NaN or an infinity."""
    if not wanted.size:
        return 0.0
    if not (np.isfinite(got).all() and np.isfinite(wanted).all()):
        return math.inf
    exact = wanted.astype(np.float64)
    span = float(np.ptp(exact)) or float(np.abs(exact).max()) or 1.0
    return float(np.abs(got - exact).max()) / span


def read_npy(file: IO[bytes], name: str) -> Array:
    """One .npy array, uint8 or float32 in C order, its header believed only as far as the bytes that are really there.

    On hostile bytes it raises whatever numpy's header reader does: ValueError, and a dozen kinds more.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} is of another .npy version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.name not in _DTYPES or not dtype.isnative or fortran:
        order = " in Fortran order" if fortran else ""
        raise ValueError(f"{name} is {dtype}{order}, must be one of {_DTYPES} in C order")
    data = file.read()
    if math.prod(shape) * dtype.itemsize != len(data) or min(shape, default=0) < 0:
        raise ValueError(f"{name} is cut: shape {shape}, {len(data)} bytes")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as file:
        return read_npy(file, member.filename)
