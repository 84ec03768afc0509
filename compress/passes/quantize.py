"""Engine files: quantized, or in other formats."""

from __future__ import annotations

import platform
from dataclasses import replace

from compress.candidate import Candidate, EngineFile
from compress.data.whole_file import write_whole
from compress.export.onnx import export_onnx
from compress.passes.bench import Bench
from compress.passes.settings import ExportPass, QuantizePass
from compress.quantize.check import not_done
from compress.quantize.post_training import quantize_network
from compress.quantize.settings import NEEDS_INPUTS
from compress.quantize.slower import slower_note
from compress.quantize.tflite import convert_tflite
from edgeai.bundle.manifest import Precision
from edgeai.console import print_note
from edgeai.errors import PassError
from edgeai.hardware import read_hardware


def quantize(settings: QuantizePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Convert to TFLite; refuse a file in which anything is left of another type than asked for, and say where the precision
    makes this machine slower.
    """
    inputs = (
        bench.task.representative_inputs(settings.calibration) if settings.precision in NEEDS_INPUTS else None
    )
    content, told = quantize_network(
        candidate.network, settings.how, inputs, seed=bench.recipe.seed, progress=True
    )
    if left := not_done(content, settings.precision):
        names = ", ".join(f"{one.name} ({one.part} {one.found})" for one in left[:3])
        raise PassError(
            f"{settings.precision} was asked for, but {len(left)} layers are something else: {names}",
            next_step='take precision = "float16", or put another layer in their place',
        )
    path = bench.work / f"{bench.recipe.name}-{settings.precision}.tflite"
    write_whole(path, content)
    flags = read_hardware(ask_gpu=False).cpu_flags
    if note := slower_note(settings.precision, machine=platform.machine(), cpu_flags=flags):
        print_note(f"quantize: {note}")
    notes = (
        {**candidate.notes, "quantize": [*candidate.notes.get("quantize", []), told]}
        if told
        else candidate.notes
    )
    return replace(
        candidate,
        files=(*candidate.files, EngineFile(path, "tflite", settings.precision)),
        notes=notes,
    )


def export(settings: ExportPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Write further engine files of the network."""
    files = list(candidate.files)
    for wanted in settings.formats:
        kind, precision = wanted.split("/")
        path = bench.work / f"{bench.recipe.name}-{precision}.{kind}"
        if kind == "onnx":
            export_onnx(candidate.network, path)
            files.append(EngineFile(path, "onnx", "float32"))
        else:
            floats: Precision = "float16" if precision == "float16" else "float32"
            write_whole(path, convert_tflite(candidate.network, floats))
            files.append(EngineFile(path, "tflite", floats))
    return replace(candidate, files=tuple(files))
