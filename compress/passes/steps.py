"""The passes themselves."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from compress.candidate import Candidate, EngineFile
from compress.export.onnx import export_onnx
from compress.groups.macs import model_macs
from compress.passes.bench import Bench
from compress.prune.channels import next_ratio, prune_channels
from compress.quantize.ranges import narrow_silu_ranges
from compress.quantize.tflite import convert_tflite, float_tensors
from compress.recipe import DistillPass, ExportPass, PretrainPass, PrunePass, QuantizePass, TrainPass
from compress.train.fit import FitSettings, fit
from compress.train.pretrain import pretrain as pretrain_network
from edgeai.bundle.manifest import ImageInput
from edgeai.console import print_note
from edgeai.errors import PassError

RANGE_INPUTS = 16  # enough for a percentile over every position of a feature map


def pretrain(settings: PretrainPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Train the backbone on the recipe's unlabelled pictures. Raises DataError for too few, PassError on collapse."""
    spec = bench.recipe.input
    if not isinstance(spec, ImageInput):
        raise PassError("pretrain looks at pictures", next_step="take it out of the recipe")
    network = copy_network(candidate.network)
    told = pretrain_network(
        network,
        bench.unlabelled,
        spec,
        settings.fit.model_copy(update={"seed": bench.recipe.seed + settings.fit.seed}),
        description="pretrain",
        checkpoint=bench.checkpoint("fit"),
    )
    print_note(
        f"pretrain: {told.pictures} pictures; features find {told.matched:.0%} of the places again, "
        f"{told.matched_before:.0%} before, {told.by_chance:.1%} by chance"
    )
    return replace(candidate, network=network, files=())


def train(settings: TrainPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Fit on labels; with teacher_share also on what the network said before this pass."""
    network = copy_network(candidate.network)
    before = candidate.network if settings.teacher_share else None
    _fit(network, before, settings.teacher_share, settings.fit, bench, "train")
    return replace(candidate, network=network, files=())


def prune(settings: PrunePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Remove channels in equal steps of the multiplications' logarithm, recovering after each.

    Raises PassError where the ratio cannot be reached.
    """
    reference = candidate.reference or candidate.network
    network = candidate.network
    notes = []
    whole = model_macs(network)
    for number in range(1, settings.rounds + 1):
        network, report = prune_channels(
            network,
            macs_ratio=next_ratio(
                network, whole=whole, macs_ratio=settings.macs_ratio, number=number, rounds=settings.rounds
            ),
            round_to=settings.round_to,
            max_removed=settings.max_removed,
        )
        notes.append(report)
        _fit(
            network,
            reference,
            settings.teacher_share,
            settings.fit,
            bench,
            f"prune {number}/{settings.rounds}",
            name=f"round-{number}",
        )
    earlier = candidate.notes.get("prune", [])
    return replace(
        candidate,
        network=network,
        reference=reference,
        files=(),
        notes={**candidate.notes, "prune": [*earlier, *notes]},
    )


def distill(settings: DistillPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Fit against the network as it was before it was pruned. Raises PassError where there is none."""
    if candidate.reference is None:
        raise PassError(
            "distill: there is no earlier network to distill from", next_step="put it after prune"
        )
    network = copy_network(candidate.network)
    _fit(network, candidate.reference, settings.teacher_share, settings.fit, bench, "distill")
    return replace(candidate, network=network, files=())


def copy_network(network: Any) -> Any:
    """The same network with weights of its own: a pass that is undone must leave the old ones as they were."""
    import keras

    copied = keras.models.clone_model(network)
    copied.set_weights(network.get_weights())
    return copied


def quantize(settings: QuantizePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Convert to TFLite; for int8, refuse a file in which a float tensor is left."""
    representative = (
        bench.task.representative_inputs(settings.calibration) if settings.precision == "int8" else None
    )
    path = bench.work / f"{bench.recipe.name}-{settings.precision}.tflite"
    content = convert_tflite(candidate.network, settings.precision, representative)
    if settings.precision == "int8":
        content, _ = narrow_silu_ranges(content, bench.task.representative_inputs(RANGE_INPUTS))
    path.write_bytes(content)
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
        elif precision == "float16":
            path.write_bytes(convert_tflite(candidate.network, "float16"))
            files.append(EngineFile(path, "tflite", "float16"))
        else:
            path.write_bytes(convert_tflite(candidate.network, "float32"))
            files.append(EngineFile(path, "tflite", "float32"))
    return replace(candidate, files=tuple(files))


def _fit(
    network: Any,
    reference: Any,
    share: float,
    settings: FitSettings,
    bench: Bench,
    description: str,
    name: str = "fit",
) -> None:
    """One fit on labels, or on a mix of labels and the reference network's outputs on the same inputs."""
    task = bench.task

    def loss(outputs: Any, batch: Any) -> Any:
        value = task.label_loss(outputs, batch["targets"])
        if reference is None or share == 0:
            return value
        said = reference(batch["inputs"], training=False)
        return (1 - share) * value + share * task.teacher_loss(outputs, said)

    fit(
        network,
        partial(task.make_batch, size=settings.batch),
        loss,
        settings.model_copy(update={"seed": bench.recipe.seed + settings.seed}),
        description=description,
        checkpoint=bench.checkpoint(name),
        validate=task.validation_loss(network) if settings.patience else None,
        log_dir=bench.work / "logs" / f"{bench.step}-{name}",
        strategy=bench.strategy,
    )
