"""Which engine runs which file. One more kind of engine is one more line in `_OPENERS`, and its place in candidates.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edgeai.bundle import Bundle
from edgeai.bundle.golden import check_golden
from edgeai.bundle.manifest import FileEntry
from edgeai.engines.candidates import Candidate, Kind, named, order_candidates
from edgeai.engines.edges import EdgeEngine
from edgeai.engines.engine import Engine
from edgeai.engines.host import EngineHost
from edgeai.errors import EngineError, EngineUnavailableError

__all__ = [
    "Candidate",
    "EdgeEngine",
    "Engine",
    "EngineHost",
    "check_library",
    "named",
    "open_candidate",
    "open_engine",
    "open_file",
    "open_model_file",
    "order_candidates",
    "skipped_line",
]

log = logging.getLogger("edgeai")


def _open_tflite(path: Path, entry: FileEntry | None, host: EngineHost, threads: int) -> Engine:
    from edgeai.engines.tflite import TfliteEngine

    return TfliteEngine(path, threads=threads)


def _open_onnx(path: Path, entry: FileEntry | None, host: EngineHost, threads: int) -> Engine:
    from edgeai.engines.onnx import OnnxEngine

    return OnnxEngine(path, threads=threads, max_batch=host.max_batch, arena=not host.small_memory)


def _open_onnx_cuda(path: Path, entry: FileEntry | None, host: EngineHost, threads: int) -> Engine:
    from edgeai.engines.onnx import OnnxEngine
    from edgeai.engines.onnx_gpu import cuda_provider

    return OnnxEngine(path, threads=threads, max_batch=host.max_batch, provider=cuda_provider(host))


def _open_onnx_tensorrt(path: Path, entry: FileEntry | None, host: EngineHost, threads: int) -> Engine:
    from edgeai.engines.onnx import OnnxEngine
    from edgeai.engines.onnx_gpu import tensorrt_provider

    precision = str(entry.precision) if entry is not None else "float32"
    provider = tensorrt_provider(host, precision)
    return OnnxEngine(path, threads=threads, max_batch=host.max_batch, provider=provider)


def _open_plan(path: Path, entry: FileEntry | None, host: EngineHost, threads: int) -> Engine:
    if path.suffix == ".plan":
        from edgeai.engines.tensorrt import TensorrtEngine, read_plan

        return TensorrtEngine(read_plan(path), name=path.name, cuda_graph=host.cuda_graph)
    from edgeai.engines.plans.provide import open_built

    return open_built(path, entry, host)


_OPENERS: dict[Kind, Callable[[Path, FileEntry | None, EngineHost, int], Engine]] = {
    "tflite": _open_tflite,
    "onnx": _open_onnx,
    "onnx+cuda": _open_onnx_cuda,
    "onnx+tensorrt": _open_onnx_tensorrt,
    "plan": _open_plan,
}
_KIND_OF_SUFFIX: dict[str, Kind] = {".tflite": "tflite", ".onnx": "onnx", ".plan": "plan"}


def open_engine(
    bundle: Bundle, *, host: EngineHost | None = None, file: str | None = None, threads: int = 1
) -> EdgeEngine:
    """Open the best engine of a bundle that runs here; its label and reason say which and why.

    file: use this one, as order_candidates says. host: this device; without, what runs on the CPU.

    Raises EngineError where `file` names nothing, EngineUnavailableError with all that was tried where no library can
    run any file, GoldenMismatchError where the host asks for the golden outputs and they do not come, EngineError where a
    file itself is at fault.
    """
    host = host or EngineHost()
    order = order_candidates(bundle, host=host, file=file, threads=threads)
    tried = []
    for candidate in order.candidates:
        try:
            engine = open_candidate(bundle, candidate, host=host, threads=threads)
        except EngineUnavailableError as error:
            tried.append(skipped_line(candidate, error))
            continue
        passed = f"; passed over: {' | '.join(tried)}" if tried else ""
        engine.reason = f"chosen by {order.reason}{passed}"
        log.debug("%s runs %s, %s", bundle.name, candidate.label, engine.reason)
        return engine
    if not tried:
        tried = [
            f"{order.reason} lists no format of {', '.join(e.path for e in bundle.manifest.engine_files)}"
        ]
    raise EngineUnavailableError(f"bundle {bundle.name}: no engine file can be run here: {' | '.join(tried)}")


def open_candidate(
    bundle: Bundle, candidate: Candidate, *, host: EngineHost | None = None, threads: int = 1
) -> EdgeEngine:
    """Open one candidate, and compare it with the golden outputs where the host asks for that.

    Raises EngineError and its children, GoldenMismatchError.
    """
    host = host or EngineHost()
    entry = candidate.entry
    engine = _OPENERS[candidate.kind](bundle.path(entry), entry, host, threads)
    try:
        edges = EdgeEngine(engine, bundle.manifest.input, file=entry, label=candidate.label)
        if host.verify:
            check_golden(bundle, entry, edges)
            edges.reset()
    except BaseException:
        engine.close()
        raise
    return edges


def check_library(kind: Kind, host: EngineHost) -> None:
    """Raise EngineUnavailableError where what runs a kind is not on this machine; nothing is opened or built."""
    if kind == "tflite":
        from edgeai.engines.tflite import tflite_library

        tflite_library()
    elif kind == "plan":
        from edgeai.engines.plans.provide import check_tensorrt

        check_tensorrt(host)
    else:
        from edgeai.engines.onnx import check_provider
        from edgeai.engines.onnx_gpu import cuda_provider, tensorrt_provider

        makers = {"onnx+cuda": cuda_provider, "onnx+tensorrt": tensorrt_provider}
        check_provider(makers[kind](host) if kind in makers else None)


def open_file(bundle: Bundle, entry: FileEntry, *, threads: int = 1) -> EdgeEngine:
    """Open one engine file with the plain library of its format. Raises EngineError and its children."""
    return open_candidate(bundle, named(bundle, entry.path)[0], threads=threads)


def skipped_line(candidate: Candidate, error: EngineUnavailableError) -> str:
    """Why a candidate was passed over, with its name once."""
    name = Path(candidate.entry.path).name
    said = str(error).removeprefix(f"{name}: ")
    return f"{name} ({candidate.label}): {said}"


def open_model_file(path: str | Path, *, threads: int = 1) -> Engine:
    """Open a .tflite, .onnx or .plan file that is in no bundle, by its ending. Raises EngineError and its children."""
    path = Path(path)
    kind = _KIND_OF_SUFFIX.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(_KIND_OF_SUFFIX)
        raise EngineError(f"{path.name}: unknown kind of model", next_step=f"known are {known}")
    return _OPENERS[kind](path, None, EngineHost(), threads)
