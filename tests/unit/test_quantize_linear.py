"""Layers as matrix products say what LiteRT says; rounding, equalizing and correcting built on them do what they claim."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress
SIZE = 11


def picture(seed=0, channels=4):
    return np.random.default_rng(seed).uniform(-1, 1, (1, SIZE, SIZE, channels)).astype(np.float32)


def converted(network):
    from compress.quantize.tflite import convert_tflite

    return convert_tflite(network, "float32")


def outputs(content, sample):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer, graph = Observer(content), TFLiteGraph(content)
    observer.run(sample)
    return observer.value(graph.outputs[0])


def decibels(truth, told):
    return 10 * np.log10(np.mean(truth**2) / np.mean((truth - told) ** 2))


LAYERS = {
    "same": lambda layers: layers.Conv2D(6, 3, padding="same", bias_initializer="normal"),
    "same, stride 2": lambda layers: layers.Conv2D(
        6, 3, strides=2, padding="same", bias_initializer="normal"
    ),
    "valid, wide": lambda layers: layers.Conv2D(5, (2, 5), strides=(2, 1), bias_initializer="normal"),
    "dilated": lambda layers: layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="relu"),
    "grouped": lambda layers: layers.Conv2D(6, 3, groups=2, padding="same", bias_initializer="normal"),
    "depthwise": lambda layers: layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6"),
    "two a channel": lambda layers: layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="normal"),
    "dense": lambda layers: layers.Dense(7, bias_initializer="normal"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_rows_times_weights_are_what_the_kernel_computes(keras, kind):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.linear import linear_steps, parameters
    from compress.quantize.observe import Observer

    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 4), name="image")
    content = converted(keras.Model(image, LAYERS[kind](keras.layers)(image)))
    graph, observer = TFLiteGraph(content), Observer(content)
    (linear,) = linear_steps(graph)
    observer.run(picture())
    given, told = observer.value(linear.data), observer.value(linear.output)
    weights, biases = parameters(graph, linear)
    matrix, rows = linear.matrix(weights), linear.rows(given)
    assert len(rows) == linear.places(given)
    wanted = np.einsum("pgk,gko->pgo", rows, matrix).reshape(told.shape)
    wanted = np.clip(wanted + (0 if biases is None else biases), *linear.clamp)
    np.testing.assert_allclose(wanted, told, atol=1e-4)
    np.testing.assert_allclose(linear.mean_row(given), rows.mean(0), atol=1e-5)
    np.testing.assert_array_equal(linear.unmatrix(matrix, weights.shape), weights)
    picks = np.array([0, len(rows) - 1, 3])
    np.testing.assert_array_equal(linear.rows(given, picks), rows[picks])


@pytest.fixture(scope="module")
def unequal(keras):
    """A small MobileNet-like network whose channels an exact rescaling has made unequal: (network, the equal one)."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((SIZE, SIZE, 4), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", bias_initializer="normal", name="a")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", bias_initializer="normal", name="b")(x)
    x = layers.Conv2D(16, 1, bias_initializer="normal", name="c")(x)
    x = layers.Dense(5, name="d")(layers.GlobalAveragePooling2D()(x))
    equal = keras.Model(image, x)
    network = keras.models.clone_model(equal)
    network.set_weights(equal.get_weights())
    rng = np.random.default_rng(0)
    for first, second in (("a", "b"), ("b", "c"), ("c", "d")):
        scale_between(network.get_layer(first), network.get_layer(second), np.exp(rng.uniform(-4, 4, 16)))
    return network, equal


def scale_between(first, second, scale):
    """Multiply the first one's output channels, and divide what the second makes of them."""
    weights, biases = first.get_weights()
    depthwise = weights.shape[-1] == 1
    first.set_weights([weights * (scale[:, None] if depthwise else scale), biases * scale])
    weights, *rest = second.get_weights()
    second.set_weights([weights / scale[:, None], *rest])


def test_equalizing_says_the_same_and_saves_a_model_of_unequal_channels(unequal):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.correct import bias_shifts, shift_biases
    from compress.quantize.equalize import equalize
    from compress.quantize.integer import quantize_ranges

    network, equal = unequal
    given = [picture(seed) for seed in range(8)]
    truth = np.concatenate([network(p, training=False).numpy() for p in given])

    def heard(content):
        content = quantize_ranges(content, calibrate(content, given), per_channel=False)
        return decibels(truth, np.concatenate([outputs(content, p) for p in given]))

    content = converted(network)
    alike, pairs = equalize(content)
    assert pairs == 3
    for sample in given[:2]:
        np.testing.assert_allclose(outputs(alike, sample), outputs(content, sample), rtol=1e-3, atol=1e-4)
    with_biases, shifts = bias_shifts(alike, given, per_channel=False)
    corrected = shift_biases(with_biases, shifts)
    assert len(shifts) == 4
    assert heard(content) < 12
    assert heard(alike) > heard(converted(equal)) - 3
    assert heard(corrected) > heard(alike) - 1


@pytest.mark.parametrize(
    "between, pairs",
    [("relu", 1), ("linear", 1), ("relu6", 0), ("tanh", 0)],
)
def test_only_what_is_homogeneous_may_lie_between(keras, between, pairs):
    from compress.quantize.equalize import equalize

    image = keras.Input((SIZE, SIZE, 4), name="image")
    x = keras.layers.Conv2D(8, 3, activation=between)(image)
    assert equalize(converted(keras.Model(image, keras.layers.Conv2D(4, 1)(x))))[1] == pairs


def test_what_is_read_twice_is_left_alone(keras):
    from compress.quantize.equalize import equalize

    image = keras.Input((SIZE, SIZE, 4), name="image")
    x = keras.layers.Conv2D(8, 3, activation="relu")(image)
    y = keras.layers.Conv2D(8, 1)(x)
    content = converted(keras.Model(image, keras.layers.Add()([x, y])))
    assert equalize(content) == (content, 0)


def test_biases_take_back_what_rounding_moved(keras):
    from compress.quantize.correct import bias_shifts, shift_biases
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.linear import channel_scales, linear_steps, parameters, rounded
    from compress.quantize.observe import Observer

    keras.utils.set_random_seed(4)
    image = keras.Input((SIZE, SIZE, 4), name="image")
    content = converted(keras.Model(image, keras.layers.Conv2D(8, 3, padding="same", use_bias=True)(image)))
    given = [np.abs(picture(seed)) + 0.5 for seed in range(6)]

    def mean_error(model):
        graph = TFLiteGraph(model)
        (linear,) = linear_steps(graph)
        weights, _ = parameters(graph, linear)
        matrix = linear.matrix(weights)
        coarse = linear.unmatrix(rounded(matrix, channel_scales(matrix, bits=3), bits=3), weights.shape)
        graph.set_constant(linear.weights, coarse)
        observer = Observer(graph.to_bytes())
        errors = []
        for sample in given:
            observer.run(sample)
            errors.append((observer.value(linear.output) - outputs(content, sample)).mean((0, 1, 2)))
        return np.abs(np.mean(errors, 0)).max()

    with_biases, shifts = bias_shifts(content, given, bits=3)
    assert mean_error(content) > 0.01
    assert mean_error(shift_biases(with_biases, shifts)) < 1e-4
    assert shift_biases(with_biases, shifts, keep_float=list(shifts)) == with_biases
