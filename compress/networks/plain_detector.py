"""A small anchor-free grid detector of plain 3x3 convolutions: trains fast on a CPU, and pruning makes it faster still.

The same outputs as compress.networks.grid_detector. Depthwise convolutions save multiplications, but their gradients are
slow on a CPU: at 320 x 240 a training step of this network took a third of the time of the depthwise one with two thirds
of the multiplications.
"""

from __future__ import annotations

from typing import Any

from compress.networks.blocks import conv_norm, round_channels
from compress.networks.grid_detector import grid_outputs


def plain_detector(
    *,
    height: int,
    width: int,
    classes: int,
    strides: tuple[int, ...] = (8, 16),
    channels: tuple[int, ...] = (16, 24, 40, 64),
    head_channels: int = 40,
) -> Any:
    """An untrained Keras model from a (height, width, 3) picture.

    channels: one a halving of the picture, so the last stride is 2 ** len(channels). height and width are multiples of it.
    """
    import keras

    picture = keras.Input((height, width, 3), name="image")
    x, stride = picture, 1
    features: dict[int, Any] = {}
    for count in channels:
        x = conv_norm(x, round_channels(count), kernel=3, stride=2)
        stride *= 2
        if stride >= min(strides):
            x = keras.layers.Add()([x, conv_norm(x, round_channels(count), kernel=3)])
        features[stride] = x
    head = round_channels(head_channels)
    outputs: dict[str, Any] = {}
    above = None
    for each in sorted(strides, reverse=True):
        x = conv_norm(features[each], head, kernel=1)
        if above is not None:
            x = keras.layers.Add()([x, keras.layers.UpSampling2D(2)(above)])
        above = x
        outputs |= grid_outputs(conv_norm(x, head, kernel=3), each, classes)
    return keras.Model(picture, dict(sorted(outputs.items())))
