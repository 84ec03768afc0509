"""What could run a bundle here, and in which order it is tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import FileEntry
from edgeai.engines.host import EngineHost
from edgeai.engines.measured import MeasuredEngines, find_measured
from edgeai.errors import EngineError

Kind = Literal["plan", "onnx+tensorrt", "onnx+cuda", "tflite", "onnx"]
"""A library and what it runs on: TensorRT, onnxruntime on TensorRT, CUDA or the CPU, LiteRT."""

KINDS: tuple[Kind, ...] = get_args(Kind)
GPU_KINDS = frozenset({"plan", "onnx+tensorrt", "onnx+cuda"})

# format of a bundle's file -> what runs it; TensorRT builds its plan from ONNX on the device
_KINDS_OF: Mapping[str, tuple[Kind, ...]] = {
    "plan": ("plan",),
    "onnx": ("plan", "onnx+tensorrt", "onnx+cuda", "onnx"),
    "tflite": ("tflite",),
}
# fastest first. On a CPU, one thread, MobileNet-like at 96x96: LiteRT int8 0.30 ms, float16 0.70, float32 0.71, dynamic 1.01.
# onnxruntime computes a Q/DQ model in float between its roundings: the zoo's take 1 to 10 times their float's time on a CPU
_PRECISIONS: Mapping[Kind, tuple[str, ...]] = {
    "plan": ("int8", "float16", "float32"),
    "onnx+tensorrt": ("int8", "float16", "float32"),
    "onnx+cuda": ("float16", "float32", "int8"),
    "tflite": ("int8", "float16", "float32", "dynamic", "int4", "int16x8"),
    "onnx": ("float32", "float16", "int8", "dynamic"),
}
# medians of the same engine from one hour to the next differ by as much
_AS_FAST = 1.05
# a DLA takes no Q/DQ: of an int8 file nothing would run on it
_DLA_PRECISIONS = ("float16", "int8", "float32")
_CPU_ORDER: tuple[Kind, ...] = ("tflite", "onnx", "plan", "onnx+tensorrt", "onnx+cuda")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file of a bundle and what would run it. kind "plan" with an ONNX file: TensorRT builds its plan from it."""

    kind: Kind
    entry: FileEntry

    @property
    def label(self) -> str:
        """As in "tflite/int8": what users name it by, and what it is called in figures."""
        return f"{self.kind}/{self.entry.precision}"


@dataclass(frozen=True, slots=True)
class Order:
    """Candidates, the first to be tried first, and what decided it, as in "chosen by the order of profile x86"."""

    candidates: tuple[Candidate, ...]
    reason: str


def order_candidates(
    bundle: Bundle, *, host: EngineHost | None = None, file: str | None = None, threads: int = 1
) -> Order:
    """What to try for a bundle: what `file` names, else by what was measured here, else by the profile's formats.

    Figures within 5 % of the fastest are as fast: among those the usual order decides.

    file: a path in the bundle, a kind ("onnx", "plan") or a kind and precision ("tflite/float32"). A path means the plain
    kind of its format. What needs a GPU is left out where the host's profile has no "plan", and last without a profile.
    Raises EngineError where `file` names nothing.
    """
    host = host or EngineHost()
    dla = host.dla is not None
    if file is not None:
        chosen = sorted(named(bundle, file), key=lambda each: _rank(each, KINDS, dla=dla))
        return Order(tuple(chosen), "request")
    found = all_candidates(bundle)
    profile = host.profile
    kinds = _CPU_ORDER
    reason = "the usual order on a CPU"
    if profile is not None:
        formats = profile.formats.value
        kinds = tuple(kind for name in formats for kind in KINDS if _group(kind) == name)
        reason = f"the order of profile {profile.name}"
    usable = sorted(
        (each for each in found if each.kind in kinds), key=lambda each: _rank(each, kinds, dla=dla)
    )
    measured = find_measured(host.cache, bundle, threads=threads) if host.cache is not None else None
    if measured is not None:
        known = _by_figures([each for each in usable if each.label in measured.p50_ms], measured)
        if known:
            rest = (each for each in usable if each not in known)
            return Order((*known, *rest), _told(known, measured))
    return Order(tuple(usable), reason)


def all_candidates(bundle: Bundle) -> tuple[Candidate, ...]:
    """Everything that could run any file of a bundle, in the order for a CPU."""
    found = [
        Candidate(kind, entry)
        for entry in bundle.manifest.engine_files
        for kind in _KINDS_OF[str(entry.format)]
    ]
    # a plan that the bundle brings stands before one that would be built
    return tuple(sorted(found, key=lambda each: (*_rank(each, _CPU_ORDER), each.kind != each.entry.format)))


def named(bundle: Bundle, file: str) -> tuple[Candidate, ...]:
    """The candidates that `file` names, as order_candidates says. Raises EngineError where there are none."""
    found = all_candidates(bundle)
    chosen = tuple(
        each
        for each in found
        if file in {each.kind, each.label} or (file == each.entry.path and each.kind == each.entry.format)
    )
    if not chosen:
        there = ", ".join(f"{each.entry.path} ({each.label})" for each in found if each.kind not in GPU_KINDS)
        raise EngineError(f"bundle {bundle.name} has no engine file {file!r}", next_step=f"there are {there}")
    return chosen


def _by_figures(known: list[Candidate], measured: MeasuredEngines) -> list[Candidate]:
    """The fastest first; those that no measurement tells from it stay before the others, in the order they are in."""
    fastest_ms = min((measured.p50_ms[each.label] for each in known), default=0.0)

    def place(each: Candidate) -> float:
        ms = measured.p50_ms[each.label]
        return 0.0 if ms <= _AS_FAST * fastest_ms else ms

    return sorted(known, key=place)


def _told(known: list[Candidate], measured: MeasuredEngines) -> str:
    figures = ", ".join(f"{each.label} {measured.p50_ms[each.label]:.2f}" for each in known[:3])
    return f"measurement on {measured.date} (ms: {figures})"


def _group(kind: Kind) -> str:
    """The format in a profile that allows a kind: whoever can run plans has a GPU."""
    return "plan" if kind in GPU_KINDS else kind


def _rank(candidate: Candidate, kinds: tuple[Kind, ...], *, dla: bool = False) -> tuple[int, int]:
    precisions = _DLA_PRECISIONS if dla and candidate.kind == "plan" else _PRECISIONS[candidate.kind]
    precision = str(candidate.entry.precision)
    return (
        kinds.index(candidate.kind),
        precisions.index(precision) if precision in precisions else len(precisions),
    )
