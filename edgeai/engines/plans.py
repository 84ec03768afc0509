"""TensorRT plans."""

from __future__ import annotations

from pathlib import Path

from edgeai.bundle.manifest import FileEntry
from edgeai.engines.host import EngineHost
from edgeai.errors import EngineUnavailableError


def provide_plan(path: Path, entry: FileEntry | None, host: EngineHost) -> bytes:
    """The plan of an ONNX file."""
    raise EngineUnavailableError("TensorRT is not installed")
