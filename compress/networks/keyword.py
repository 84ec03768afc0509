"""Keyword networks over log-mel windows: DS-CNN and a depthwise-separable temporal ResNet.

causal: every convolution looks back only, so that compress.networks.streaming can feed the network a few frames at a
time. The layers: "stem", "stage<n>_block<n>_…", then "head_…" and "keyword".
"""

from __future__ import annotations

from typing import Any

from compress.networks.blocks import conv_norm, depthwise_norm, round_channels

# (channels, stride) of each block, by stage
_TC_STAGES = (((96, 2), (96, 1)), ((128, 2), (128, 1)), ((160, 1), (160, 1)))
_TC_KERNEL = 9
# (stride, width as a multiple of the stem's) of each block, by stage
_CNN_STAGES = (((1, 1.0),), ((2, 1.5), (1, 1.5), (1, 1.5)), ((2, 2.0), (1, 2.0)))


def ds_tc_resnet(
    *,
    frames: int,
    mels: int,
    classes: int,
    multiplier: float = 1.0,
    dropout: float = 0.2,
    causal: bool = False,
) -> Any:
    """A temporal ResNet of depthwise-separable blocks, mel bands as channels (after TC-ResNet, Choi et al. 2019).

    From (frames, mels, 1) features to (classes,) logits. Convolutions are 2-D of size (k, 1), which every converter and
    engine knows; multiplier scales the widths.
    """
    import keras

    features = keras.Input((frames, mels, 1), name="features")
    x = keras.layers.Reshape((frames, 1, mels), name="bands_as_channels")(features)
    x = conv_norm(x, round_channels(96 * multiplier), kernel=(5, 1), causal=causal, name="stem")
    for stage, blocks in enumerate(_TC_STAGES, start=1):
        for block, (channels, stride) in enumerate(blocks, start=1):
            x = _temporal_block(
                x,
                round_channels(channels * multiplier),
                stride=stride,
                causal=causal,
                name=f"stage{stage}_block{block}",
            )
    return keyword_head(features, x, classes, dropout=dropout, name="ds_tc_resnet")


def ds_cnn(
    *,
    frames: int,
    mels: int,
    classes: int,
    multiplier: float = 1.0,
    dropout: float = 0.2,
    causal: bool = False,
) -> Any:
    """DS-CNN (Zhang et al. 2017, "Hello Edge") over log-mels: 2-D convolutions in time and frequency.

    From (frames, mels, 1) features to (classes,) logits; multiplier scales the widths.
    """
    import keras

    features = keras.Input((frames, mels, 1), name="features")
    width = round_channels(64 * multiplier)
    x = conv_norm(features, width, kernel=(7, 5), stride=2, causal=causal, name="stem")
    for stage, blocks in enumerate(_CNN_STAGES, start=1):
        for block, (stride, scale) in enumerate(blocks, start=1):
            name = f"stage{stage}_block{block}"
            channels = round_channels(64 * multiplier * scale)
            y = depthwise_norm(x, stride=stride, causal=causal, name=f"{name}_depthwise")
            y = conv_norm(y, channels, kernel=1, name=f"{name}_mix")
            x = keras.layers.Add(name=f"{name}_add")([x, y]) if x.shape == y.shape else y
    return keyword_head(features, x, classes, dropout=dropout, name="ds_cnn")


def keyword_head(features: Any, x: Any, classes: int, *, dropout: float, name: str) -> Any:
    """The model from `features` to "keyword": (classes,) logits of the mean over time and bands of `x`."""
    import keras

    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(features, {"keyword": keras.layers.Dense(classes, name="keyword")(x)}, name=name)


def _temporal_block(x: Any, channels: int, *, stride: int, causal: bool, name: str) -> Any:
    import keras

    y = depthwise_norm(x, kernel=(_TC_KERNEL, 1), stride=stride, causal=causal, name=f"{name}_depthwise")
    y = conv_norm(y, channels, kernel=1, activation=None, name=f"{name}_mix")
    if stride != 1 or x.shape[-1] != channels:
        x = conv_norm(x, channels, kernel=1, stride=stride, activation=None, name=f"{name}_shortcut")
    return keras.layers.Activation("relu6", name=f"{name}_act")(keras.layers.Add(name=f"{name}_add")([x, y]))
