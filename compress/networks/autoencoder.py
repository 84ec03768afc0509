"""A dense autoencoder of log-mel windows: trained on what is usual, it rebuilds the unusual badly."""

from __future__ import annotations

from typing import Any

from compress.networks.blocks import norm_activate, round_channels


def dense_autoencoder(
    *, frames: int, mels: int, multiplier: float = 1.0, layers: int = 4, bottleneck: int = 8
) -> Any:
    """The shape of MLPerf Tiny's anomaly detector (`layers` dense layers of 128, a bottleneck, as many again).

    From (frames, mels, 1) features to "rebuilt" of the same shape, what it makes of them. multiplier scales the 128,
    rounded to 8; the bottleneck has as many values as it says. The layers: "encoder<n>", "bottleneck", "decoder<n>", "head…".
    """
    import keras

    width = round_channels(128 * multiplier)
    features = keras.Input((frames, mels, 1), name="features")
    x = keras.layers.Flatten(name="window")(features)
    for number in range(1, layers + 1):
        x = _dense_norm(x, width, f"encoder{number}")
    x = _dense_norm(x, bottleneck, "bottleneck")
    for number in range(1, layers + 1):
        x = _dense_norm(x, width, f"decoder{number}")
    x = keras.layers.Dense(frames * mels, name="head")(x)
    rebuilt = keras.layers.Reshape((frames, mels, 1), name="head_window")(x)
    return keras.Model(features, {"rebuilt": rebuilt}, name="dense_autoencoder")


def _dense_norm(x: Any, units: int, name: str) -> Any:
    import keras

    x = keras.layers.Dense(units, use_bias=False, name=name)(x)
    return norm_activate(x, "relu", name=name)
