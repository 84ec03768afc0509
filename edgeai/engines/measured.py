"""What `edgeai bench engines --save` measured on this machine: the table by which an engine is chosen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import Settings
from edgeai.hardware import library_versions, machine_key
from edgeai.whole_file import write_whole

TABLE_NAME = "measured.json"
_MAX_BYTES = 4 << 20
_MAX_ROWS = 500
_LIBRARIES = ("litert", "tflite-runtime", "onnxruntime", "tensorrt")


class MeasuredEngines(Settings):
    """What one bundle's engines took. p50_ms: {"tflite/int8": milliseconds of one call, 50th percentile}.

    model: of the bundle's engine files (`bundle_key`). machine and libraries: a table of another machine or of other
    versions says nothing here.
    """

    bundle: str
    model: str
    machine: str
    libraries: dict[str, str | None]
    threads: Annotated[int, Field(ge=1)]
    date: str
    p50_ms: dict[str, Annotated[float, Field(gt=0)]]


class _Table(Settings):
    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    rows: tuple[MeasuredEngines, ...] = ()


def find_measured(cache: Path, bundle: Bundle, *, threads: int) -> MeasuredEngines | None:
    """The newest row for this bundle, machine, libraries and number of threads; None where there is none.

    A table that cannot be read counts as none: it is only ever a faster guess.
    """
    model = bundle_key(bundle)
    rows = [row for row in _read(cache / TABLE_NAME).rows if (row.model, row.threads) == (model, threads)]
    if (
        not rows
    ):  # most devices have no table, and what follows costs each start of an engine some milliseconds
        return None
    here = (machine_key(), engine_libraries())
    return next((row for row in reversed(rows) if (row.machine, row.libraries) == here), None)


def save_measured(
    cache: Path, bundle: Bundle, p50_ms: Mapping[str, float], *, threads: int, date: str
) -> Path:
    """Put a row in place of an older one of the same bundle, machine, libraries and threads; the table's path.

    Raises DataError where the table cannot be written.
    """
    row = MeasuredEngines(
        bundle=bundle.name,
        model=bundle_key(bundle),
        machine=machine_key(),
        libraries=engine_libraries(),
        threads=threads,
        date=date,
        p50_ms=dict(p50_ms),
    )
    path = cache / TABLE_NAME
    same = (row.model, row.machine, row.libraries, row.threads)
    kept = [r for r in _read(path).rows if (r.model, r.machine, r.libraries, r.threads) != same]
    table = _Table(rows=(*kept, row)[-_MAX_ROWS:])
    return write_whole(path, table.model_dump_json(by_alias=True, indent=1))


def bundle_key(bundle: Bundle) -> str:
    """A digest of what a bundle's engine files hold."""
    hashes = sorted(entry.sha256 for entry in bundle.manifest.engine_files)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def engine_libraries() -> dict[str, str | None]:
    """The versions that decide how fast an engine is, None where not installed."""
    versions = library_versions()
    return {name: None if (v := versions[name]) is None else str(v) for name in _LIBRARIES}


def _read(path: Path) -> _Table:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        return _Table.model_validate(json.loads(content[:_MAX_BYTES]))
    except (OSError, ValueError, ValidationError):
        return _Table()
