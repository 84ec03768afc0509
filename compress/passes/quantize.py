"""Engine files: quantized, or in other formats."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from compress.candidate import Candidate, EngineFile
from compress.data.whole_file import write_whole
from compress.export.onnx import export_onnx
from compress.export.onnx_qdq import export_qdq
from compress.export.parity import Parity, compare_scored, first_parting, parity_json
from compress.measure.metric import LOWER_IS_BETTER
from compress.measure.scored import Scored
from compress.passes.bench import Bench
from compress.passes.settings import ExportPass, QuantizePass
from compress.quantize.check import float_layers, not_done
from compress.quantize.post_training import quantize_network
from compress.quantize.settings import NEEDS_INPUTS
from compress.quantize.slower import slower_note
from compress.quantize.tflite import convert_tflite
from edgeai.bundle.manifest import Precision
from edgeai.console import print_note
from edgeai.errors import PassError
from edgeai.hardware import read_hardware

PARTING_INPUTS = 8  # to look for the layer at which two files part


def quantize(settings: QuantizePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Convert to TFLite; refuse a file in which anything is left of another type than asked for, and say where the precision
    makes this machine slower.
    """
    inputs = (
        bench.task.representative_inputs(settings.calibration) if settings.precision in NEEDS_INPUTS else None
    )
    holds = None if settings.max_drop is None else _drops_no_more(settings.max_drop, candidate, bench)
    content, told = quantize_network(
        candidate.network, settings.how, inputs, seed=bench.recipe.seed, progress=True, holds=holds
    )
    if left := not_done(content, settings.precision, keep_float=told.get("keep_float", ())):
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


def _drops_no_more(max_drop: float, candidate: Candidate, bench: Bench) -> Callable[[bytes], bool]:
    """Whether a file's metric is within max_drop of the float network's; what it costs is told each time."""
    before = bench.measure(replace(candidate, files=())).metric
    sign = -1 if before.name in LOWER_IS_BETTER else 1

    def holds(content: bytes) -> bool:
        path = bench.work / f"{bench.recipe.name}-trial.tflite"
        write_whole(path, content)
        measured = bench.measure(replace(candidate, files=(EngineFile(path, "tflite", "int8"),)))
        path.unlink()
        drop = sign * (before.value - measured.metric.value)
        kept = sum(step.weighted is not None for step in float_layers(content))
        print_note(
            f"quantize: {kept} layers in float: {before.name} {measured.metric.value:.3f} ({-sign * drop:+.3f}), "
            f"{measured.cost.bytes:,} bytes, {measured.cost.ms_p50:.2f} ms"
        )
        return drop <= max_drop

    return holds


def export(settings: ExportPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Write further engine files of the network. Raises PassError where one does not say what it was made of says."""
    files = list(candidate.files)
    said: dict[Path, Scored] = {}
    parities = []
    for wanted in settings.formats:
        kind, _, named = wanted.partition("/")
        precision = cast(Precision, named)
        made = EngineFile(
            bench.work / f"{bench.recipe.name}-{precision}.{kind}",
            "tflite" if kind == "tflite" else "onnx",
            precision,
        )
        source = _int8_file(candidate) if wanted == "onnx/int8" else _float_file(candidate, bench)
        if kind == "tflite":
            write_whole(made.path, convert_tflite(candidate.network, precision))
        elif precision == "int8":
            write_whole(made.path, export_qdq(source.path.read_bytes()))
        else:
            export_onnx(candidate.network, made.path, half=precision == "float16")
        if wanted != "tflite/float32":
            for file in (source, made):
                if file.path not in said:
                    with bench.opened(file) as engine:
                        said[file.path] = bench.task.score(engine)
            parity = compare_scored(said[source.path], said[made.path])
            parities.append({"file": made.path.name, **parity_json(parity)})
            if not parity.holds:
                raise PassError(_parted(wanted, parity, source, bench))
            print_note(f"export: {wanted} says what {source.format}/{source.precision} says: {parity}")
        files.append(made)
    notes = {**candidate.notes, "parity": [*candidate.notes.get("parity", []), *parities]}
    return replace(candidate, files=tuple(files), notes=notes if parities else candidate.notes)


def _parted(wanted: str, parity: Parity, source: EngineFile, bench: Bench) -> str:
    where = ""
    if wanted == "onnx/int8":
        where = first_parting(
            source.path.read_bytes(), list(bench.task.representative_inputs(PARTING_INPUTS))
        )
    told = f"{wanted} does not say what {source.path.name} says: {parity}"
    return f"{told}; they part at {where}" if where else told


def _float_file(candidate: Candidate, bench: Bench) -> EngineFile:
    """The network in float32, which float formats are made of."""
    path = bench.work / "measured-float32.tflite"
    write_whole(path, convert_tflite(candidate.network, "float32"))
    return EngineFile(path, "tflite", "float32")


def _int8_file(candidate: Candidate) -> EngineFile:
    for file in candidate.files:
        if (file.format, file.precision) == ("tflite", "int8"):
            return file
    raise PassError(
        "onnx/int8 is made of the int8 TFLite file, and that was undone",
        next_step="loosen [budget], or leave onnx/int8 out",
    )
