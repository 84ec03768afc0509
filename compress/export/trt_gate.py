"""NVIDIA's own parser and builder on a CPU: whether TensorRT will take an ONNX file, without a GPU.

Through the wheels of TensorRT for RTX (extra `trt-check`), whose parser and builder need no driver. What is built is thrown
away: it is for other GPUs than a Jetson's. Their licence is NVIDIA's; nothing of them is shipped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compress.export.qdq_lint import Fault, lint_qdq
from edgeai.errors import EdgeError, PassError

COMPUTE_CAPABILITIES = ("SM80", "SM86", "SM89")


@dataclass(frozen=True)
class GateReport:
    """faults: of the linter, which is asked first; with any, nothing is built. errors: of the parser or builder. engines:
    {compute capability: bytes}. seconds: of parsing and building.
    """

    faults: tuple[Fault, ...]
    errors: tuple[str, ...]
    engines: dict[str, int]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.faults and not self.errors

    def to_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "faults": [{"rule": f.rule, "node": f.node, "text": f.text} for f in self.faults],
            "errors": list(self.errors),
            "engines": self.engines,
            "seconds": round(self.seconds, 2),
        }


def check_for_tensorrt(
    content: bytes | Path,
    *,
    compute_capabilities: Sequence[str] = COMPUTE_CAPABILITIES,
    quantized: bool = True,
) -> GateReport:
    """Lint, parse and build an ONNX file. quantized: whether it is meant to hold Q/DQ; else the linter is not asked.

    Raises PassError for a file that is no ONNX model, EdgeError where the extra is not installed or does not know a compute
    capability.
    """
    began = time.monotonic()
    data = _read(content) if isinstance(content, Path) else content
    faults = tuple(lint_qdq(data)) if quantized else ()
    if faults:
        return GateReport(faults, (), {}, time.monotonic() - began)
    errors, engines = _build(data, compute_capabilities)
    return GateReport((), tuple(errors), engines, time.monotonic() - began)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PassError(f"{path}: cannot be read ({error.strerror or error})") from error


def _build(data: bytes, compute_capabilities: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    trt, logger = _tensorrt()
    logger.errors.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        return [parser.get_error(n).desc() for n in range(parser.num_errors)] or list(logger.errors), {}
    engines: dict[str, int] = {}
    for name in compute_capabilities:
        capability = getattr(trt.ComputeCapability, name, None)
        if capability is None:
            raise EdgeError(f"TensorRT for RTX {trt.__version__} builds for no compute capability {name!r}")
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            return [f"{name}: {text}" for text in logger.errors] or [f"{name}: no engine was built"], engines
        engines[name] = int(engine.nbytes)
    return [], engines


@cache
def _tensorrt() -> tuple[Any, Any]:
    """The bindings, and the one logger that a process may have."""
    try:
        import tensorrt_rtx_bindings as trt
    except (ImportError, OSError) as error:
        raise EdgeError(
            "TensorRT's parser and builder are not installed", next_step="pip install 'edgeai[trt-check]'"
        ) from error

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return trt, Logger()
