"""Norms over channels, PReLU and GELU in int8 and as Q/DQ: nothing of them stays float without a word."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytestmark = pytest.mark.compress


def samples(count=24):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, 12, 12, 6)).astype(np.float32) for _ in range(count)]


BODIES = {
    "layer-norm": lambda layers, x: layers.LayerNormalization(epsilon=1e-6)(x),
    "group-norm": lambda layers, x: layers.GroupNormalization(4)(x),
    "prelu": lambda layers, x: layers.PReLU(shared_axes=[1, 2], alpha_initializer="uniform")(x),
    "gelu": lambda layers, x: layers.Activation("gelu")(x),
    "gelu-tanh": lambda layers, x: __import__("keras").ops.gelu(x, approximate=True),
}


def built(keras, body):
    keras.utils.set_random_seed(2)
    given = keras.Input((12, 12, 6), name="given")
    x = keras.layers.Conv2D(16, 3, padding="same")(given)
    x = keras.layers.Conv2D(8, 3, strides=2)(body(keras.layers, x))
    return keras.Model(given, {"scores": keras.layers.Dense(5, name="scores")(keras.layers.Flatten()(x))})


def said_by_tflite(content, sample):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer = Observer(content)
    observer.run(sample)
    return observer.value(TFLiteGraph(content).outputs[0])


def decibels(truth, told):
    truth = np.concatenate(truth)
    return 10 * np.log10(np.sum(truth**2) / np.sum((np.concatenate(told) - truth) ** 2))


@pytest.fixture(scope="module", params=BODIES)
def made(request, keras):
    """(the network, its int8 TFLite file, its ONNX with Q/DQ, what was told of it)."""
    from compress.export.onnx_qdq import export_qdq
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    network = built(keras, BODIES[request.param])
    content, told = quantize_network(network, PostTraining(), samples())
    return network, content, export_qdq(content), told


def test_all_of_it_is_int8(made):
    from compress.export.qdq_lint import lint_qdq
    from compress.quantize.check import not_done

    _, content, exported, told = made
    assert not_done(content, "int8") == []
    assert lint_qdq(exported) == []
    assert len(told["layers"]) >= 4


def test_both_files_are_near_float(made):
    import onnxruntime

    from edgeai.engines.onnx import open_session

    network, content, exported, _ = made
    given = samples()
    session = open_session(onnxruntime, exported)
    truth = [np.asarray(network(one)["scores"]) for one in given]
    integer = [said_by_tflite(content, one) for one in given]
    onnx = [session.run(None, {"given": one})[0] for one in given]
    assert decibels(truth, integer) > 25
    assert decibels(integer, onnx) > 25


def test_nvidias_builder_takes_it(made):
    if not os.environ.get("EDGEAI_REQUIRE_TRT"):
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    from compress.export.trt_gate import check_for_tensorrt

    report = check_for_tensorrt(made[2])
    assert report.passed, (report.faults, report.errors)


def test_a_product_in_the_place_of_a_negation_says_the_same(keras):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.tflite import convert_tflite
    from compress.quantize.tidy import only_products

    network = built(keras, BODIES["layer-norm"])
    floats = convert_tflite(network, "float32")
    kinds = [step.kind for step in TFLiteGraph(floats).steps]
    made = only_products(floats)
    assert [step.kind for step in TFLiteGraph(made).steps] == ["MUL" if k == "NEG" else k for k in kinds]
    assert "NEG" in kinds
    assert only_products(made) is made
    for one in samples(3):
        np.testing.assert_array_equal(said_by_tflite(made, one), said_by_tflite(floats, one))


def test_layer_norms_convert_after_quantization_aware_training_too(keras):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.aware.network import make_aware, renamed
    from compress.quantize.check import not_done

    network = built(keras, BODIES["layer-norm"])
    given = [{"given": one} for one in samples()]
    aware = make_aware(network, given)
    assert not_done(convert_aware(aware, renamed(given, network, aware)), "int8") == []
