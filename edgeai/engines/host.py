"""What a device is to its engines: which of them it can run, where their caches lie, how much memory they may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeai.profile import Profile

# where a profile says nothing: what TensorRT asks for on an ordinary detector is a fraction of it
_WORKSPACE_BYTES = 1 << 30
_SHARED_PART = 8


@dataclass(frozen=True, slots=True)
class EngineHost:
    """The device that engines are opened on.

    profile: its facts; without, files are tried in the order for a CPU. cache: the folder of TensorRT's plans and of what
    `edgeai bench engines --save` measured; without, nothing is built and nothing measured is known. verify: compare an
    engine's answer with the bundle's golden one before it is used. dla: build plans for this DLA core (Jetson), None for
    the GPU. cuda_graph: replay a plan's launches as one CUDA graph. max_batch: inputs that an engine shall be able to run at
    once, where its file can. max_cache_bytes: the plans kept, the least recently used go first.
    """

    profile: Profile | None = None
    cache: Path | None = None
    verify: bool = False
    dla: int | None = None
    cuda_graph: bool = False
    max_batch: int = 1
    max_cache_bytes: int = 4 << 30

    @property
    def workspace_bytes(self) -> int:
        """Device memory that TensorRT's builder may use at once.

        An eighth of the RAM where GPU and CPU share it (Jetson; the smallest size sold under the profile), else 1 GiB.
        """
        ram_gb = self._smallest_ram_gb
        if ram_gb is None or not self.shares_memory:
            return _WORKSPACE_BYTES
        return (ram_gb << 30) // _SHARED_PART

    @property
    def shares_memory(self) -> bool:
        """Whether GPU and CPU use the same memory."""
        return self.profile is not None and self.profile.family == "jetson"

    @property
    def small_memory(self) -> bool:
        """Whether a library that holds memory back for its next call would be felt: 4 GB or less."""
        ram_gb = self._smallest_ram_gb
        return ram_gb is not None and ram_gb <= 4

    @property
    def _smallest_ram_gb(self) -> int | None:
        return min(self.profile.ram_gb.value) if self.profile is not None and self.profile.ram_gb else None
