"""Networks by the name that a recipe gives. One more is one file with a builder, and one line in `NETWORKS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.recipe import Recipe
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.errors import EdgeError, RecipeError, first_line
from edgeai.faults import nearest_hint

DEFAULT_STRIDES = (8, 16, 32)


def open_network(recipe: Recipe, *, data_root: Path) -> Any:
    """An untrained functional Keras model, or one that starts from `network.init`, below `data_root`.

    Raises RecipeError for an unknown architecture or parameter, a value it cannot be built with, or an input or outputs
    that are not the recipe's; DataMissingError or DataError for an init file that is absent or something else.
    """
    open_kind = NETWORKS.get(recipe.network.kind)
    if open_kind is None:
        raise RecipeError(
            f"there is no network {recipe.network.kind!r}",
            next_step=nearest_hint(recipe.network.kind, NETWORKS),
        )
    network = open_kind(recipe, data_root)
    _check_shapes(recipe, network)
    return network


def detector_strides(recipe: Recipe) -> tuple[int, ...]:
    """The strides of the recipe's decoder, which its network's outputs must have."""
    return tuple(recipe.decoder.params.get("strides", DEFAULT_STRIDES))


def _grid_detector(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.grid_detector import grid_detector

    return _build(recipe, grid_detector, **_grid_size(recipe))


def _plain_detector(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.plain_detector import plain_detector

    return _build(recipe, plain_detector, **_grid_size(recipe))


def _yolox_onnx(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.yolox import yolox_from_onnx

    size = _grid_size(recipe)
    del size["classes"]  # the file has its own, of which keep_classes picks some
    return _build(recipe, yolox_from_onnx, path=data_root / _init_file(recipe, "the ONNX file"), **size)


def _keras_file(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keras_file import keras_network

    return _build(recipe, keras_network, path=data_root / _init_file(recipe, "the .keras file"))


def _bundle(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.bundle_network import network_from_bundle

    return _build(
        recipe,
        network_from_bundle,
        where=_init_file(recipe, "a zoo model or a bundle's folder"),
        data_root=data_root,
        shape=_input_shape(recipe),
        labels=recipe.labels,
    )


def _cnn_classifier(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.classifier import cnn_classifier

    return _build(recipe, cnn_classifier, **_picture_size(recipe))


def _ds_tc_resnet(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keyword import ds_tc_resnet

    return _build(recipe, ds_tc_resnet, **_speech_size(recipe))


def _ds_cnn(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keyword import ds_cnn

    return _build(recipe, ds_cnn, **_speech_size(recipe))


def _bc_resnet(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.bc_resnet import bc_resnet

    return _build(recipe, bc_resnet, **_speech_size(recipe))


def _crnn(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.ctc import crnn

    return _build(recipe, crnn, **_speech_size(recipe))


def _conformer_lite(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.ctc import conformer_lite

    return _build(recipe, conformer_lite, **_speech_size(recipe))


def _transformer(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.ctc import transformer

    return _build(recipe, transformer, **_speech_size(recipe))


def _dense_autoencoder(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.autoencoder import dense_autoencoder

    size = _speech_size(recipe)
    del size["classes"]  # it has none: what it makes is its input
    return _build(recipe, dense_autoencoder, **size)


NETWORKS: dict[str, Callable[[Recipe, Path], Any]] = {
    "grid-detector": _grid_detector,
    "plain-detector": _plain_detector,
    "yolox-onnx": _yolox_onnx,
    "cnn-classifier": _cnn_classifier,
    "ds-tc-resnet": _ds_tc_resnet,
    "ds-cnn": _ds_cnn,
    "bc-resnet": _bc_resnet,
    "crnn": _crnn,
    "conformer-lite": _conformer_lite,
    "transformer": _transformer,
    "dense-autoencoder": _dense_autoencoder,
    "keras-file": _keras_file,
    "bundle": _bundle,
}


def _build(recipe: Recipe, builder: Callable[..., Any], **given: Any) -> Any:
    """Call `builder` with what the recipe implies and its network.params, whose names are checked first."""
    where, params = f"network {recipe.network.kind!r}", recipe.network.params
    known = [name for name in inspect.signature(builder).parameters if name not in given]
    for name in params:
        if name in given:
            raise RecipeError(f"{where}: {name!r} follows from the rest of the recipe and is no parameter")
        if name not in known:
            hint = nearest_hint(name, known) if known else "it takes none"
            raise RecipeError(f"{where} has no parameter {name!r}", next_step=hint)
    try:
        return builder(**given, **params)
    except EdgeError:
        raise
    except Exception as error:  # Keras and numpy have a dozen ways to refuse a value
        told = ", ".join(f"{name} = {value!r}" for name, value in {**given, **params}.items())
        raise RecipeError(f"{where} cannot be built with {told[:200]}: {first_line(error)[:200]}") from error


def _check_shapes(recipe: Recipe, network: Any) -> None:
    wanted = _input_shape(recipe)
    where = f"network {recipe.network.kind!r}"
    shapes = [tuple(tensor.shape[1:]) for tensor in network.inputs]
    if shapes != [wanted]:
        raise RecipeError(f"{where}: its input is {shapes}, the recipe's input gives {wanted}")
    if not isinstance(network.output, dict):
        raise RecipeError(f"{where}: its outputs have no names", next_step="build it with a dict of outputs")
    wrong = _wrong_outputs(recipe, {name: tuple(t.shape[1:]) for name, t in network.output.items()})
    if wrong:
        raise RecipeError(f"{where}: its outputs are {wrong}")


def _wrong_outputs(recipe: Recipe, shapes: dict[str, tuple[int, ...]]) -> str:
    """What the network gives and what the task needs, "" where they are the same."""
    labels, task = len(recipe.labels), str(recipe.task)
    if task == "transcribe":
        shape = shapes.get("symbols", ())
        if len(shapes) == 1 and len(shape) == 2 and shape[1] == labels + 1:
            return ""
        return f"{shapes}, {labels} symbols and the blank need 'symbols' of (frames, {labels + 1})"
    if task == "anomaly":
        wanted = _input_shape(recipe)
        return "" if shapes == {"rebuilt": wanted} else f"{shapes}, rebuilding needs 'rebuilt' of {wanted}"
    name = {"keyword": "keyword", "classify": "class"}.get(task)
    if name is None or shapes == {name: (labels,)}:
        return ""  # what a detector gives, its decoder checks (compress.plan)
    return f"{shapes}, {labels} labels need {name!r} of ({labels},)"


def _input_shape(recipe: Recipe) -> tuple[int, int, int]:
    spec = recipe.input
    return (spec.height, spec.width, 3) if isinstance(spec, ImageInput) else (spec.frames, spec.mels, 1)


def _picture_size(recipe: Recipe) -> dict[str, Any]:
    spec = recipe.input
    if not isinstance(spec, ImageInput):
        raise RecipeError(f"network {recipe.network.kind!r} looks at pictures, the input is {spec.kind!r}")
    return {"height": spec.height, "width": spec.width, "classes": len(recipe.labels)}


def _grid_size(recipe: Recipe) -> dict[str, Any]:
    size, strides = _picture_size(recipe), detector_strides(recipe)
    coarsest = max(strides)
    if size["height"] % coarsest or size["width"] % coarsest:
        raise RecipeError(
            f"a picture of {size['width']} x {size['height']} does not divide into cells of {coarsest} pixels",
            next_step=f"make width and height multiples of {coarsest}",
        )
    return {**size, "strides": strides}


def _speech_size(recipe: Recipe) -> dict[str, Any]:
    spec = recipe.input
    if not isinstance(spec, LogMelInput):
        raise RecipeError(f"network {recipe.network.kind!r} hears, the input is {spec.kind!r}")
    blank = 1 if str(recipe.task) == "transcribe" else 0
    return {"frames": spec.frames, "mels": spec.mels, "classes": len(recipe.labels) + blank}


def _init_file(recipe: Recipe, what: str) -> str:
    if recipe.network.init is None:
        raise RecipeError(f"network {recipe.network.kind!r} needs init: {what} to start from")
    return recipe.network.init
