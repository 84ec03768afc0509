"""What can be known of a recipe before hours go into it: its files, its network, its decoder, its pruning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.synthesize.speech import require_program
from compress.distill.open_teacher import open_teacher_network, output_shapes
from compress.groups.macs import model_macs
from compress.networks import detector_strides, open_network
from compress.passes.settings import DataFreePass, DistillPass, PrunePass
from compress.plan_cost import pass_seconds, time_step_s, weighted_layers, written_bytes
from compress.prune.channels import next_ratio
from compress.prune.target import Target, prune_to
from compress.recipe import (
    ONLY_DECODER,
    BoxData,
    MachineSounds,
    PictureFolders,
    Recipe,
    SoundFolders,
    SpeechData,
    SpokenWords,
)
from compress.train.detector_loss import has_maps
from compress.train.forward import resized
from edgeai.bundle.manifest import ImageInput
from edgeai.bundle.write import check_place
from edgeai.errors import DataMissingError, PassError, RecipeError, StageError
from edgeai.stages.audio.smoothing import KeywordSmoother, SmootherSettings
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import place

MOST_TIMED = 16  # examples in a batch that is timed


@dataclass(frozen=True, slots=True)
class PlannedPass:
    """macs, parameters: of the network after the pass. note: what else it does, for people. seconds: about, of one
    attempt; bytes: about, of the files that it writes; None where nobody asked (estimate_costs).
    """

    kind: str
    macs: int
    parameters: int
    note: str = ""
    seconds: float | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe will do. network: as it starts, untrained or loaded."""

    network: Any
    parameters: int
    steps: tuple[PlannedPass, ...]

    def to_json(self) -> dict[str, Any]:
        steps = [
            {
                "pass": step.kind,
                "macs": step.macs,
                "parameters": step.parameters,
                "note": step.note,
                "seconds": step.seconds,
                "bytes": step.bytes,
            }
            for step in self.steps
        ]
        return {"parameters": self.parameters, "passes": steps}


def check_recipe(recipe: Recipe, *, data_root: Path, out: Path) -> Plan:
    """Check everything that needs no training, in the order of cost; takes seconds.

    Raises DataMissingError for a file or folder that is not there, RecipeError for a network, decoder or pruning that
    cannot work, BundleError where `out` is no place for a bundle.
    """
    check_place(out)
    _check_files(recipe, data_root)
    network = open_network(recipe, data_root=data_root)
    _check_decoder(recipe, network)
    _check_teachers(recipe, network, data_root)
    _check_labels(recipe, network)
    _check_crop(recipe)
    return Plan(network, int(network.count_params()), _steps(recipe, network))


def _check_files(recipe: Recipe, data_root: Path) -> None:
    if not data_root.is_dir():
        raise DataMissingError(f"no data folder at {data_root}", next_step="give one with --data")
    wanted: list[tuple[str, str]] = []
    for source in recipe.data.train:
        if isinstance(source, BoxData) and source.kind == "coco":
            wanted.append(("pictures", f"{source.folder}/instances_{source.split}.json"))
        elif isinstance(source, (BoxData, PictureFolders, SoundFolders)):
            wanted.append(("data", source.folder))
        elif isinstance(source, SpeechData):
            wanted.append(("clips", f"{source.folder}/{source.split}.csv"))
        elif isinstance(source, SpokenWords):
            require_program()
        elif isinstance(source, MachineSounds):
            wanted += [("noises", source.noises)] if source.noises else []
        else:
            wanted.append(("a video", source.file))
    if recipe.data.noises is not None:
        wanted.append(("noises", recipe.data.noises))
    if recipe.teacher is not None and recipe.teacher.file is not None:
        wanted.append(("the teacher", recipe.teacher.file))
    wanted += [("unlabelled pictures", u.folder or str(u.file)) for u in recipe.data.unlabelled]
    # a bundle may lie anywhere: its network says so itself where it is absent
    if recipe.network.init is not None and recipe.network.kind != "bundle":
        wanted.append(("the initial network", recipe.network.init))
    for what, name in wanted:
        if not (data_root / name).exists():
            raise DataMissingError(
                f"recipe {recipe.name}: no {data_root / name}, which holds {what}",
                next_step="give the folder that it is in with --data",
            )


def _check_decoder(recipe: Recipe, network: Any) -> None:
    """Let the device's own decoder read what the network says of a grey picture."""
    try:
        if recipe.task in ONLY_DECODER:
            return
        if not isinstance(recipe.input, ImageInput):
            if recipe.decoder.name != "keyword":
                raise StageError(
                    f"there is no decoder {recipe.decoder.name!r} of keywords",
                    next_step="it is called 'keyword'",
                )
            KeywordSmoother(SmootherSettings.from_params(recipe.decoder.params), recipe.labels)
            return
        decoder = open_decoder(recipe.decoder, labels=recipe.labels)
        grey = np.full((1, recipe.input.height, recipe.input.width, 3), 0.5, np.float32)
        said: Mapping[str, Any] = network(grey, training=False)
        outputs = {name: np.asarray(value) for name, value in said.items()}
        decoder.decode(outputs, place(recipe.input.width, recipe.input.height, recipe.input))
    except StageError as error:
        raise RecipeError(f"recipe {recipe.name}: {error}") from error


def _check_teachers(recipe: Recipe, network: Any, data_root: Path) -> None:
    """Every teacher that a pass names is opened and asked, for its outputs must be the student's."""
    for number, settings in enumerate(recipe.passes, 1):
        if isinstance(settings, (DistillPass, DataFreePass)) and settings.teacher is not None:
            try:
                with open_teacher_network(
                    settings.teacher,
                    spec=recipe.input,
                    outputs=output_shapes(network),
                    labels=recipe.labels,
                    data_root=data_root,
                ) as teacher:
                    if recipe.data.pictures.crop and not teacher.any_size:
                        raise RecipeError(
                            f"teacher {teacher.name} cannot answer to windows (data.pictures.crop): only a Keras network of "
                            "the same input can"
                        )
            except RecipeError as error:
                raise RecipeError(f"recipe {recipe.name}, pass {number}: {error}") from error


def _check_labels(recipe: Recipe, network: Any) -> None:
    """Whether every pass that learns from labels can: an imported detector's outputs may be what only its decoder knows."""
    if recipe.task != "detect" or has_maps(network.output, detector_strides(recipe)):
        return
    for number, settings in enumerate(recipe.passes, 1):
        labels = getattr(settings, "teacher_share", 0.0) < 1 or getattr(settings, "score", "") == "taylor"
        if settings.fits and settings.kind != "pretrain" and labels:
            raise RecipeError(
                f"recipe {recipe.name}, pass {number}: {settings.kind} learns from labels, and the network's outputs are no "
                f"maps of boxes and classes (box_8, class_8, ...) but {', '.join(network.output)}",
                next_step='teacher_share = 1 learns from the network itself (and score = "l2" where it prunes)',
            )


def _check_crop(recipe: Recipe) -> None:
    """Whether training windows are of the input, and divide into the grid's cells."""
    crop = recipe.data.pictures.crop
    if not crop:
        return
    where = f"recipe {recipe.name}: data.pictures.crop = {crop}"
    if recipe.task != "detect" or not isinstance(recipe.input, ImageInput):
        raise RecipeError(
            f"{where} is for detectors, whose grid can be of any size, and the task is {recipe.task}"
        )
    coarsest, least = max(detector_strides(recipe)), min(recipe.input.width, recipe.input.height)
    if crop % coarsest or crop > least:
        raise RecipeError(
            f"{where} must be a multiple of {coarsest}, the coarsest stride, and {least}, the input's side, at most"
        )


def _steps(recipe: Recipe, network: Any) -> tuple[PlannedPass, ...]:
    """The passes with their multiplications; pruning is tried on the untrained weights, for only structure limits it."""
    steps = []
    for number, settings in enumerate(recipe.passes, 1):
        note = ""
        if isinstance(settings, PrunePass):
            network = _pruned(network, settings, f"recipe {recipe.name}, pass {number}")
            target = settings.target
            note = f", {target.name} {target.value:g}"
        if isinstance(settings, DataFreePass):
            note = f"{settings.fit.rounds} rounds of {settings.fit.batch}"
        elif fit := getattr(settings, "fit", None):
            rounds = f"{settings.rounds} x " if isinstance(settings, PrunePass) else ""
            note = f"{rounds}{fit.steps} steps of {fit.batch}{note}"
        note = ", ".join(part for part in (note, *settings.writes) if part)
        macs, parameters = model_macs(network), int(network.count_params())
        steps.append(PlannedPass(settings.kind, macs, parameters, note))
    return tuple(steps)


def _pruned(network: Any, settings: PrunePass, where: str) -> Any:
    """After the pass; as it was for a target in bytes or milliseconds, which has to be measured round by round."""
    whole, target = model_macs(network), settings.target
    if target.unit != "multiplications":
        return network
    # scores that look at data would need it: what can be reached depends on the structure alone
    cut = settings.cut.model_copy(update={"score": "l2", "compensation": "none"})
    try:
        for done in range(1, settings.rounds + 1):
            ratio = next_ratio(
                network, whole=whole, macs_ratio=target.value, number=done, rounds=settings.rounds
            )
            network, _ = prune_to(network, Target(macs_ratio=ratio), cut)
    except PassError as error:
        raise RecipeError(f"{where}: {error}") from error
    return network


def estimate_costs(plan: Plan, recipe: Recipe) -> Plan:
    """The plan with about how long each pass takes here and how many bytes it writes; itself takes some seconds."""
    fits = [fit for settings in recipe.passes for fit in settings.fits]
    batch = min(MOST_TIMED, max((fit.batch for fit in fits), default=1))
    crop = recipe.data.pictures.crop
    # of an example, on windows and on whole pictures
    example_s: dict[bool, float] = {}
    for on_whole in {s.on_whole or not crop for s in recipe.passes if s.fits}:
        trained = plan.network if on_whole else resized(plan.network, (crop, crop, 3))
        example_s[on_whole] = time_step_s(trained, batch) / batch
    layers, whole = weighted_layers(plan.network), model_macs(plan.network)
    steps = []
    for step, settings in zip(plan.steps, recipe.passes, strict=True):
        seconds = pass_seconds(
            settings,
            example_s=example_s.get(settings.on_whole or not crop, 0.0),
            macs_ratio=step.macs / max(1, whole),
            teacher=getattr(settings, "teacher_share", 0.0) > 0,
        )
        size = written_bytes(settings, parameters=step.parameters, layers=layers)
        steps.append(replace(step, seconds=round(seconds, 1), bytes=size))
    return replace(plan, steps=tuple(steps))
