"""What tests of pruning cut: a small network, channels of it that are good for nothing, batches and a loss."""

from __future__ import annotations

import numpy as np

DEAD = (3, 10)


def small(keras, *, norm=True, seed=0):
    """conv a (16) -> norm -> relu -> conv b (16), added to a skip -> conv c -> head; (8, 8, 3) pictures."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", name="a")(x)
    x = layers.BatchNormalization(name="a_norm")(x) if norm else x
    skip = layers.Activation("relu", name="a_act")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="b")(skip)
    x = layers.Add()([x, skip])
    x = layers.Conv2D(24, 1, activation="relu", name="c")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4, name="head")(x))


def kill(model, layer, channels):
    """The channels of a layer give nothing at all: weights, bias, gamma and beta are zero."""
    for name in (layer, f"{layer}_norm"):
        if name not in [each.name for each in model.layers]:
            continue
        found = model.get_layer(name)
        weights = found.get_weights()
        for w in weights[:2]:
            w[..., list(channels)] = 0
        found.set_weights(weights)


def make_batches():
    """Three of four pictures (8, 8, 3), of four classes."""
    rng = np.random.default_rng(0)
    return [
        {"inputs": rng.normal(0, 1, (4, 8, 8, 3)).astype(np.float32), "targets": rng.integers(0, 4, 4)}
        for _ in range(3)
    ]


def loss(outputs, batch):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["targets"], logits=outputs)
