"""BC-ResNet (Kim et al. 2021, "Broadcasted Residual Learning for Efficient Keyword Spotting", arXiv:2106.04140).

Two-dimensional layers see bands; what happens over time is computed on their mean over the bands and added back to all of
them (the broadcast). Built of layers that every converter knows and compress.prune can follow: sub-spectral normalisation
is a batch norm for each slice of bands, the mean over bands an average pooling, a stride over bands a pooling of size 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from compress.networks.blocks import conv_norm, depthwise_norm, norm_activate, pad_front, round_channels
from compress.networks.keyword import keyword_head

# table 1 of the paper at tau = 1: (channels, stride over bands, dilation over time)
_STAGES = ((8, 1, 1), (12, 2, 2), (16, 2, 4), (20, 1, 8))
_STEM, _HEAD = 16, 32


def bc_resnet(
    *,
    frames: int,
    mels: int,
    classes: int,
    multiplier: float = 1.0,
    blocks: tuple[int, int, int, int] = (2, 2, 4, 4),
    sub_bands: int = 5,
    dropout: float = 0.1,
    causal: bool = False,
) -> Any:
    """An untrained Keras model from (frames, mels, 1) features to "keyword", (classes,) logits.

    multiplier is the paper's tau; widths are rounded to 4. blocks: of each stage. sub_bands: slices of bands that are
    normalised apart, as equal as the number of bands lets them be. Time is never strided: a causal one streams in steps
    of any number of frames.
    """
    import keras

    features = keras.Input((frames, mels, 1), name="features")
    x = _bands_halved(features, _width(_STEM, multiplier), causal=causal)
    for stage, (count, (channels, stride, dilation)) in enumerate(zip(blocks, _STAGES, strict=True), start=1):
        for block in range(1, count + 1):
            x = _block(
                x,
                _width(channels, multiplier),
                transition=block == 1,
                stride=stride if block == 1 else 1,
                dilation=dilation,
                sub_bands=sub_bands,
                dropout=dropout,
                causal=causal,
                name=f"stage{stage}_block{block}",
            )
    # a depthwise convolution that takes the last bands together, then the mean over time
    x, _ = pad_front(x, (5, 1), name="head_depthwise") if causal else (_pad_around(x, "head_depthwise"), "")
    reach = (5, min(5, x.shape[2]))
    x = keras.layers.DepthwiseConv2D(reach, use_bias=False, name="head_depthwise")(x)
    x = conv_norm(x, _width(_HEAD, multiplier), kernel=1, activation="relu", name="head_mix")
    return keyword_head(features, x, classes, dropout=0.0, name="bc_resnet")


def _width(channels: int, multiplier: float) -> int:
    return round_channels(channels * multiplier, to=4)


def _bands_halved(features: Any, channels: int, *, causal: bool) -> Any:
    return conv_norm(
        features, channels, kernel=5, stride=(1, 2), activation="relu", causal=causal, name="stem"
    )


def _pad_around(x: Any, name: str) -> Any:
    import keras

    return keras.layers.ZeroPadding2D(((2, 2), (0, 0)), name=f"{name}_pad")(x)


def _block(
    x: Any,
    channels: int,
    *,
    transition: bool,
    stride: int,
    dilation: int,
    sub_bands: int,
    dropout: float,
    causal: bool,
    name: str,
) -> Any:
    """Y = f2(x), out = relu([x +] y + broadcast(f1(mean of y over bands))); a transition changes width and has no x."""
    import keras

    y = x
    if transition:
        y = conv_norm(y, channels, kernel=1, activation="relu", name=f"{name}_widen")
    y = keras.layers.DepthwiseConv2D((1, 3), padding="same", use_bias=False, name=f"{name}_bands")(y)
    if stride > 1:
        # TensorFlow's depthwise convolution has one stride for both axes: every other band of the unstrided one
        y = keras.layers.AveragePooling2D(1, strides=(1, stride), name=f"{name}_stride")(y)
    y = sub_spectral_norm(y, sub_bands, name=f"{name}_bands")
    z = keras.layers.AveragePooling2D((1, y.shape[2]), name=f"{name}_mean")(y)
    z = depthwise_norm(
        z, kernel=(3, 1), dilation=(dilation, 1), activation="silu", causal=causal, name=f"{name}_time"
    )
    z = keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_mix")(z)
    z = keras.layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(z)
    added = keras.layers.Add(name=f"{name}_broadcast")([y, z])
    if not transition:
        added = keras.layers.Add(name=f"{name}_add")([x, added])
    return keras.layers.Activation("relu", name=f"{name}_act")(added)


def sub_spectral_norm(x: Any, sub_bands: int, *, name: str) -> Any:
    """Batch norm with statistics and scales of their own for each of `sub_bands` slices of axis 2 (Chang et al. 2021).

    x: (B, time, bands, channels). Slices, one batch norm each, joined again: the same numbers as one norm of
    sub_bands * channels channels, and nothing that a converter or the pruning would have to be taught.
    """
    import keras

    bands = x.shape[2]
    edges = np.linspace(0, bands, min(sub_bands, bands) + 1).round().astype(int)
    if len(edges) == 2:
        return norm_activate(x, None, name=name)
    slices = []
    for number, (low, high) in enumerate(pairwise(edges), start=1):
        cut = keras.layers.Cropping2D(((0, 0), (int(low), int(bands - high))), name=f"{name}_slice{number}")(
            x
        )
        slices.append(norm_activate(cut, None, name=f"{name}_slice{number}"))
    return keras.layers.Concatenate(axis=2, name=f"{name}_join")(slices)
