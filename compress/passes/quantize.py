"""Engine files: quantized, or in other formats."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from compress.candidate import Candidate, EngineFile
from compress.export.onnx import export_onnx
from compress.export.onnx_qdq import export_qdq
from compress.export.open_batch import open_batch
from compress.export.parity import Parity, compare_scored, first_parting, parity_json
from compress.export.qdq_lint import lint_qdq
from compress.measure.metric import LOWER_IS_BETTER
from compress.measure.scored import Scored
from compress.networks.signature import input_shapes
from compress.passes.bench import Bench
from compress.passes.fitting import fit_candidate, taught_by
from compress.passes.settings import ExportPass, QatPass, QuantizePass
from compress.quantize.aware.convert import convert_aware
from compress.quantize.aware.network import make_aware, plain_network, renamed, rounded_kernels
from compress.quantize.check import float_layers, not_done
from compress.quantize.graph import TFLiteGraph
from compress.quantize.post_training import quantize_network, told_errors
from compress.quantize.settings import NEEDS_INPUTS
from compress.quantize.slower import slower_note
from compress.quantize.tflite import checked_samples, convert_tflite, refuse_recurrent
from compress.quantize.unroll import recurrent_layers
from edgeai.bundle.manifest import Precision
from edgeai.console import print_note
from edgeai.errors import PassError
from edgeai.hardware import read_hardware
from edgeai.whole_file import write_whole

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
        candidate.network, settings, inputs, seed=bench.recipe.seed, progress=True, holds=holds
    )
    file = write_checked(content, settings.precision, told, bench)
    if settings.precision in ("int8", "int4") and recurrent_layers(candidate.network):
        steps = len(TFLiteGraph(content).steps)
        print_note(
            f"quantize: its recurrent layers are written out step by step: {steps:,} operations, {len(content):,} bytes; "
            "float16 keeps them as loops: compare"
        )
    return replace(candidate, files=(*candidate.files, file)).with_notes("quantize", [told] if told else [])


def qat(settings: QatPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Train while rounding, then convert. Raises PassError as quantize does, and what a fit raises."""
    network = candidate.network
    refuse_recurrent(network, "a qat pass")
    samples = checked_samples(bench.task.representative_inputs(settings.calibration), input_shapes(network))
    aware = make_aware(
        network,
        samples,
        ranges=settings.ranges,
        rule=settings.rule,
        equalized=settings.equalize,
        per_channel=settings.per_channel,
        progress=True,
    )
    fit_candidate(
        aware,
        taught_by(candidate.reference or network, settings.teacher_share, settings.loss),
        settings.fit,
        bench,
        "qat",
        hold=candidate.sparse,
        rounded=rounded_kernels(aware, per_channel=settings.per_channel),
    )
    inputs = renamed(samples, network, aware)
    content = convert_aware(aware, inputs, per_channel=settings.per_channel)
    plain = plain_network(aware)
    layers = told_errors(convert_tflite(plain, "float32"), content, inputs)
    told = {"ranges": settings.ranges, "rule": settings.rule, "inputs": len(samples), "layers": layers}
    file = write_checked(content, "int8", told, bench)
    return replace(candidate, network=plain, aware=aware, files=(file,)).with_notes("qat", [told])


def write_checked(content: bytes, precision: Precision, told: Mapping[str, Any], bench: Bench) -> EngineFile:
    """A quantized TFLite file of the recipe's, with notes on what to know of it. told: as quantize_network() has it.

    Raises PassError where anything in it is of another type than asked for.
    """
    if left := not_done(content, precision, keep_float=told.get("keep_float", ())):
        names = ", ".join(f"{one.name} ({one.part} {one.found})" for one in left[:3])
        raise PassError(
            f"{precision} was asked for, but {len(left)} layers are something else: {names}",
            next_step='take precision = "float16", or put another layer in their place',
        )
    path = bench.work / f"{bench.recipe.name}-{precision}.tflite"
    write_whole(path, content)
    flags = read_hardware(ask_gpu=False).cpu_flags
    if note := slower_note(precision, machine=platform.machine(), cpu_flags=flags):
        print_note(f"quantize: {note}")
    if worst := sorted(told.get("layers", ()), key=lambda layer: float(layer["sqnr_db"]))[:3]:
        named = ", ".join(f"{layer['name']} {layer['sqnr_db']} dB" for layer in worst)
        print_note(f"quantize: furthest from float: {named}")
    return EngineFile(path, "tflite", precision)


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
        print_note(
            f"quantize: {len(float_layers(content))} layers in float: {before.name} {measured.metric.value:.3f} ({-sign * drop:+.3f}), "
            f"{measured.cost.bytes:,} bytes, {measured.cost.ms_p50:.2f} ms"
        )
        return drop <= max_drop

    return holds


def export(settings: ExportPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Write further engine files of the network. One that does not say what it was made of says is left out, and told.

    Hours went into what is there: a file that nobody may use is no reason to throw them away.
    """
    sources: dict[
        bool, tuple[EngineFile, Scored]
    ] = {}  # by whether it is the int8 file: scored once for all made of it
    files, parities, refused = list(candidate.files), [], []
    for wanted in settings.formats:
        made = _written(wanted, candidate, bench)
        if wanted == "tflite/float32":  # which the others are compared with
            files.append(made)
            continue
        integer = wanted == "onnx/int8"
        if integer not in sources:
            file = _int8_file(candidate) if integer else bench.float_file(candidate.network)
            sources[integer] = file, _said(file, bench)
        source, truth = sources[integer]
        parity = compare_scored(truth, _said(made, bench), max_apart=settings.max_apart)
        if not parity.holds:
            refused.append({"file": made.path.name, "why": _parted(wanted, parity, source, bench)})
            print_note(f"export: left out: {refused[-1]['why']}")
            made.path.unlink()
            continue
        files.append(made)
        print_note(f"export: {wanted} says what {source.format}/{source.precision} says: {parity}")
        parities.append({"file": made.path.name, **parity_json(parity)})
    return (
        replace(candidate, files=tuple(files)).with_notes("parity", parities).with_notes("refused", refused)
    )


def _written(wanted: str, candidate: Candidate, bench: Bench) -> EngineFile:
    kind, named = wanted.split("/")
    precision = cast(Precision, named)
    path = bench.work / f"{bench.recipe.name}-{precision}.{kind}"
    if kind == "tflite":
        write_whole(path, convert_tflite(candidate.network, precision))
        return EngineFile(path, "tflite", precision)
    if precision == "int8":
        exported = export_qdq(_int8_file(candidate).path.read_bytes())
        for fault in lint_qdq(exported):
            print_note(f"export: {path.name}: TensorRT will not take {fault.node} as int8: {fault.text}")
        write_whole(path, open_batch(exported))
    else:
        export_onnx(candidate.network, path, half=precision == "float16")
        write_whole(path, open_batch(path.read_bytes()))
    return EngineFile(path, "onnx", precision)


def _said(file: EngineFile, bench: Bench) -> Scored:
    with bench.opened(file) as engine:
        return bench.task.score(engine)


def _parted(wanted: str, parity: Parity, source: EngineFile, bench: Bench) -> str:
    where = ""
    if wanted == "onnx/int8":
        where = first_parting(
            source.path.read_bytes(), list(bench.task.representative_inputs(PARTING_INPUTS))
        )
    told = f"{wanted} does not say what {source.path.name} says: {parity}"
    return f"{told}; they part at {where}" if where else told


def _int8_file(candidate: Candidate) -> EngineFile:
    for file in candidate.files:
        if (file.format, file.precision) == ("tflite", "int8"):
            return file
    raise PassError(
        "onnx/int8 is made of the int8 TFLite file, and that was undone",
        next_step="loosen [budget], or leave onnx/int8 out",
    )
