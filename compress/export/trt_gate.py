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
from edgeai.engines.plans.build import PlanSettings, build_plan
from edgeai.engines.plans.library import TensorRT, wrap
from edgeai.errors import EdgeError, EngineError, PassError

COMPUTE_CAPABILITIES = ("SM80", "SM86", "SM89")
_RTX_IS_LIKE = (11, 0, 0)  # typed as the file is, its own version numbers begin at 1


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
    errors, engines = _build(data, "int8" if quantized else "float32", compute_capabilities)
    return GateReport((), tuple(errors), engines, time.monotonic() - began)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PassError(f"{path}: cannot be read ({error.strerror or error})") from error


def _build(data: bytes, precision: str, capabilities: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """The runtime's own way from ONNX to a plan, as on a device, for each of the compute capabilities."""
    library = _tensorrt()
    engines: dict[str, int] = {}
    for name in capabilities:
        capability = getattr(library.module.ComputeCapability, name, None)
        if capability is None:
            raise EdgeError(
                f"TensorRT for RTX {library.module.__version__} builds for no compute capability {name!r}"
            )

        def target(config: Any, capability: Any = capability) -> None:
            config.num_compute_capabilities = 1
            config.set_compute_capability(capability, 0)

        settings = PlanSettings(precision)
        try:
            built = build_plan(library, data, settings, name=name, configure=target, quiet=True)
        except EngineError as error:
            return [str(error)], engines
        engines[name] = len(built.plan)
    return [], engines


@cache
def _tensorrt() -> TensorRT:
    try:
        import tensorrt_rtx_bindings as trt
    except (ImportError, OSError) as error:
        raise EdgeError(
            "TensorRT's parser and builder are not installed", next_step="pip install 'edgeai[trt-check]'"
        ) from error
    return wrap(trt, version=_RTX_IS_LIKE)
