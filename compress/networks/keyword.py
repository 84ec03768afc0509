"""Keyword networks over log-mel windows: DS-CNN and a depthwise-separable temporal ResNet."""

from __future__ import annotations

from typing import Any

from compress.networks.blocks import conv_norm, depthwise_norm, round_channels


def ds_tc_resnet(
    *, frames: int, mels: int, classes: int, multiplier: float = 1.0, dropout: float = 0.2
) -> Any:
    """A temporal ResNet of depthwise-separable blocks, mel bands as channels (after TC-ResNet, Choi et al. 2019).

    From (frames, mels, 1) features to (classes,) logits. Convolutions are 2-D of size (k, 1), which every converter and
    engine knows; multiplier scales the widths.
    """
    import keras

    features = keras.Input((frames, mels, 1), name="features")
    x = keras.layers.Reshape((frames, 1, mels))(features)
    x = conv_norm(x, round_channels(96 * multiplier), kernel=(5, 1))
    for channels, kernel, stride in (
        (96, 9, 2),
        (96, 9, 1),
        (128, 9, 2),
        (128, 9, 1),
        (160, 9, 1),
        (160, 9, 1),
    ):
        x = _temporal_block(x, round_channels(channels * multiplier), kernel=kernel, stride=stride)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(dropout)(x)
    return keras.Model(features, {"keyword": keras.layers.Dense(classes, name="keyword")(x)})


def ds_cnn(*, frames: int, mels: int, classes: int, multiplier: float = 1.0, dropout: float = 0.2) -> Any:
    """DS-CNN (Zhang et al. 2017, "Hello Edge") over log-mels: 2-D convolutions in time and frequency.

    From (frames, mels, 1) features to (classes,) logits.
    """
    import keras

    features = keras.Input((frames, mels, 1), name="features")
    width = round_channels(64 * multiplier)
    x = keras.layers.Conv2D(width, (7, 5), strides=(2, 2), padding="same", use_bias=False)(features)
    x = keras.layers.BatchNormalization(momentum=0.95)(x)
    x = keras.layers.Activation("relu6")(x)
    for stride, scale in ((1, 1.0), (2, 1.5), (1, 1.5), (1, 1.5), (2, 2.0), (1, 2.0)):
        channels = round_channels(64 * multiplier * scale)
        y = depthwise_norm(x, stride=stride)
        y = conv_norm(y, channels, kernel=1)
        x = keras.layers.Add()([x, y]) if x.shape == y.shape else y
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(dropout)(x)
    return keras.Model(features, {"keyword": keras.layers.Dense(classes, name="keyword")(x)})


def _temporal_block(x: Any, channels: int, *, kernel: int, stride: int) -> Any:
    import keras

    y = depthwise_norm(x, kernel=(kernel, 1), stride=(stride, 1) if stride == 1 else (stride, stride))
    y = conv_norm(y, channels, kernel=1, activation=None)
    if stride != 1 or x.shape[-1] != channels:
        x = conv_norm(x, channels, kernel=1, stride=stride, activation=None)
    return keras.layers.Activation("relu6")(keras.layers.Add()([x, y]))
