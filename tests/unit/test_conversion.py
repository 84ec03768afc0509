"""From Keras to TFLite and ONNX: each precision runs in the device's engine and says about what the network says."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.errors import PassError

pytestmark = pytest.mark.compress
SIZE = 32


@pytest.fixture(scope="module")
def network():
    """A small network with every kind of layer that ours have; its batch norms have statistics, so outputs spread."""
    from compress.networks.blocks import conv_norm, depthwise_norm
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = conv_norm(image, 8, kernel=3, stride=2)
    low = conv_norm(x, 8, kernel=3, stride=2, activation="silu")
    x = layers.Concatenate()([x, layers.UpSampling2D(2)(low)])
    y = depthwise_norm(x)
    x = layers.Add()([x, y])
    outputs = {
        "box_2": layers.Conv2D(4, 1, name="box_2")(x),
        "class_2": layers.Conv2D(2, 1, name="class_2")(x),
    }
    model = keras.Model(image, outputs)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.3, 1, w.shape).astype(np.float32) for w in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def converted(network):
    """The network in every precision: conversions take seconds, so each is made once."""
    from compress.quantize.tflite import convert_tflite

    given = [p[None] for p in pictures(16)]
    kinds = ("float32", "float16", "dynamic", "int8", "int16x8")
    return {kind: convert_tflite(network, kind, given if kind.startswith("int") else None) for kind in kinds}


def pictures(count, seed=1):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    return (blocks / 255).astype(np.float32)


def run_file(path, picture):
    """Through the edge engine: a uint8 picture in, named float32 outputs."""
    spec = ImageInput(width=SIZE, height=SIZE, std=(255.0, 255.0, 255.0))
    with EdgeEngine(open_model_file(path), spec) as engine:
        return engine.run({"image": np.rint(picture * 255).astype(np.uint8)})


@pytest.mark.parametrize(
    "precision, allowed",
    [("float32", 1e-3), ("float16", 0.02), ("dynamic", 0.15), ("int8", 0.3), ("int16x8", 0.02)],
)
def test_each_precision_runs_on_the_device_engine(network, converted, tmp_path, precision, allowed):
    from compress.quantize.check import not_done

    path = tmp_path / "model.tflite"
    path.write_bytes(converted[precision])
    (picture,) = pictures(1, seed=2)
    got, wanted = run_file(path, picture), network(picture[None], training=False)
    assert set(got) == set(wanted)
    for name in wanted:
        span = float(np.ptp(wanted[name])) + 1e-6
        assert np.abs(got[name] - np.array(wanted[name])).max() / span < allowed
    assert not_done(converted[precision], precision) == []


def test_smaller_precisions_are_smaller(converted):
    sizes = {kind: len(content) for kind, content in converted.items()}
    assert sizes["int8"] < sizes["float32"]
    assert sizes["float16"] < sizes["float32"]


@pytest.mark.parametrize(
    "representative, told",
    [
        (None, "there are none"),
        ([], "there are none"),
        ([np.zeros((1, 8, 8, 3), np.float32)], r"must be \(1, 32, 32, 3\)"),
        ([np.full((1, SIZE, SIZE, 3), np.nan, np.float32)], "NaN"),
        ([np.zeros((1, SIZE, SIZE, 3), np.float32)] * 3, "constant"),
    ],
)
def test_calibration_data_that_sets_no_ranges_is_refused(network, representative, told):
    from compress.quantize.tflite import convert_tflite

    with pytest.raises(PassError, match=told):
        convert_tflite(network, "int8", representative)


def test_what_cannot_be_int8_is_a_pass_error(tmp_path):
    import keras

    from compress.quantize.tflite import convert_tflite

    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Lambda(lambda t: keras.ops.erf(t) if hasattr(keras.ops, "erf") else t)(image)
    x = keras.layers.Conv2D(2, 1, name="y")(x)
    model = keras.Model(image, {"y": x})
    rng = np.random.default_rng(0)
    with pytest.raises(PassError, match=r"TFLite converter failed \(int8\)"):
        convert_tflite(model, "int8", [rng.random((1, 8, 8, 3)).astype(np.float32)])


def test_onnx_says_what_keras_says(network, tmp_path):
    from compress.export.onnx import export_onnx

    path = tmp_path / "model.onnx"
    export_onnx(network, path)
    (picture,) = pictures(1, seed=3)
    got, wanted = run_file(path, picture), network(picture[None], training=False)
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], atol=1e-3)


def test_a_keyword_network_keeps_its_outputs_name(tmp_path):
    from compress.export.onnx import export_onnx
    from compress.networks.keyword import ds_cnn, ds_tc_resnet

    spec = LogMelInput(mels=16, frames=12)
    features = np.random.default_rng(0).uniform(-1, 1, (1, 12, 16, 1)).astype(np.float32)
    for build in (ds_cnn, ds_tc_resnet):
        model = build(frames=12, mels=16, classes=3, multiplier=0.25)
        path = tmp_path / "model.onnx"
        export_onnx(model, path)
        with EdgeEngine(open_model_file(path), spec) as engine:
            got = engine.run({"features": features})
        np.testing.assert_allclose(got["keyword"], model(features, training=False)["keyword"], atol=1e-4)


def test_standard_error_comes_back_after_a_conversion(network, capfd):
    import os

    from compress.quiet import quiet_stderr

    with pytest.raises(PassError), quiet_stderr():
        os.write(2, b"chatter of the converter")
        raise PassError("told later")
    os.write(2, b"told")
    assert capfd.readouterr().err == "told"
