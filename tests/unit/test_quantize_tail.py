"""Outputs that join boxes of tens of pixels and scores of 0 to 1: the scores keep their steps."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress
SIZE = 16


def detector(keras, *, box_scale):
    """As the YOLO kind ends: boxes and scores joined cell by cell, two grids one after the other; and a plain output."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", activation="relu")(image)
    parts = []
    for stride in (1, 2):
        y = layers.Conv2D(8, 3, stride, padding="same", activation="relu")(x)
        box = layers.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(0, box_scale))(y)
        score = layers.Conv2D(2, 1, activation="sigmoid")(y)
        joined = layers.Concatenate()([box, score])
        parts.append(layers.Reshape((-1, 6))(joined))
    told = layers.Concatenate(axis=1)(parts)
    return keras.Model(image, {"cells": told, "mean": layers.Dense(3)(layers.GlobalAveragePooling2D()(x))})


def samples():
    rng = np.random.default_rng(0)
    return [rng.random((1, SIZE, SIZE, 3)).astype(np.float32) for _ in range(12)]


def said(content, sample):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer, graph = Observer(content), TFLiteGraph(content)
    observer.run(sample)
    names = graph.signature_names()
    return {names[t]: (observer.value(t), graph.tensor(t).type) for t in graph.outputs}


FLOAT32, INT8 = 0, 9


@pytest.mark.parametrize("box_scale, kind", [(8.0, FLOAT32), (0.4, INT8)])
def test_scores_keep_their_steps_where_boxes_are_large(keras, box_scale, kind):
    from compress.quantize.check import not_done
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    network = detector(keras, box_scale=box_scale)
    content, _ = quantize_network(network, PostTraining(), samples())
    assert not_done(content, "int8") == []
    for sample in samples()[:4]:
        truth = network(sample, training=False)
        told = said(content, sample)
        assert told["cells"][1] == kind
        assert told["mean"][1] == INT8
        off = np.abs(told["cells"][0] - np.asarray(truth["cells"]))[..., 4:]
        assert off.max() < 0.05


def test_the_export_says_the_same(keras):
    import onnxruntime

    from compress.export.onnx_qdq import export_qdq
    from compress.export.qdq_lint import lint_qdq
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining
    from edgeai.engines.onnx import open_session

    network = detector(keras, box_scale=8.0)
    content, _ = quantize_network(network, PostTraining(), samples())
    exported = export_qdq(content)
    assert lint_qdq(exported) == []
    session = open_session(onnxruntime, exported)
    names = [output.name for output in session.get_outputs()]
    told = dict(zip(names, session.run(None, {session.get_inputs()[0].name: samples()[0]}), strict=True))
    wanted = said(content, samples()[0])
    assert np.abs(told["cells"] - wanted["cells"][0])[..., 4:].max() < 0.05


def test_a_network_that_learns_to_round_does_not_round_what_stays_float(keras):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.aware.network import make_aware, rounded_kernels
    from compress.quantize.check import not_done
    from compress.train.rounded import round_kernel

    network = detector(keras, box_scale=8.0)
    aware = make_aware(network, [{"image": sample} for sample in samples()])
    kernels = rounded_kernels(aware)
    for weight in aware.trainable_variables:
        if weight.path in kernels:
            weight.assign(round_kernel(weight.value, kernels[weight.path]))
    content = convert_aware(aware)
    assert not_done(content, "int8") == []
    sample = samples()[0]
    truth, told = aware(sample, training=False), said(content, sample)
    assert told["cells"][1] == FLOAT32
    off = np.abs(told["cells"][0] - np.asarray(truth["cells"]))
    assert off[..., 4:].max() < 0.02
    assert off[..., :4].max() < 0.02 * np.ptp(np.asarray(truth["cells"])[..., :4])


def test_a_backward_layer_may_end_in_an_unlike_join(keras):
    """What its copied integers are joined to is float and has no scale that they would have to share."""
    from compress.quantize.check import not_done
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    layers = keras.layers
    keras.utils.set_random_seed(4)
    given = keras.Input((5, 3), name="given")
    backward = keras.ops.flip(layers.Dense(2, activation="tanh")(given), axis=1)
    network = keras.Model(given, layers.Concatenate()([backward, layers.Dense(2)(given * 100.0)]))
    inputs = [np.random.default_rng(n).normal(size=(1, 5, 3)).astype(np.float32) for n in range(12)]
    content, _ = quantize_network(network, PostTraining(), inputs)
    assert not_done(content, "int8") == []
    ((told, kind),) = said(content, inputs[0]).values()
    assert kind == FLOAT32
    assert np.abs(told - np.asarray(network(inputs[0])))[..., :2].max() < 0.05
