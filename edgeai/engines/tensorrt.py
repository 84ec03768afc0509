"""TensorRT plans behind the Engine interface."""

from __future__ import annotations

from edgeai.engines.engine import Engine
from edgeai.errors import EngineUnavailableError


class TensorrtEngine(Engine):
    """A serialized plan."""

    def __init__(self, plan: bytes, *, name: str, cuda_graph: bool = False) -> None:
        raise EngineUnavailableError(f"{name}: TensorRT is not installed")
