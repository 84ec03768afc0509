"""Ranges cut around SiLU: only where they may be, for the better, and alike for all that shares a scale."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress


def convert(network, samples, *, cut):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.integer import quantize_ranges
    from compress.quantize.silu import narrow_silu_ranges
    from compress.quantize.tflite import convert_tflite

    floats = convert_tflite(network, "float32")
    ranges = calibrate(floats, samples)
    return quantize_ranges(floats, narrow_silu_ranges(floats, ranges, samples) if cut else ranges)


def output_of(content, sample):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer = Observer(content)
    observer.run(sample)
    return observer.value(TFLiteGraph(content).outputs[0])


def test_silu_with_far_negatives_gains_precision(keras):
    picture = keras.Input((8, 8, 3), name="image")
    conv = keras.layers.Conv2D(4, 1)
    network = keras.Model(picture, {"out": keras.layers.Activation("silu")(conv(picture))})
    # one channel reaches far below the bend, the others live around it
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, 0] = (-0.5, 0.01, -0.01, 0.02)
    conv.set_weights([kernel, np.array([1.0, 0.0, 0.5, -1.0], np.float32)])
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 256, (1, 8, 8, 3)).astype(np.float32) for _ in range(9)]
    wanted = np.asarray(network(samples[8])["out"])
    plain, cut = (
        float(np.abs(output_of(convert(network, samples[:8], cut=cut), samples[8]) - wanted).mean())
        for cut in (False, True)
    )
    assert cut < 0.5 * plain


def test_what_only_moves_values_keeps_their_scale(keras):
    """A cut that stops at an upsampling or a pooling would have its kernel copy integers of another scale."""
    from compress.quantize.graph import TFLiteGraph

    layers = keras.layers
    keras.utils.set_random_seed(2)
    picture = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="silu")(picture)
    down = layers.AveragePooling2D(2)(x)
    up = layers.UpSampling2D(2)(layers.Conv2D(4, 1, activation="silu")(layers.MaxPooling2D(2)(x)))
    joined = layers.Concatenate()([x, up, layers.UpSampling2D(2)(down)])
    network = keras.Model(picture, {"out": layers.Conv2D(2, 1)(joined)})
    rng = np.random.default_rng(0)
    samples = [9 * rng.normal(size=(1, 8, 8, 3)).astype(np.float32) ** 3 for _ in range(8)]
    graph = TFLiteGraph(convert(network, samples, cut=True))
    moving = ("AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "TILE", "CONCATENATION")
    seen = set()
    for step in graph.steps:
        if step.kind in moving:
            found = [graph.scales(t) for t in (*step.inputs, *step.outputs) if graph.tensor(t).type == 9]
            assert len({(float(scale[0]), int(zero[0])) for scale, zero, _ in found}) == 1, step.kind
            seen.add(step.kind)
    assert seen >= {"AVERAGE_POOL_2D", "MAX_POOL_2D", "TILE", "CONCATENATION"}


def test_a_model_without_silu_keeps_its_ranges(keras):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.silu import narrow_silu_ranges
    from compress.quantize.tflite import convert_tflite

    picture = keras.Input((8, 8, 3), name="image")
    network = keras.Model(picture, {"out": keras.layers.Conv2D(4, 1, activation="relu")(picture)})
    samples = [np.random.default_rng(0).random((1, 8, 8, 3)).astype(np.float32)]
    floats = convert_tflite(network, "float32")
    ranges = calibrate(floats, samples)
    assert narrow_silu_ranges(floats, ranges, samples) == ranges


class Given:
    """A network whose one tensor is what it is run on."""

    def run(self, sample):
        self.sample = sample

    def value(self, tensor):
        return self.sample


def cap_of(*samples):
    from compress.quantize.silu import silu_caps

    return silu_caps(Given(), ["x"], samples)["x"]


def test_a_cut_weighs_small_channels_as_large_ones():
    rng = np.random.default_rng(0)
    small = rng.normal(size=(1, 64, 64, 15))
    far = np.where(rng.random((1, 64, 64, 1)) < 0.05, 80.0, 0.0) + rng.normal(size=(1, 64, 64, 1))
    uneven = np.concatenate([small, far], -1).astype(np.float32)
    assert cap_of(uneven, uneven) < 20, "fifteen channels would have six steps each"


def test_nothing_is_cut_that_all_channels_reach():
    rng = np.random.default_rng(0)
    even = rng.uniform(-6, 12, (1, 64, 64, 8)).astype(np.float32)
    assert cap_of(even) > 11.9


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (1, 4)])
def test_a_channel_that_never_changes_and_a_single_place_have_a_cap(shape):
    assert cap_of(np.full(shape, 5.0, np.float32), np.full(shape, 5.0, np.float32)) >= 3
