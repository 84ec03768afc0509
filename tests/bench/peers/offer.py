"""Our side of the exchange: what every peer is given, drawn by the code that our own recipe trains with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from bench.peers.exchange import Facts, dump_facts

from compress.recipe import Recipe
from compress.tasks import open_task
from compress.train.batches import open_batches
from edgeai.bundle import Bundle
from edgeai.console import progress_bar
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

CHECKED, CALIBRATION = 32, 200  # pictures
SETTINGS = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "use_bias"),
    "BatchNormalization": ("momentum", "epsilon"),
    "Activation": ("activation",),
    "Dense": ("units", "use_bias"),
    "Dropout": ("rate",),
    "Add": (),
    "GlobalAveragePooling2D": (),
}
"""What says how a layer of the baseline is rebuilt, by its kind."""


def facts_of(recipe: Recipe, fraction: float) -> Facts:
    """Of our small recipe: peers get its steps, its rate and its aim. fraction: of the steps, to try the program out."""
    prune, distill = (next(p for p in recipe.passes if p.kind == kind) for kind in ("prune", "distill"))

    def few(steps: int) -> int:
        return max(2, round(steps * fraction))

    return Facts(
        rounds=(few(prune.fit.steps),) * prune.rounds,
        last=few(distill.fit.steps),
        batch=prune.fit.batch,
        learning_rate=prune.fit.learning_rate,
        weight_decay=prune.fit.weight_decay,
        macs_ratio=prune.macs_ratio,
        max_removed=prune.max_removed,
        teacher_share=distill.teacher_share,
        divisor=float(recipe.input.std[0]),
        seed=recipe.seed,
    )


def write_exchange(folder: Path, baseline: Bundle, recipe: Recipe, facts: Facts, data: Path) -> None:
    """Everything that a peer needs, drawn by the code that our own recipe trains with. facts.json comes last."""
    known = folder / "facts.json"
    if known.is_file() and known.read_text() == dump_facts(facts):
        return
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    network = keras.models.load_model(baseline.path("network.keras"), compile=False)
    layers, weights = describe_network(network)
    (folder / "network.json").write_text(json.dumps(layers, indent=1))
    np.savez(folder / "weights.npz", **weights)
    task = open_task(recipe, data_root=data, work=folder)
    size, scale = (facts.steps, facts.batch), np.float32(facts.divisor)
    shape = (*size, recipe.input.height, recipe.input.width, 3)
    pictures = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, shape)
    targets = np.empty((*size, len(recipe.labels)), np.float32)
    with (
        open_batches(lambda rng: task.make_batch(rng, facts.batch), seed=recipe.seed) as batches,
        progress_bar("training pixels", facts.steps) as advance,
    ):
        for number in range(facts.steps):
            batch = next(batches)
            pictures[number] = np.rint(batch["inputs"] * scale)
            targets[number] = batch["targets"]
            advance(1)
    pictures.flush()
    np.save(folder / "targets.npy", targets)
    calibration = np.concatenate(list(task.representative_inputs(CALIBRATION)))
    np.save(folder / "calibration.npy", np.rint(calibration * scale).astype(np.uint8))
    checked = pictures[0, :CHECKED]
    logits = np.asarray(network(checked / scale, training=False)["class"])
    np.savez(folder / "check.npz", pictures=checked, logits=logits)
    write_whole(known, dump_facts(facts))


def describe_network(network: Any) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A functional Keras network as names, kinds, inputs and settings, and its weights as NAME/NUMBER."""
    layers: list[dict[str, Any]] = []
    weights: dict[str, np.ndarray] = {}
    for layer in network.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            settings: dict[str, Any] = {"shape": list(layer.batch_shape[1:])}
            inputs: list[str] = []
        elif kind in SETTINGS:
            config = layer.get_config()
            settings = {key: config[key] for key in SETTINGS[kind]}
            given = layer.input if isinstance(layer.input, list) else [layer.input]
            inputs = [tensor._keras_history.operation.name for tensor in given]
        else:
            raise EdgeError(f"layer {layer.name!r} ({kind}): the peers have no rebuild of it")
        layers.append({"name": layer.name, "kind": kind, "inputs": inputs, "settings": settings})
        weights |= {f"{layer.name}/{n}": array for n, array in enumerate(layer.get_weights())}
    return layers, weights
