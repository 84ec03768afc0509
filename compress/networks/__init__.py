"""Networks by the name that a recipe gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.recipe import Recipe
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.errors import RecipeError

DEFAULT_STRIDES = (8, 16, 32)


def open_network(recipe: Recipe, *, data_root: Path) -> Any:
    """An untrained Keras model, or one that starts from `network.init`. Raises RecipeError."""
    build = NETWORKS.get(recipe.network.kind)
    if build is None:
        raise RecipeError(f"there is no network {recipe.network.kind!r}; there are {', '.join(NETWORKS)}")
    try:
        return build(recipe, data_root)
    except TypeError as error:
        raise RecipeError(f"network {recipe.network.kind!r}: {error}") from error


def detector_strides(recipe: Recipe) -> tuple[int, ...]:
    return tuple(recipe.decoder.params.get("strides", DEFAULT_STRIDES))


def _grid_detector(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.grid_detector import grid_detector

    assert isinstance(recipe.input, ImageInput)  # noqa: S101  the recipe has checked it
    return grid_detector(
        height=recipe.input.height,
        width=recipe.input.width,
        classes=len(recipe.labels),
        strides=detector_strides(recipe),
        **recipe.network.params,
    )


def _yolox_onnx(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.yolox import yolox_from_onnx

    assert isinstance(recipe.input, ImageInput)  # noqa: S101  the recipe has checked it
    if recipe.network.init is None:
        raise RecipeError("network 'yolox-onnx' needs init: the ONNX file to start from")
    return yolox_from_onnx(
        data_root / recipe.network.init,
        height=recipe.input.height,
        width=recipe.input.width,
        **recipe.network.params,
    )


def _ds_tc_resnet(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keyword import ds_tc_resnet

    return ds_tc_resnet(**_speech_size(recipe), **recipe.network.params)


def _ds_cnn(recipe: Recipe, data_root: Path) -> Any:
    from compress.networks.keyword import ds_cnn

    return ds_cnn(**_speech_size(recipe), **recipe.network.params)


def _speech_size(recipe: Recipe) -> dict[str, int]:
    assert isinstance(recipe.input, LogMelInput)  # noqa: S101  the recipe has checked it
    return {"frames": recipe.input.frames, "mels": recipe.input.mels, "classes": len(recipe.labels)}


NETWORKS = {
    "grid-detector": _grid_detector,
    "yolox-onnx": _yolox_onnx,
    "ds-tc-resnet": _ds_tc_resnet,
    "ds-cnn": _ds_cnn,
}
