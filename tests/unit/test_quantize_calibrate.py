"""Ranges for int8: what tensors really take, what each rule cuts, and that the quantizer takes them over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def pictures(count, seed=0, size=16):
    rng = np.random.default_rng(seed)
    return [rng.random((1, size, size, 3)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def residual(keras):
    """Convolutions with a residual addition, which LiteRT does in place."""
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    y = layers.Conv2D(8, 3, padding="same", name="second")(x)
    x = layers.Add(name="sum")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4, name="scores")(x))


@pytest.fixture(scope="module")
def floats(residual):
    from compress.quantize.tflite import convert_tflite

    return convert_tflite(residual, "float32")


def test_ranges_are_those_of_the_network_also_around_an_addition_in_place(residual, floats, keras):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.graph import TFLiteGraph

    given = pictures(4)
    ranges, graph = calibrate(floats, given), TFLiteGraph(floats)
    second = next(
        t for step in graph.steps if step.kind == "ADD" for t in step.inputs if "second" in graph.name(t)
    )
    inside = keras.Model(residual.input, residual.get_layer("second").output)
    values = np.concatenate([inside(p, training=False).numpy() for p in given])
    np.testing.assert_allclose(ranges[second], (values.min(), values.max()), rtol=1e-4)


@pytest.mark.parametrize("rule", ["percentile", "mse", "entropy"])
def test_a_rule_cuts_outliers_and_keeps_zero(floats, rule):
    from compress.quantize.calibrate import calibrate

    whole, cut = calibrate(floats, pictures(4)), calibrate(floats, pictures(4), rule)
    assert cut.keys() == whole.keys()
    for tensor, (low, high) in cut.items():
        least, most = whole[tensor]
        assert least - 1e-6 <= low <= 0 <= high <= most + 1e-6
    # a ten-thousandth of few values is none
    assert rule == "percentile" or any(cut[t] != whole[t] for t in cut)


def histograms():
    counts = st.lists(st.integers(0, 10_000), min_size=2048, max_size=2048).filter(any)
    ends = st.tuples(st.floats(-100, 0), st.floats(0, 100)).filter(lambda pair: pair[1] - pair[0] > 1e-3)
    return st.tuples(ends, st.integers(0, 2**32 - 1), st.floats(0.2, 8)).map(_drawn) | st.tuples(
        ends, counts
    ).map(lambda drawn: (*drawn[0], np.array(drawn[1], float)))


def _drawn(given):
    (low, high), seed, shape = given
    values = np.random.default_rng(seed).gamma(shape, size=4000)
    values = low + (high - low) * values / values.max()
    return low, high, np.histogram(values, 2048, (low, high))[0].astype(float)


@settings(max_examples=40, deadline=None)
@given(histograms())
def test_least_squares_is_no_worse_than_the_whole_range(drawn):
    from compress.quantize.calibrate import Histogram, entropy_range, mse_range, percentile_range

    histogram = Histogram(*drawn)
    x, n = histogram.centres, histogram.counts

    def cost(low, high):
        beyond = x - np.clip(x, low, high)
        return float(n @ beyond**2 + n.sum() * ((high - low) / 255) ** 2 / 12)

    assert cost(*mse_range(histogram)) <= cost(histogram.low, histogram.high) * (1 + 1e-9)
    for rule in (mse_range, percentile_range, entropy_range):
        low, high = rule(histogram)
        assert histogram.low - 1e-9 <= low <= 0 <= high <= histogram.high + 1e-9
        assert high > low


def test_a_lone_outlier_does_not_set_the_step():
    from compress.quantize.calibrate import Histogram, entropy_range, mse_range, percentile_range

    counts = np.round(1e6 * np.exp(-np.arange(2048) / 25))
    counts[-1] = 1
    histogram = Histogram(0.0, 2048.0, counts)
    for rule in (percentile_range, mse_range, entropy_range):
        assert 100 < rule(histogram)[1] < 500


def test_a_network_that_overflows_is_told_by_the_tensor(keras):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.tflite import convert_tflite

    image = keras.Input((4, 4, 3), name="image")
    x = keras.layers.Conv2D(2, 1, name="huge", kernel_initializer=keras.initializers.Constant(3e38))(image)
    network = keras.Model(image, keras.layers.Conv2D(2, 1, name="y")(x))
    with pytest.raises(PassError, match=r"calibration: tensor '.*huge.*NaN or infinity"):
        calibrate(convert_tflite(network, "float32"), [np.ones((1, 4, 4, 3), np.float32)])


def test_weights_and_scales_are_those_of_the_converter(keras):
    """Without additions its own calibration is right, and then there is nothing to choose."""
    import tensorflow as tf

    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.tflite import convert_tflite

    keras.utils.set_random_seed(2)
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    network = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    given = pictures(4)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter([[p] for p in given])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    theirs = TFLiteGraph(converter.convert())
    ours = TFLiteGraph(convert_tflite(network, "int8", given))
    assert [step.kind for step in ours.steps] == [step.kind for step in theirs.steps]
    for a, b in zip(ours.steps, theirs.steps, strict=True):
        np.testing.assert_allclose(ours.scales(a.outputs[0])[0], theirs.scales(b.outputs[0])[0], rtol=1e-5)
        for mine, other in zip(a.weighted or (), b.weighted or (), strict=True):
            if ours.constant(mine) is not None:
                np.testing.assert_allclose(ours.constant(mine), theirs.constant(other), atol=1)


def test_an_operation_may_stay_float(floats):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.integer import quantize_ranges

    graph = TFLiteGraph(floats)
    name = next(
        graph.name(s.outputs[0])
        for s in graph.steps
        if s.kind == "CONV_2D" and "second" in graph.name(s.outputs[0])
    )
    ranges = calibrate(floats, pictures(2))
    kinds = [step.kind for step in TFLiteGraph(quantize_ranges(floats, ranges)).steps]
    mixed = TFLiteGraph(quantize_ranges(floats, ranges, keep_float=[name]))
    assert "DEQUANTIZE" not in kinds
    (kept,) = (s for s in mixed.steps if s.kind == "CONV_2D" and mixed.tensor(s.outputs[0]).type == 0)
    assert name in mixed.name(kept.outputs[0])


def test_several_inputs_are_taken_by_their_names(keras):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.tflite import convert_tflite

    wide, long = keras.Input((8,), name="wide"), keras.Input((8,), name="long")
    network = keras.Model([wide, long], keras.layers.Dense(2)(keras.layers.Concatenate()([wide, long])))
    floats = convert_tflite(network, "float32")
    sample = {"wide": np.full((1, 8), 3.0, np.float32), "long": np.full((1, 8), -2.0, np.float32)}
    ranges, graph = calibrate(floats, [sample]), TFLiteGraph(floats)
    told = {("wide" if "wide" in graph.name(t) else "long"): ranges[t] for t in graph.inputs}
    assert told == {"wide": (0.0, 3.0), "long": (-2.0, 0.0)}
