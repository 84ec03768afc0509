"""Engine files: quantized, or in other formats."""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate, EngineFile
from compress.data.whole_file import write_whole
from compress.export.onnx import export_onnx
from compress.passes.bench import Bench
from compress.passes.settings import ExportPass, QuantizePass
from compress.quantize.ranges import narrow_silu_ranges
from compress.quantize.tflite import convert_tflite, float_tensors
from edgeai.bundle.manifest import Precision
from edgeai.errors import PassError

RANGE_INPUTS = 16  # enough for a percentile over every position of a feature map


def quantize(settings: QuantizePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Convert to TFLite; for int8, refuse a file in which a float tensor is left."""
    representative = (
        bench.task.representative_inputs(settings.calibration) if settings.precision == "int8" else None
    )
    path = bench.work / f"{bench.recipe.name}-{settings.precision}.tflite"
    content = convert_tflite(candidate.network, settings.precision, representative)
    if settings.precision == "int8":
        content, _ = narrow_silu_ranges(content, bench.task.representative_inputs(RANGE_INPUTS))
    write_whole(path, content)
    if settings.precision == "int8" and (left := float_tensors(path)):
        raise PassError(f"int8 was asked for, but {len(left)} tensors stayed float: {', '.join(left[:3])}")
    return replace(candidate, files=(*candidate.files, EngineFile(path, "tflite", settings.precision)))


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
