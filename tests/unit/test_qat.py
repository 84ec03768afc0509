"""Quantization-aware training: what it rounds is what the int8 file rounds, and what it learns is taken over."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError

pytestmark = pytest.mark.compress
LSB = 1.001  # one step of the output, and float32's last bits


def samples(count=8, seed=0, size=16):
    rng = np.random.default_rng(seed)
    return [{"image": rng.normal(size=(1, size, size, 3)).astype(np.float32)} for _ in range(count)]


def shaken(network, seed=0):
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "bias", "moving_mean"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return network


@pytest.fixture(scope="module")
def network(keras):
    """Every kind of layer that takes a batch norm in, a residual sum, a concatenation, a pooling."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    y = layers.BatchNormalization(center=False)(layers.Conv2D(16, 1)(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", activation="relu")(x)])
    x = layers.Conv2DTranspose(6, 2, strides=2, use_bias=False)(layers.MaxPooling2D()(x))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dense(10, use_bias=False)(layers.GlobalAveragePooling2D()(x))
    return shaken(keras.Model(image, layers.BatchNormalization()(x)))


@pytest.fixture(scope="module")
def aware(network):
    from compress.quantize.aware.network import make_aware, rounded_kernels
    from compress.train.rounded import round_kernel

    made = make_aware(network, samples())
    kernels = rounded_kernels(made)
    for weight in made.trainable_variables:
        if weight.path in kernels:
            weight.assign(round_kernel(weight.value, kernels[weight.path]))
    return made


def test_folding_changes_nothing(network, keras):
    from compress.quantize.aware.fold import fold_norms

    folded = fold_norms(network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    image = samples(1)[0]["image"]
    np.testing.assert_allclose(folded(image), network(image), atol=1e-5)


def test_a_norm_that_others_read_around_stays(keras):
    from compress.quantize.aware.fold import fold_norms

    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(3, 1)(image)
    twice = layers.Add()([x, layers.BatchNormalization(name="shared")(x)])
    active = layers.BatchNormalization(name="behind")(layers.Conv2D(3, 1, activation="silu")(twice))
    network = shaken(keras.Model(image, active))
    folded = fold_norms(network)
    assert {layer.name for layer in folded.layers} >= {"shared", "behind"}
    given = samples(1, size=8)[0]["image"]
    np.testing.assert_allclose(folded(given), network(given), atol=1e-5)


def test_the_file_needs_no_inputs_and_says_what_training_saw(aware):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.check import not_done
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    content = convert_aware(aware)
    assert not_done(content, "int8") == []
    graph, observer = TFLiteGraph(content), Observer(content)
    (output,) = graph.outputs
    step = float(graph.scales(output)[0][0])
    weights = [step_.weighted[1] for step_ in graph.weighted()]
    assert any(len(graph.scales(w)[0]) > 1 for w in weights)
    for sample in samples(4, seed=9):
        observer.run(sample)
        told = observer.value(output)
        assert np.abs(told - np.asarray(aware(sample["image"], training=False))).max() <= LSB * step


def test_the_plain_network_has_no_rounding_and_the_rounded_weights(aware, network):
    from compress.quantize.aware.network import plain_network

    plain = plain_network(aware)
    assert not any(layer.name.endswith("_rounded") for layer in plain.layers)
    kernel = plain.get_layer("first").get_weights()[0]
    steps = kernel / np.abs(kernel).max((0, 1, 2)) * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    image = samples(1)[0]["image"]
    assert np.abs(plain(image) - network(image)).max() < 0.1


def test_layers_of_several_operations_take_inputs_for_what_lies_inside(keras):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.aware.network import make_aware
    from compress.quantize.check import not_done

    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.SeparableConv2D(8, 3)(image)
    aware = make_aware(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)), samples())
    assert not_done(convert_aware(aware), "int8") != []
    assert not_done(convert_aware(aware, samples()), "int8") == []


def ends(network, name):
    return network.get_layer(name).bounds()


def trained(aware, *, steps=30, target=0.0, rounded=None):
    from compress.train.fit import FitSettings, fit

    def make(rng):
        return {"inputs": rng.normal(size=(8, 16, 16, 3)).astype(np.float32), "targets": {}}

    def loss(outputs, batch):
        return (outputs - target) ** 2

    chosen = FitSettings(steps=steps, batch=8, learning_rate=1e-2, average=0.0, weight_decay=0.0)
    return fit(aware, make, loss, chosen, description="qat", rounded=rounded)


@pytest.mark.parametrize("ranges", ["learned", "moving-average"])
def test_ranges_go_on_in_training(network, ranges):
    from compress.quantize.aware.network import make_aware, rounded_kernels

    aware = make_aware(network, samples(), ranges=ranges)
    names = [layer.name for layer in aware.layers if layer.name.endswith("_rounded")]
    before = {name: ends(aware, name) for name in names}
    trained(aware, rounded=rounded_kernels(aware))
    after = {name: ends(aware, name) for name in names}
    moved = [name for name in names if after[name] != before[name]]
    assert len(moved) > len(names) / 2
    for low, high in after.values():
        assert low <= 0 < high
    # behind a ReLU nothing is below 0, and no step is spent there
    assert after[next(name for name in names if name.startswith("re_lu"))][0] == 0.0
    kernel = aware.get_layer("first").get_weights()[0]
    steps = kernel / np.abs(kernel).max((0, 1, 2)) * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)


def test_the_gradient_of_a_range_is_that_of_learned_steps():
    """LSQ, equation 3: within, rounding's error over the step; beyond, the cut end."""
    import tensorflow as tf

    from compress.quantize.aware.fake_quant import fake_quant_class

    layer = fake_quant_class()(0.0, 255.0)
    values = tf.constant([[0.3, 10.4, 254.8, 300.0]])
    layer.build(values.shape)
    with tf.GradientTape() as tape:
        tape.watch(values)
        told = layer(values)
    of_values, of_log = tape.gradient(told, [values, layer.log_range.value])
    np.testing.assert_allclose(told, [[0, 10, 255, 255]], atol=1e-4)
    np.testing.assert_allclose(of_values, [[1, 1, 1, 0]])
    of_high = 1 + (-0.3 - 0.4 + 0.2) / 255  # by the end itself; then by its logarithm, as LSQ scales it
    np.testing.assert_allclose(of_log[1], of_high * 255 / np.sqrt(4 * 127.5), rtol=1e-4)
    assert of_log[0] == 0


def test_sigmoid_and_softmax_keep_the_scale_of_their_kernels(keras):
    from compress.quantize.aware.network import make_aware

    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="sigmoid", name="gate")(image)
    aware = make_aware(keras.Model(image, keras.layers.Softmax(name="scores")(x)), samples())
    fixed = [layer for layer in aware.layers if getattr(layer, "trains", "") == "fixed"]
    assert [layer.bounds() for layer in fixed] == [(0.0, 255 / 256)] * 2


def test_a_tensor_that_is_always_0_gets_a_range(keras):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.aware.network import make_aware

    image = keras.Input((16, 16, 3), name="image")
    network = keras.Model(image, keras.layers.Conv2D(4, 3, kernel_initializer="zeros")(image))
    assert convert_aware(make_aware(network, samples()))


def test_a_network_that_is_none_of_functional_is_told(keras):
    from compress.quantize.aware.network import make_aware

    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(PassError, match="functional"):
        make_aware(Own(), samples())
