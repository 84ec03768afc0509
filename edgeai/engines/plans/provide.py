"""TensorRT plans of a bundle's ONNX files: built on the device that runs them, kept, and built again when they no longer fit."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from edgeai.bundle.manifest import FileEntry
from edgeai.engines.cuda import GpuFacts, load_cuda
from edgeai.engines.host import EngineHost
from edgeai.engines.plans.build import PlanSettings, build_plan
from edgeai.engines.plans.cache import PlanCache
from edgeai.engines.plans.library import TensorRT, load_tensorrt
from edgeai.engines.tensorrt import PlanRefusedError, TensorrtEngine
from edgeai.errors import EngineError, EngineUnavailableError, UsageError
from edgeai.hardware import read_l4t

log = logging.getLogger("edgeai")


@dataclass(frozen=True, slots=True)
class Target:
    """What plans are built for. A plan of another target is of no use, so all of it is in the key."""

    library: TensorRT
    gpu: GpuFacts
    l4t: str

    @property
    def facts(self) -> dict[str, str]:
        return {
            "tensorrt": self.library.text,
            "gpu": self.gpu.name,
            "sm": str(self.gpu.sm),
            "l4t": self.l4t,
        }


def open_built(path: Path, entry: FileEntry | None, host: EngineHost) -> TensorrtEngine:
    """An engine of an ONNX file through the plan that the host's cache keeps, or that is built now.

    Raises EngineUnavailableError without TensorRT, a GPU or a cache and where no plan can be made of the file, EngineError
    where the file cannot be read or the plan has no room to run.
    """
    target = check_tensorrt(host)
    try:
        onnx = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror or error})") from None
    precision = str(entry.precision) if entry is not None else "float32"
    settings = PlanSettings(
        precision, workspace_bytes=host.workspace_bytes, max_batch=host.max_batch, dla=host.dla
    )
    facts = {**target.facts, "onnx": hashlib.sha256(onnx).hexdigest(), "flags": settings.flags}
    cache = plan_cache(host)
    key = _digest(facts)

    def open_kept() -> TensorrtEngine:
        plan = cache.provide(
            key, lambda: _build(target, onnx, settings, cache, path.name), facts=dict(facts), name=path.name
        )
        return TensorrtEngine(plan, name=path.name, cuda_graph=host.cuda_graph, dla=host.dla)

    try:
        return open_kept()
    except (
        PlanRefusedError
    ) as error:  # whole, and still not for this driver or library: the key cannot know all
        log.warning("%s; it is built again", error)
        cache.forget(key)
        return open_kept()


def check_tensorrt(host: EngineHost) -> Target:
    """What plans are built for here. Raises EngineUnavailableError without TensorRT, a GPU, or a cache to keep them in."""
    if host.cache is None:
        raise EngineUnavailableError("a plan needs a folder to be kept in", next_step="give one with --cache")
    return Target(load_tensorrt(), load_cuda().gpu(), read_l4t())


def plan_cache(host: EngineHost) -> PlanCache:
    """The plans that a host keeps. Raises UsageError for one without a cache."""
    if host.cache is None:
        raise UsageError("plans need a folder to be kept in", next_step="give one with --cache")
    return PlanCache(host.cache, max_bytes=host.max_cache_bytes)


def _build(target: Target, onnx: bytes, settings: PlanSettings, cache: PlanCache, name: str) -> bytes:
    timing_key = _digest(target.facts)
    kept = cache.timing(timing_key)
    built = build_plan(target.library, onnx, replace(settings, timing=kept), name=name)
    if built.note:
        log.warning("%s: %s", name, built.note)
    if built.timing != kept:
        cache.keep_timing(timing_key, built.timing)
    return built.plan


def _digest(facts: dict[str, str]) -> str:
    text = "\n".join(f"{name}={value}" for name, value in sorted(facts.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:40]
