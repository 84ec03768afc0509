"""A network that was trained before, out of a bundle, fitted to another recipe: new labels, another input size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.networks.grid_heads import PRIOR_SCORE
from compress.networks.keras_file import keras_network
from edgeai.bundle import load_bundle
from edgeai.bundle.bundle import Bundle
from edgeai.errors import RecipeError

# what a bundle made by a recipe holds for this; hatch_zoo.py leaves it out of the wheel
NETWORK_NAME = "network.keras"
# what a label's output layer is called, by its beginning; its last axis counts the labels
_LABEL_HEADS = ("class", "keyword", "symbols")


def network_from_bundle(
    where: str,
    *,
    data_root: Path,
    shape: tuple[int, ...],
    labels: Sequence[str],
    keep_heads: bool = True,
    trained: bool = True,
) -> Any:
    """The Keras network of a bundle, with inputs of `shape` and outputs for `labels`.

    where: a bundle's folder, below `data_root` or anywhere, or a zoo model. Where the labels differ from the bundle's, the
    layers that score labels start anew (keep_heads false: always); everything else keeps its weights (trained false: nothing
    does, for a fair comparison from scratch). Raises BundleError
    for a bundle that is absent or broken, RecipeError for one without its network, or one that does not take such inputs.
    """
    below = data_root / where
    bundle = load_bundle(str(below) if below.is_dir() else where)
    network = keras_network(_network_file(bundle))
    anew = not keep_heads or tuple(labels) != bundle.manifest.labels
    heads = {layer.name for layer in network.layers if layer.name.startswith(_LABEL_HEADS) and layer.weights}
    if anew and not heads:
        raise RecipeError(f"bundle {bundle.name}: its network has no layer that scores labels")
    return _refitted(
        network, shape, heads if anew else set(), len(labels), trained=trained, where=bundle.name
    )


def _network_file(bundle: Bundle) -> Path:
    for entry in bundle.manifest.files:
        if entry.path == NETWORK_NAME:
            return bundle.path(entry)
    raise RecipeError(
        f"bundle {bundle.name} does not hold its network ({NETWORK_NAME}), which training would start from",
        next_step="bundles made by edgeai-compress run hold it; make this one again from its recipe, or pick another",
    )


def _refitted(
    network: Any, shape: tuple[int, ...], heads: set[str], labels: int, *, trained: bool, where: str
) -> Any:
    """A copy with another input shape, and with `heads` for so many labels, untrained."""
    import keras

    was = tuple(network.inputs[0].shape[1:])

    def build(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Reshape) and layer.input is network.inputs[0]:
            # more frames of the same bands: a first axis that counts them counts the new ones
            target = tuple(config["target_shape"])
            if target[0] == was[0] and was[1:] == shape[1:]:
                config["target_shape"] = (shape[0], *target[1:])
        if layer.name in heads:
            blank = layer.name.startswith("symbols")  # CTC's blank is one more output
            config["units" if "units" in config else "filters"] = labels + blank
            if layer.name.startswith("class_"):  # one score a cell: most say nothing
                prior = keras.initializers.Constant(-math.log((1 - PRIOR_SCORE) / PRIOR_SCORE))
                config["bias_initializer"] = keras.initializers.serialize(prior)
        return layer.__class__.from_config(config)

    try:
        picture = keras.Input(shape, name=network.inputs[0].name.split(":")[0])
        refitted = keras.models.clone_model(network, input_tensors=picture, clone_function=build)
        for layer in network.layers if trained else ():
            if layer.weights and layer.name not in heads:
                refitted.get_layer(layer.name).set_weights(layer.get_weights())
    except (ValueError, TypeError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise RecipeError(
            f"the network of bundle {where} cannot take inputs of {shape}: {first[:160]}",
            next_step=f"give the recipe the bundle's own input, {tuple(network.inputs[0].shape[1:])}",
        ) from error
    return refitted
