"""Backbones: from a picture to feature maps by stride. Every layer's name begins with "stem" or "stage"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from compress.networks.blocks import conv_norm, depthwise_norm, round_channels
from edgeai.errors import RecipeError
from edgeai.faults import nearest_hint

Features = dict[int, Any]
INVERTED_CHANNELS = (24, 32, 64, 96, 160)
PLAIN_CHANNELS = (16, 24, 40, 64)


def inverted_backbone(
    picture: Any,
    *,
    multiplier: float = 0.5,
    depth: int = 2,
    last_stride: int = 32,
    activation: str = "relu6",
) -> Features:
    """Inverted residuals (MobileNetV2, Sandler et al. 2018): maps of stride 4, 8, … up to `last_stride`, at most 32.

    multiplier scales INVERTED_CHANNELS, rounded to 8; depth is the number of residual blocks a stage. activation: "relu6", or
    "relu", with which channels can be equalized (compress.quantize.equalize).
    """
    stem, first, *deeper = (round_channels(c * multiplier) for c in INVERTED_CHANNELS)
    x = conv_norm(picture, stem, kernel=3, stride=2, activation=activation, name="stem")
    x = _inverted_residual(x, first, stride=2, activation=activation, name="stage1_block1")
    features, stride = {4: x}, 4
    for number, channels in enumerate(deeper, start=2):
        stride *= 2
        if stride > last_stride:
            break
        for block in range(1, depth + 1):
            x = _inverted_residual(
                x,
                channels,
                stride=2 if block == 1 else 1,
                activation=activation,
                name=f"stage{number}_block{block}",
            )
        features[stride] = x
    return features


def plain_backbone(
    picture: Any,
    *,
    multiplier: float = 1.0,
    depth: int = 2,
    channels: Sequence[int] = PLAIN_CHANNELS,
    residual_from: int = 8,
) -> Features:
    """3x3 convolutions, the first of stride 2 a stage: maps of stride 2, 4, … 2 ** len(channels).

    channels: one a stage, scaled by multiplier and rounded to 8. From stride residual_from on a stage has `depth`
    convolutions, each after the first added to what it reads. Depthwise convolutions save multiplications, but their
    gradients are slow on a CPU.
    """
    x, stride = picture, 1
    features: Features = {}
    for number, count in enumerate(channels):
        width = round_channels(count * multiplier)
        x = conv_norm(x, width, kernel=3, stride=2, name=f"stage{number}_block1" if number else "stem")
        stride *= 2
        for block in range(2, depth + 1 if stride >= residual_from else 2):
            name = f"stage{number}_block{block}" if number else f"stem_block{block}"
            x = _add([x, conv_norm(x, width, kernel=3, name=name)], f"{name}_add")
        features[stride] = x
    return features


BACKBONES: dict[str, Callable[..., Features]] = {"inverted": inverted_backbone, "plain": plain_backbone}


def backbone_by_name(name: str) -> Callable[..., Features]:
    """Raises RecipeError for a name that is not in BACKBONES."""
    if name not in BACKBONES:
        raise RecipeError(f"there is no backbone {name!r}", next_step=nearest_hint(str(name), BACKBONES))
    return BACKBONES[name]


def _inverted_residual(
    x: Any, channels: int, *, stride: int, activation: str, name: str, expansion: int = 3
) -> Any:
    wide = round_channels(x.shape[-1] * expansion)
    y = conv_norm(x, wide, kernel=1, activation=activation, name=f"{name}_expand")
    y = depthwise_norm(y, stride=stride, activation=activation, name=f"{name}_depthwise")
    y = conv_norm(y, channels, kernel=1, activation=None, name=f"{name}_project")
    return _add([x, y], f"{name}_add") if stride == 1 and x.shape[-1] == channels else y


def _add(tensors: list[Any], name: str) -> Any:
    import keras

    return keras.layers.Add(name=name)(tensors)
