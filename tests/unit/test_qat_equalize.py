"""Channels are brought to like size before a network learns to round, and it still says the same."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress


def pictures(count=6):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 12, 12, 3)).astype(np.float32)


def chain(keras):
    """Every kind of layer that is scaled, with what may lie between them: five pairs."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    given = keras.Input((12, 12, 3), name="given")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(given)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.Conv2D(8, 1, use_bias=False, name="mix")(x)
    x = layers.Conv2DTranspose(6, 2, strides=2, activation="relu", name="wider")(x)
    x = layers.Dense(7, activation="relu", name="dense")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(given, {"scores": layers.Dense(4, name="scores")(x)})


def make_unequal(network):
    rng = np.random.default_rng(1)
    factors = 10 ** rng.uniform(-1.5, 1.5, 8)
    first, second = network.get_layer("first"), network.get_layer("depthwise")
    first.kernel.assign(first.kernel.numpy() * factors)
    first.bias.assign(first.bias.numpy() * factors)
    second.weights[0].assign(second.weights[0].numpy() / factors[:, None])


def test_it_says_the_same_with_channels_alike(keras):
    from compress.quantize.aware.equalize import equalize_layers

    network = chain(keras)
    for layer in network.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(np.random.default_rng(5).normal(0, 0.3, layer.bias.shape))
    make_unequal(network)
    before = network(pictures())["scores"].numpy()
    assert equalize_layers(network) == 5
    np.testing.assert_allclose(network(pictures())["scores"].numpy(), before, rtol=1e-3, atol=1e-5)
    made = np.abs(network.get_layer("first").kernel.numpy()).max((0, 1, 2))
    read = np.abs(network.get_layer("depthwise").weights[0].numpy()).max((0, 1, 3))
    np.testing.assert_allclose(made, read, rtol=0.02)


def test_with_one_scale_a_tensor_rounding_costs_little_then(keras):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.aware.network import make_aware
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    network = chain(keras)
    make_unequal(network)
    given = pictures()
    truth = network(given)["scores"].numpy()

    def error(equalized):
        samples = [{"given": one[None]} for one in given]
        content = convert_aware(make_aware(network, samples, equalized=equalized), per_channel=False)
        observer, output = Observer(content), TFLiteGraph(content).outputs[0]
        told = []
        for one in given:
            observer.run(one[None])
            told.append(observer.value(output))
        return np.sum((np.concatenate(told) - truth) ** 2) / np.sum(truth**2)

    plain, alike = error(False), error(True)
    assert alike < 0.01
    assert alike < plain / 10


@pytest.mark.parametrize("case", ["relu6", "read twice", "used twice", "an output", "grouped", "multiplied"])
def test_what_may_not_be_scaled_is_left_alone(keras, case):
    from compress.quantize.aware.equalize import equalize_layers

    layers = keras.layers
    given = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 1)
    x = layers.Conv2D(4, 1, activation="relu6" if case == "relu6" else None)(given)
    if case == "read twice":
        outputs = layers.Add()([x, layers.Conv2D(4, 1)(x)])
    elif case == "used twice":
        outputs = shared(layers.Activation("tanh")(shared(x)))
    elif case == "an output":
        outputs = [x, layers.Conv2D(4, 1)(x)]
    elif case == "grouped":
        outputs = layers.Conv2D(4, 1, groups=2)(x)
    elif case == "multiplied":
        outputs = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    else:
        outputs = layers.Conv2D(4, 1)(x)
    network = keras.Model(given, outputs)
    before = network.get_weights()
    assert equalize_layers(network) == 0
    for one, other in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
