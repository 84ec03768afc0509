"""Building blocks that the networks share: convolution + batch norm + activation, in the order converters fold.

A block called "stage2_block1_expand" makes the layers stage2_block1_expand (the convolution, behind
stage2_block1_expand_pad where it is causal), stage2_block1_expand_norm and stage2_block1_expand_act: a name's prefix
picks a part of a network, from a whole stage down to one block.
"""

from __future__ import annotations

from typing import Any

Size = int | tuple[int, int]


def round_channels(channels: float, *, to: int = 8) -> int:
    """The nearest multiple of `to`, at least `to`.

    >>> round_channels(13), round_channels(3)
    (16, 8)
    """
    return max(to, int(channels / to + 0.5) * to)


def conv_norm(
    x: Any,
    channels: int,
    *,
    kernel: Size,
    stride: Size = 1,
    activation: str | None = "relu6",
    causal: bool = False,
    name: str | None = None,
) -> Any:
    """Convolution that keeps the size (over the stride), batch norm, activation. causal: see `pad_front`."""
    import keras

    x, padding = pad_front(x, kernel, stride=stride, name=name) if causal else (x, "same")
    x = keras.layers.Conv2D(channels, kernel, strides=stride, padding=padding, use_bias=False, name=name)(x)
    return norm_activate(x, activation, name=name)


def depthwise_norm(
    x: Any,
    *,
    kernel: Size = 3,
    stride: Size = 1,
    dilation: Size = 1,
    activation: str | None = "relu6",
    causal: bool = False,
    name: str | None = None,
) -> Any:
    """As `conv_norm`, each channel on its own. TensorFlow knows equal strides only, and none beside a dilation."""
    import keras

    x, padding = pad_front(x, kernel, stride=stride, dilation=dilation, name=name) if causal else (x, "same")
    x = keras.layers.DepthwiseConv2D(
        kernel, strides=stride, padding=padding, dilation_rate=dilation, use_bias=False, name=name
    )(x)
    return norm_activate(x, activation, name=name)


def norm_activate(x: Any, activation: str | None, *, name: str | None = None) -> Any:
    """Batch norm and activation; `name` is that of the layer before them."""
    import keras

    x = keras.layers.BatchNormalization(momentum=0.95, name=part(name, "norm"))(x)
    return keras.layers.Activation(activation, name=part(name, "act"))(x) if activation else x


def pad_front(
    x: Any, kernel: Size, *, stride: Size = 1, dilation: Size = 1, name: str | None = None
) -> tuple[Any, str]:
    """Zeros for a causal convolution over (B, time, bands, channels), and the padding that it then needs.

    Time is padded at the front only, by (k - 1) * dilation frames, so that no output hears what comes after it; bands
    are padded as "same" pads them. compress.networks.streaming puts remembered frames in the place of these zeros.
    """
    import keras

    (time, bands), (_, band_stride), (time_step, band_step) = (
        _pair(size) for size in (kernel, stride, dilation)
    )
    front = (time - 1) * time_step
    # what "same" adds: as much as lets the last of ceil(n / stride) windows end where the bands end
    count, reach = x.shape[2], (bands - 1) * band_step + 1
    both = max(((count + band_stride - 1) // band_stride - 1) * band_stride + reach - count, 0)
    if front or both:
        sides = ((front, 0), (both // 2, both - both // 2))
        x = keras.layers.ZeroPadding2D(sides, name=part(name, "pad"))(x)
    return x, "valid"


def part(name: str | None, what: str) -> str | None:
    """The name of a layer of the block `name`; None where the block has none, and Keras makes one up."""
    return None if name is None else f"{name}_{what}"


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
