"""Learned rounding, and weights of four bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def samples(count, seed=0):
    """Smooth pictures, as real ones are: neighbouring inputs go together, which is what rounding can use."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (count, 4, 4, 3)).repeat(3, 1).repeat(3, 2)
    return [picture[None].astype(np.float32) for picture in coarse]


@pytest.fixture(scope="module")
def floats(keras):
    from compress.quantize.tflite import convert_tflite

    layers = keras.layers
    keras.utils.set_random_seed(5)
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", bias_initializer="normal")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6", bias_initializer="normal")(x)
    x = layers.Conv2D(24, 1, activation="relu", bias_initializer="normal")(x)
    x = layers.Conv2D(8, 3, groups=4, bias_initializer="normal")(x)
    return convert_tflite(keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x))), "float32")


@pytest.fixture(scope="module")
def learnt(floats):
    from compress.quantize.adaround import Rounding, adaround

    return adaround(floats, samples(24), Rounding(bits=4, steps=200, places=1024, cut=True))


def test_learned_rounding_keeps_outputs_closer_than_the_nearest_integers(learnt):
    before, after = np.array(list(learnt.error.values())).T
    assert (after <= before).all()
    assert after.sum() < 0.6 * before.sum()


def test_weights_lie_on_the_grid(floats, learnt):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.linear import linear_steps

    graph, plain = TFLiteGraph(learnt.flatbuffer), TFLiteGraph(floats)
    for linear in linear_steps(graph):
        scale = learnt.scales[linear.weights].reshape(linear.groups, 1, -1)
        integers = linear.matrix(graph.constant(linear.weights)) / scale
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
        assert np.abs(integers).max() < 7.5
        inside = np.abs(linear.matrix(plain.constant(linear.weights)) / scale) < 7
        moved = np.abs(integers - linear.matrix(plain.constant(linear.weights)) / scale)
        assert moved[inside].max() < 1.001


def test_the_int8_quantizer_takes_learned_integers_over(floats):
    from compress.quantize.adaround import Rounding, adaround
    from compress.quantize.calibrate import calibrate
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.integer import quantize_ranges
    from compress.quantize.linear import linear_steps

    made = adaround(floats, samples(8), Rounding(bits=8, steps=60, places=256))
    integer = TFLiteGraph(quantize_ranges(made.flatbuffer, calibrate(made.flatbuffer, samples(8))))
    graph = TFLiteGraph(made.flatbuffer)
    for ours, theirs in zip(linear_steps(graph), linear_steps(integer), strict=True):
        stored, scale = integer.constant(theirs.weights), made.scales[ours.weights]
        axis = 3 if ours.step.kind == "DEPTHWISE_CONV_2D" else 0
        wanted = np.moveaxis(graph.constant(ours.weights), axis, -1) / scale
        np.testing.assert_allclose(np.moveaxis(stored, axis, -1), wanted, atol=1e-2)


def test_four_bits_say_what_the_rounded_network_says_in_fewer_bytes(floats, learnt):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.four_bits import pack_four_bits
    from compress.quantize.integer import quantize_ranges
    from compress.quantize.observe import Observer

    integer = quantize_ranges(learnt.flatbuffer, calibrate(learnt.flatbuffer, samples(24)))
    packed = pack_four_bits(integer, learnt.flatbuffer, learnt.scales)
    assert len(packed) < len(integer) - 400
    runners = [Observer(content) for content in (learnt.flatbuffer, packed)]
    told = []
    for sample in samples(8, seed=1):
        for runner in runners:
            runner.run(sample)
        told.append([runner.value(runner._runner.get_output_details()[0]["index"]) for runner in runners])
    truth, four = np.array(told).swapaxes(0, 1)
    assert np.abs(truth - four).max() < 0.04 * np.ptp(truth)


def test_another_model_is_not_mixed_in(floats, learnt, keras):
    from compress.quantize.four_bits import pack_four_bits
    from compress.quantize.tflite import convert_tflite

    image = keras.Input((12, 12, 3), name="image")
    other = convert_tflite(keras.Model(image, keras.layers.Conv2D(2, 1)(image)), "int8", samples(2))
    with pytest.raises(PassError, match="four bits: the int8 model has other layers"):
        pack_four_bits(other, learnt.flatbuffer, learnt.scales)


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=33))
def test_nibbles_come_back(values):
    from compress.quantize.four_bits import pack_nibbles

    content = np.frombuffer(pack_nibbles(np.array(values, np.int8)), np.uint8)
    halves = np.stack([content & 15, content >> 4], 1).ravel().astype(np.int8)
    assert len(content) == (len(values) + 1) // 2
    assert ((halves ^ 8) - 8)[: len(values)].tolist() == values
