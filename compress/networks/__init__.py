"""Networks by the name that a recipe gives. One more is one file with a builder, and one line in `NETWORKS`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.recipe import Recipe
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.errors import EdgeError, RecipeError
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

    size = _picture_size(recipe)
    return _build(recipe, grid_detector, **size, classes=len(recipe.labels), strides=detector_strides(recipe))


def _plain_detector(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.plain_detector import plain_detector

    assert isinstance(recipe.input, ImageInput)  # noqa: S101  the recipe has checked it
    return plain_detector(
        height=recipe.input.height,
        width=recipe.input.width,
        classes=len(recipe.labels),
        strides=detector_strides(recipe),
        **recipe.network.params,
    )


def _yolox_onnx(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.yolox import yolox_from_onnx

    return _build(
        recipe,
        yolox_from_onnx,
        path=data_root / _init_file(recipe, "the ONNX file"),
        **_picture_size(recipe),
        strides=detector_strides(recipe),
    )


def _keras_file(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keras_file import keras_network

    return _build(recipe, keras_network, path=data_root / _init_file(recipe, "the .keras file"))


def _ds_tc_resnet(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keyword import ds_tc_resnet

    return _build(recipe, ds_tc_resnet, **_speech_size(recipe))


def _ds_cnn(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keyword import ds_cnn

    return _build(recipe, ds_cnn, **_speech_size(recipe))


NETWORKS: dict[str, Callable[[Recipe, Path], Any]] = {
    "grid-detector": _grid_detector,
    "plain-detector": _plain_detector,
    "yolox-onnx": _yolox_onnx,
    "ds-tc-resnet": _ds_tc_resnet,
    "ds-cnn": _ds_cnn,
    "keras-file": _keras_file,
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
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        told = ", ".join(f"{name} = {value!r}" for name, value in {**given, **params}.items())
        raise RecipeError(f"{where} cannot be built with {told[:200]}: {first[:200]}") from error


def _check_shapes(recipe: Recipe, network: Any) -> None:
    spec = recipe.input
    wanted = (spec.height, spec.width, 3) if isinstance(spec, ImageInput) else (spec.frames, spec.mels, 1)
    where = f"network {recipe.network.kind!r}"
    shapes = [tuple(tensor.shape[1:]) for tensor in network.inputs]
    if shapes != [wanted]:
        raise RecipeError(f"{where}: its input is {shapes}, the recipe's input gives {wanted}")
    if not isinstance(network.output, dict):
        raise RecipeError(f"{where}: its outputs have no names", next_step="build it with a dict of outputs")
    if recipe.task == "keyword":
        shape = {name: tuple(tensor.shape[1:]) for name, tensor in network.output.items()}
        if shape != {"keyword": (len(recipe.labels),)}:
            raise RecipeError(f"{where}: its outputs are {shape}, {len(recipe.labels)} labels need 'keyword'")


def _picture_size(recipe: Recipe) -> dict[str, int]:
    spec = recipe.input
    if not isinstance(spec, ImageInput):
        raise RecipeError(f"network {recipe.network.kind!r} looks at pictures, the input is {spec.kind!r}")
    coarsest = max(detector_strides(recipe))
    if spec.height % coarsest or spec.width % coarsest:
        raise RecipeError(
            f"a picture of {spec.width} x {spec.height} does not divide into cells of {coarsest} pixels",
            next_step=f"make width and height multiples of {coarsest}",
        )
    return {"height": spec.height, "width": spec.width}


def _speech_size(recipe: Recipe) -> dict[str, int]:
    spec = recipe.input
    if not isinstance(spec, LogMelInput):
        raise RecipeError(f"network {recipe.network.kind!r} hears, the input is {spec.kind!r}")
    return {"frames": spec.frames, "mels": spec.mels, "classes": len(recipe.labels)}


def _init_file(recipe: Recipe, what: str) -> str:
    if recipe.network.init is None:
        raise RecipeError(f"network {recipe.network.kind!r} needs init: {what} to start from")
    return recipe.network.init
