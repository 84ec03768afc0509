"""Building blocks that the networks share: convolution + batch norm + activation, in the order converters fold."""

from __future__ import annotations

from typing import Any


def round_channels(channels: float, *, to: int = 8) -> int:
    """The nearest multiple of `to`, at least `to`.

    >>> round_channels(13), round_channels(3)
    (16, 8)
    """
    return max(to, int(channels / to + 0.5) * to)


def conv_norm(
    x: Any, channels: int, *, kernel: int | tuple[int, int], stride: int = 1, activation: str | None = "relu6"
) -> Any:
    import keras

    x = keras.layers.Conv2D(channels, kernel, strides=stride, padding="same", use_bias=False)(x)
    return _norm_activate(x, activation)


def depthwise_norm(
    x: Any,
    *,
    kernel: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    activation: str | None = "relu6",
) -> Any:
    import keras

    x = keras.layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False)(x)
    return _norm_activate(x, activation)


def _norm_activate(x: Any, activation: str | None) -> Any:
    import keras

    x = keras.layers.BatchNormalization(momentum=0.95)(x)
    return keras.layers.Activation(activation)(x) if activation else x
