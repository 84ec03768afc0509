"""Dense layers and attention as ONNX with Q/DQ: every dense product has its pairs, the attention's own stay float."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edgeai.engines.onnx import open_session

pytestmark = pytest.mark.compress
STEPS, WIDTH = 32, 16


def perceptron(layers, given):
    x = layers.Dense(12, activation="relu")(layers.Flatten()(given))
    return layers.Dense(4)(layers.Dense(8, activation="relu6")(x))


def by_step(layers, given):
    x = layers.TimeDistributed(layers.Dense(8, activation="relu"))(given)
    return layers.Dense(4)(layers.Dense(8, activation="relu")(x))


def transformer_block(layers, given):
    x = layers.Dense(WIDTH)(given)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)])
    y = layers.Dense(WIDTH, name="narrow")(layers.Dense(2 * WIDTH, activation="relu")(x))
    return layers.Dense(4)(layers.Add()([x, y]))


NETWORKS = {"perceptron": perceptron, "by step": by_step, "transformer block": transformer_block}


@pytest.fixture(scope="module", params=NETWORKS)
def made(request, keras):
    """(the int8 TFLite file, its ONNX with Q/DQ, inputs) of a network."""
    from compress.export.onnx_qdq import export_qdq
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    keras.utils.set_random_seed(5)
    given = keras.Input((STEPS, WIDTH), name="given")
    network = keras.Model(given, NETWORKS[request.param](keras.layers, given))
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(1, STEPS, WIDTH)).astype(np.float32) for _ in range(8)]
    integer, _ = quantize_network(network, PostTraining(), inputs)
    return integer, export_qdq(integer), inputs


def test_each_product_with_weights_has_pairs(made):
    from compress.export.qdq_lint import lint_qdq

    assert lint_qdq(made[1]) == []


def test_it_says_what_the_tflite_file_says(made):
    import onnxruntime

    from compress.quantize.check import decibels
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    integer, exported, inputs = made
    observer, session = Observer(integer), open_session(onnxruntime, exported)
    power, noise = 0.0, 0.0
    for one in inputs:
        observer.run(one)
        truth = observer.value(TFLiteGraph(integer).outputs[0])
        (told,) = session.run(None, {session.get_inputs()[0].name: one})
        power += float(np.sum(truth**2))
        noise += float(np.sum((truth - told.reshape(truth.shape)) ** 2))
    assert decibels(power, noise) > 25


def test_what_a_softmax_weighs_stays_float(made):
    import onnx

    graph = onnx.load_from_string(made[1]).graph
    maker = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        kinds = [maker[name].op_type if name in maker else "" for name in node.input]
        assert not (node.op_type == "QuantizeLinear" and "Softmax" in kinds)
        if node.op_type == "MatMul" and "Softmax" in kinds:
            assert "DequantizeLinear" not in kinds, "half of a product in int8 is no product in int8"


def test_nvidias_builder_takes_it(made):
    if not os.environ.get("EDGEAI_REQUIRE_TRT"):
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    from compress.export.trt_gate import check_for_tensorrt

    report = check_for_tensorrt(made[1])
    assert report.passed, (report.faults, report.errors)
