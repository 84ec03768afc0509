"""A small anchor-free grid detector: inverted-residual backbone, top-down fusion, one light head per stride.

Outputs are maps by name, as compress.networks.grid_heads makes them. Without objectness: the class score is the score.
"""

from __future__ import annotations

from typing import Any

from compress.networks.backbone import inverted_backbone
from compress.networks.blocks import conv_norm, depthwise_norm, round_channels
from compress.networks.grid_heads import fuse_top_down, grid_outputs


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

    multiplier scales the backbone's widths; depth is the number of residual blocks a stage. strides are successive
    powers of two from 4 to 32. height and width are multiples of the largest stride.
    """
    import keras

    picture = keras.Input((height, width, 3), name="image")
    features = inverted_backbone(picture, multiplier=multiplier, depth=depth, last_stride=max(strides))
    channels = round_channels(head_channels)
    outputs: dict[str, Any] = {}

    def separable(x: Any, name: str, kernel: int = 3) -> Any:
        return conv_norm(
            depthwise_norm(x, kernel=kernel, name=f"{name}_depthwise"), channels, kernel=1, name=f"{name}_mix"
        )

    for stride, x in fuse_top_down(features, strides, channels, mix=separable):
        outputs |= grid_outputs(separable(x, f"head_{stride}", 5), stride, classes)
    return keras.Model(picture, dict(sorted(outputs.items())), name="grid_detector")
