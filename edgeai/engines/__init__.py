"""Which engine runs which file. One more kind of engine is one more line in `_OPENERS` and `_ORDER`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import FileEntry
from edgeai.engines.edges import EdgeEngine
from edgeai.engines.engine import Engine
from edgeai.errors import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from edgeai.profile import Profile

__all__ = [
    "EdgeEngine",
    "Engine",
    "engine_order",
    "open_engine",
    "open_file",
    "open_model_file",
    "skipped_line",
]


def _open_tflite(path: Path, threads: int) -> Engine:
    from edgeai.engines.tflite import TfliteEngine

    return TfliteEngine(path, threads=threads)


def _open_onnx(path: Path, threads: int) -> Engine:
    from edgeai.engines.onnx import OnnxEngine

    return OnnxEngine(path, threads=threads)


def _open_plan(path: Path, threads: int) -> Engine:
    raise EngineUnavailableError(
        f"{path.name}: TensorRT plans cannot be run yet", next_step="use the bundle's .tflite or .onnx"
    )


_OPENERS: dict[str, Callable[[Path, int], Engine]] = {
    "tflite": _open_tflite,
    "onnx": _open_onnx,
    "plan": _open_plan,
}

# fastest first on a CPU, one thread (MobileNet-like at 96x96: int8 0.30 ms, float16 0.70, float32 0.71, dynamic 1.01)
_ORDER = (
    ("tflite", "int8"),
    ("tflite", "float16"),
    ("tflite", "float32"),
    ("tflite", "dynamic"),
    ("tflite", "int4"),
    ("tflite", "int16x8"),
    ("onnx", "int8"),
    ("onnx", "float32"),
    ("onnx", "float16"),
    ("onnx", "dynamic"),
    ("plan", "int8"),
    ("plan", "float16"),
    ("plan", "float32"),
)


def open_engine(
    bundle: Bundle, *, profile: Profile | None = None, file: str | None = None, threads: int = 1
) -> EdgeEngine:
    """Open the best engine file of a bundle that the installed libraries can run.

    file: use this one: a path in the bundle, a format ("onnx") or a format and precision ("tflite/float32").
    profile: files of a format that it does not list are passed over.

    Raises BundleError where `file` names nothing, EngineUnavailableError with all that was tried where no library
    can run any file, EngineError where the file itself is at fault.
    """
    tried = []
    formats = _OPENERS if profile is None else profile.formats.value
    for entry in engine_order(bundle, file=file):
        if entry.format not in formats:
            tried.append(f"{entry.path}: the profile {profile.name if profile else ''} has no {entry.format}")
            continue
        try:
            return open_file(bundle, entry, threads=threads)
        except EngineUnavailableError as error:
            tried.append(skipped_line(entry, error))
    raise EngineUnavailableError(f"bundle {bundle.name}: no engine file can be run here: {' | '.join(tried)}")


def engine_order(bundle: Bundle, *, file: str | None = None) -> list[FileEntry]:
    """The bundle's engine files in the order of preference, or those that `file` names."""
    entries = sorted(bundle.manifest.engine_files, key=_rank)
    if file is None:
        return entries
    chosen = [e for e in entries if file in {e.path, e.format, f"{e.format}/{e.precision}"}]
    if not chosen:
        there = ", ".join(f"{entry.path} ({entry.format}/{entry.precision})" for entry in entries)
        raise EngineError(f"bundle {bundle.name} has no engine file {file!r}", next_step=f"there are {there}")
    return chosen


def skipped_line(entry: FileEntry, error: EngineUnavailableError) -> str:
    """Why a file was passed over, with its name once."""
    name = Path(entry.path).name
    return str(error) if str(error).startswith(name) else f"{entry.path}: {error}"


def open_file(bundle: Bundle, entry: FileEntry, *, threads: int = 1) -> EdgeEngine:
    """Open one engine file of a bundle. Raises EngineError and its children."""
    engine = _OPENERS[str(entry.format)](bundle.path(entry), threads)
    try:
        return EdgeEngine(engine, bundle.manifest.input, file=entry)
    except EngineError:
        engine.close()
        raise


def open_model_file(path: str | Path, *, threads: int = 1) -> Engine:
    """Open a .tflite or .onnx file that is in no bundle, by its ending. Raises EngineError and its children."""
    path = Path(path)
    opener = _OPENERS.get(path.suffix.lower().removeprefix("."))
    if opener is None:
        raise EngineError(f"{path.name}: unknown kind of model", next_step="known are .tflite, .onnx")
    return opener(path, threads)


def _rank(entry: FileEntry) -> int:
    kind = (str(entry.format), str(entry.precision))
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
