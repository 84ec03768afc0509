"""Any network: without a channel it says what it said when nobody listened to that channel."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.compress
SIZE = 8


def random_network(rng):
    """A functional network of 3 to 6 random blocks with two heads, batch norms with statistics of their own."""
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    layers = keras.layers

    def conv(x, channels, kernel=3, activation=None):
        x = layers.Conv2D(channels, kernel, padding="same", use_bias=bool(rng.integers(2)))(x)
        if rng.integers(2):
            x = layers.BatchNormalization()(x)
        return layers.Activation(activation or str(rng.choice(["relu6", "silu", "tanh"])))(x)

    def residual(x):
        return layers.Add()([x, conv(x, x.shape[-1])])

    def concat(x):
        return layers.Concatenate()(
            [x, conv(x, int(rng.integers(2, 9))), layers.MaxPooling2D(3, 1, "same")(x)]
        )

    def depthwise(x):
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        return conv(x, int(rng.integers(4, 17)), 1)

    def gate(x):
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return layers.Multiply()([x, conv(y, x.shape[-1], 1)])

    def down_up(x):
        if x.shape[1] % 2:
            return conv(x, 6)
        y = conv(layers.AveragePooling2D(2)(x), x.shape[-1])
        return layers.Add()([x, layers.UpSampling2D(2)(y)])

    def shuffle(x):
        """Channels of one tensor added to other channels of the same: they are joined crosswise."""
        y = conv(x, 4)
        both = layers.Concatenate()([y, conv(x, 4)])
        return layers.Add()([both, layers.Concatenate()([conv(x, 4), y])])

    image = keras.Input((SIZE, SIZE, 3))
    x = conv(image, int(rng.integers(4, 17)))
    for block in rng.choice([residual, concat, depthwise, gate, down_up, shuffle], rng.integers(3, 7)):
        x = block(x)
    flat = layers.Dense(12, activation="relu")(layers.Flatten()(conv(x, 4, 1)))
    model = keras.Model(
        image, {"map": layers.Conv2D(3, 1)(x), "flat": layers.Dense(2)(layers.BatchNormalization()(flat))}
    )
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            weights = [rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in weights]
        elif len(weights) == 2:
            weights[1] = rng.normal(0, 0.3, weights[1].shape).astype(np.float32)
        if weights:
            layer.set_weights(weights)
    return model


def deafened(model, graph, removed):
    """The same network, no layer of which listens to the removed channels."""
    import keras

    silent = keras.models.clone_model(model)
    silent.set_weights(model.get_weights())
    for item in graph.layers:
        if item.kind == "dense":
            weights = item.layer.get_weights()
            gone = [int(root) in removed for root in graph.roots(item.in_ids)]
            weights[0][..., gone, :] = 0
            silent.get_layer(item.layer.name).set_weights(weights)
    return silent


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_a_pruned_network_is_the_whole_one_with_those_channels_unheard(seed):
    from compress.groups.graph import follow_channels
    from compress.groups.macs import model_macs
    from compress.groups.remove import remove_channels

    rng = np.random.default_rng(seed)
    model = random_network(rng)
    graph = follow_channels(model)
    removed = frozenset(
        int(root) for component in graph.components() for root in component if rng.random() < 0.4
    )
    # a layer without any channel is no layer
    for item in graph.layers:
        roots = {int(r) for r in graph.roots(item.out_ids)}
        if roots <= removed:
            removed -= {min(roots)}
    smaller = remove_channels(model, graph, removed)
    pictures = rng.normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32)
    got, wanted = smaller(pictures, training=False), deafened(model, graph, removed)(pictures, training=False)
    for name in wanted:
        assert got[name].shape == wanted[name].shape
        scale = float(np.abs(wanted[name]).max()) + 1e-6
        np.testing.assert_allclose(np.array(got[name]) / scale, np.array(wanted[name]) / scale, atol=1e-4)
    assert model_macs(smaller) < model_macs(model) or not removed
    counted = Counter(type(layer).__name__ for layer in smaller.layers)
    assert counted == Counter(type(layer).__name__ for layer in model.layers)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8]), st.sampled_from([1, 4, 8]))
@settings(max_examples=6, deadline=None)
def test_pruning_meets_its_ratio_or_says_why_not(seed, ratio, round_to):
    from compress.groups.macs import model_macs
    from compress.prune.channels import prune_channels
    from edgeai.errors import PassError

    model = random_network(np.random.default_rng(seed))
    try:
        smaller, report = prune_channels(model, macs_ratio=ratio, round_to=round_to)
    except PassError as error:
        assert "at best" in str(error)
        return
    assert model_macs(smaller) == report["macs_after"] <= ratio * model_macs(model)
    assert smaller(np.zeros((1, SIZE, SIZE, 3), np.float32))["map"].shape == (1, SIZE, SIZE, 3)
