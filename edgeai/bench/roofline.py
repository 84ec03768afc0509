"""The roofline: what a model asks of a machine, what the machine can give, and how near an engine comes.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures", 2009: one
inference cannot take less than its multiply-accumulates at the machine's peak, nor less than its bytes at the machine's
bandwidth. Bytes are those that the operations read and write (edgeai.bench.graph); the bandwidth is that of a copy as large
as the largest operation, since small models live in caches, where the memory's own bandwidth is no limit. An engine that
joins operations moves less than counted and can be above 100 % where bytes are the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeai.bench.graph import GraphWork, count_tflite
from edgeai.bench.peaks import MEMORY_BYTES
from edgeai.bundle import Bundle
from edgeai.bundle.bundle import verify_file
from edgeai.bundle.manifest import FileEntry, Manifest
from edgeai.errors import BundleHashError, EngineError
from edgeai.metrics import Measurement
from edgeai.types import JsonValue

Arithmetic = Literal["float32", "int8"]
_INT8 = ("int8", "int4", "int16x8", "dynamic")
_SMALLEST_COPY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Work:
    """What one inference of an engine file asks for. source: where that is known from.

    macs: multiply-accumulates. bytes: read and written by all operations. largest_bytes: by the largest.
    """

    arithmetic: Arithmetic
    macs: int
    bytes: int
    largest_bytes: int
    source: str

    @property
    def copy_bytes(self) -> int:
        """The size of the copy whose bandwidth is this work's: the next power of two, so that a few serve all."""
        return min(MEMORY_BYTES, max(_SMALLEST_COPY_BYTES, 1 << (self.largest_bytes - 1).bit_length()))


@dataclass(frozen=True, slots=True)
class Limit:
    """The least milliseconds that a machine's peaks allow for a work, and what sets them.

    percent: of it reached by an engine that takes `ms`.
    """

    work: Work
    compute_ms: float
    memory_ms: float
    ms: float

    @property
    def least_ms(self) -> float:
        return max(self.compute_ms, self.memory_ms)

    @property
    def bound(self) -> Literal["compute", "memory"]:
        return "compute" if self.compute_ms >= self.memory_ms else "memory"

    @property
    def percent(self) -> float:
        return 100 * self.least_ms / self.ms

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each byte."""
        return self.work.macs / max(1, self.work.bytes)

    @property
    def gmacs(self) -> float:
        """Billions of multiply-accumulates in a second, reached."""
        return self.work.macs / self.ms / 1e6

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "macs": self.work.macs,
            "bytes": self.work.bytes,
            "counted_from": self.work.source,
            "arithmetic": self.work.arithmetic,
            "macs_per_byte": round(self.intensity, 3),
            "gmacs": round(self.gmacs, 3),
            "compute_ms": round(self.compute_ms, 5),
            "memory_ms": round(self.memory_ms, 5),
            "least_ms": round(self.least_ms, 5),
            "bound": self.bound,
            "percent": round(self.percent, 1),
        }


def work_of(bundle: Bundle, entry: FileEntry) -> Work | None:
    """What an engine file asks for; None where it cannot be known.

    A TFLite file is counted itself. Another's numbers are those of the bundle's TFLite file of the nearest precision, the same
    network, in the bytes of its own type; without one, the manifest's multiply-accumulates and weights alone.
    """
    arithmetic: Arithmetic = "int8" if entry.precision in _INT8 else "float32"
    size_bytes = 1 if arithmetic == "int8" else 4
    for sibling in _tflite_siblings(bundle, entry):
        try:
            verify_file(bundle.folder, sibling)
            work = count_tflite(bundle.path(sibling))
        except (EngineError, BundleHashError, OSError):
            continue
        if sibling == entry:
            return Work(arithmetic, work.macs, work.bytes, work.largest_bytes, entry.path)
        return _as_type(work, arithmetic, size_bytes, sibling.path)
    parameters, macs = recorded_cost(bundle.manifest) or (0, 0)
    if macs > 0 and parameters > 0:
        weights = parameters * size_bytes
        return Work(arithmetic, macs, weights, weights, "the manifest, weights alone")
    return None


def recorded_cost(manifest: Manifest) -> tuple[int, int] | None:
    """(parameters, multiply-accumulates) after the last pass that counted both and was not undone; None without one."""
    passes = manifest.provenance.get("passes")
    for row in reversed(passes if isinstance(passes, list) else []):
        if isinstance(row, dict) and row.get("kept", True):
            parameters, macs = row.get("parameters"), row.get("macs")
            if isinstance(parameters, int) and isinstance(macs, int):
                return parameters, macs
    return None


def limit_of(work: Work, ms: float, peaks: Mapping[str, Measurement]) -> Limit | None:
    """peaks: by name, as measure_peaks gives them; None where the peak of this work's arithmetic is not among them."""
    compute = peaks.get(f"peak_{work.arithmetic}_gmacs")
    bandwidth = peaks.get(f"bandwidth_{work.copy_bytes}_gbs")
    if compute is None or bandwidth is None or ms <= 0:
        return None
    return Limit(work, work.macs / compute.p99 / 1e6, work.bytes / bandwidth.p99 / 1e6, ms)


def copies_of(works: Sequence[Work]) -> list[int]:
    """The sizes of copies whose bandwidth is needed, the memory's among them."""
    return sorted({MEMORY_BYTES, *(work.copy_bytes for work in works)})


def _as_type(work: GraphWork, arithmetic: Arithmetic, size_bytes: int, path: str) -> Work:
    numbers = work.weights + work.activations
    return Work(arithmetic, work.macs, numbers * size_bytes, work.largest * size_bytes, path)


def _tflite_siblings(bundle: Bundle, entry: FileEntry) -> list[FileEntry]:
    tflite = [each for each in bundle.manifest.engine_files if each.format == "tflite"]
    integer = entry.precision in _INT8
    return sorted(tflite, key=lambda each: (each != entry, (each.precision in _INT8) != integer))
