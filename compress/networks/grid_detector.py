"""A small anchor-free grid detector: inverted-residual backbone, top-down fusion, one light head per stride.

Outputs are maps by name: box_<stride> (h, w, 4) as YOLOX codes them (cx, cy offsets to the cell in cells, ln of width and
height in cells) and class_<stride> (h, w, classes) logits. Without objectness: the class score is the score.
"""

from __future__ import annotations

import math
from typing import Any

from compress.networks.blocks import conv_norm, depthwise_norm, round_channels

PRIOR_SCORE = 0.01


def grid_detector(
    *,
    height: int,
    width: int,
    classes: int,
    strides: tuple[int, ...] = (8, 16, 32),
    multiplier: float = 0.5,
    depth: int = 2,
    head_channels: int = 64,
) -> Any:
    """An untrained Keras model from a (height, width, 3) picture, channels rounded to 8.

    multiplier scales every width; depth is the number of residual blocks a stage. strides are successive powers of two
    from 8 on. height and width are multiples of the largest stride.
    """
    import keras

    scaled = [round_channels(c * multiplier) for c in (24, 32, 64, 96, 160)]
    picture = keras.Input((height, width, 3), name="image")
    x = conv_norm(picture, scaled[0], kernel=3, stride=2)
    x = _stage(x, scaled[1], stride=2, depth=1)
    features: dict[int, Any] = {}
    stride = 4
    for channels in scaled[2:]:
        stride *= 2
        if stride > max(strides):
            break
        x = _stage(x, channels, stride=2, depth=depth)
        features[stride] = x
    head = round_channels(head_channels)
    outputs: dict[str, Any] = {}
    above = None
    for stride in sorted(strides, reverse=True):
        x = conv_norm(features[stride], head, kernel=1)
        if above is not None:
            x = keras.layers.Add()([x, keras.layers.UpSampling2D(2)(above)])
        x = conv_norm(depthwise_norm(x), head, kernel=1)
        above = x
        y = conv_norm(depthwise_norm(x, kernel=5), head, kernel=1)
        outputs |= grid_outputs(y, stride, classes)
    return keras.Model(picture, dict(sorted(outputs.items())))


def grid_outputs(x: Any, stride: int, classes: int) -> dict[str, Any]:
    """The two prediction layers of a stride: box_<stride> and class_<stride>."""
    import keras

    return {
        f"box_{stride}": keras.layers.Conv2D(4, 1, name=f"box_{stride}")(x),
        f"class_{stride}": keras.layers.Conv2D(
            classes,
            1,
            name=f"class_{stride}",
            # the focal-loss prior (Lin et al. 2017, section 4.1): training starts from "nothing here"
            bias_initializer=keras.initializers.Constant(-math.log((1 - PRIOR_SCORE) / PRIOR_SCORE)),
        )(x),
    }


def _stage(x: Any, channels: int, *, stride: int, depth: int) -> Any:
    x = _inverted_residual(x, channels, stride=stride)
    for _ in range(depth - 1):
        x = _inverted_residual(x, channels, stride=1)
    return x


def _inverted_residual(x: Any, channels: int, *, stride: int, expansion: int = 3) -> Any:
    """MobileNetV2's block (Sandler et al. 2018)."""
    import keras

    y = conv_norm(x, round_channels(x.shape[-1] * expansion), kernel=1)
    y = depthwise_norm(y, stride=stride)
    y = conv_norm(y, channels, kernel=1, activation=None)
    if stride == 1 and x.shape[-1] == channels:
        y = keras.layers.Add()([x, y])
    return y
