"""The tensorrt module: found, or told how to get it; what differs between its releases; its one logger."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeai.errors import EngineUnavailableError, first_line
from edgeai.hardware import nvidia_driver, read_l4t

log = logging.getLogger("edgeai")

OLDEST = (8, 5)
# the last release that knows the DLA of Xavier and Orin, and the one that knows it again, on AGX Orin (NVIDIA's guide to 11.4.1)
_DLA_UNTIL, _DLA_AGAIN = (10, 7), (11, 4, 1)
# NVIDIA's drivers of this branch and later run what is built for CUDA 13, those before only CUDA 12 (its compatibility guide)
_CUDA_13_DRIVER = 580
_KEPT_ERRORS = 8


@dataclass(frozen=True, slots=True)
class TensorRT:
    """The module, its version as numbers, and the logger that all its objects of this process share."""

    module: Any
    version: tuple[int, ...]
    logger: Any

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))

    def why(self) -> str:
        """What TensorRT logged as errors since it was last asked, in one line."""
        told = list(dict.fromkeys(self.logger.errors))
        self.logger.errors.clear()
        return "; ".join(told)[:400] or "it does not say why"


@cache
def load_tensorrt() -> TensorRT:
    """TensorRT of this machine. Raises EngineUnavailableError with the command that brings it, or for one older than 8.5."""
    try:
        module = import_module("tensorrt")
    except Exception as error:  # absent, or its libraries are
        raise EngineUnavailableError(
            f"TensorRT cannot be imported ({first_line(error)})", next_step=install_line()
        ) from None
    return wrap(module)


def wrap(module: Any, *, version: tuple[int, ...] = ()) -> TensorRT:
    """A tensorrt module with its version and a logger. version: to take it for, its own where empty.

    Raises EngineUnavailableError for one that is older than 8.5.
    """
    if not version:
        version = tuple(
            int(part) for part in re.findall(r"\d+", str(getattr(module, "__version__", "0")))[:3]
        )
    if version < OLDEST:
        raise EngineUnavailableError(
            f"TensorRT {'.'.join(map(str, version))} is too old, 8.5 is the first that can be driven",
            next_step=install_line(),
        )
    logger = _logger(module)
    if hasattr(
        module, "init_libnvinfer_plugins"
    ):  # some operations of ONNX are plugins in 8; TensorRT for RTX has none
        module.init_libnvinfer_plugins(logger, "")
    return TensorRT(module, version, logger)


def has_dla(version: tuple[int, ...]) -> bool:
    """Whether a release of TensorRT builds for a DLA: up to 10.7, and from 11.4.1 on."""
    return version[:2] <= _DLA_UNTIL or version[:3] >= _DLA_AGAIN


def takes_dla(library: TensorRT, asked: Any, core: int) -> bool:
    """Whether a DLA core can be used. asked: a builder or runtime, which know how many there are."""
    return has_dla(library.version) and asked.num_DLA_cores > core


def install_line(root: Path = Path("/")) -> str:
    """The command that brings TensorRT to the machine whose files lie under `root`."""
    l4t = read_l4t(root)
    if l4t:
        return "sudo apt-get install -y python3-libnvinfer (JetPack's own), in an environment with --system-site-packages"
    driver = nvidia_driver(root)
    if driver is not None and driver < _CUDA_13_DRIVER:
        return f"pip install 'edgeai[tensorrt-cu12]' (driver {driver} is for CUDA 12)"
    return "pip install 'edgeai[tensorrt]'"


def _logger(module: Any) -> Any:
    """Keeps what is an error for whoever asks why, hands warnings to logging's debug level: TensorRT has many."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                self.errors = [*self.errors, " ".join(msg.split())][-_KEPT_ERRORS:]
            else:
                log.debug("TensorRT: %s", msg)

    return Logger()
