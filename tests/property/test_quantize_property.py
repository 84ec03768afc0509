"""Any network: its int8 file, its Q/DQ export and its quantization-aware form say what it says, or one line says why not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import SIZE, STEPS, random_network, random_sequences

from edgeai.engines.onnx import open_session
from edgeai.errors import EdgeError

pytestmark = pytest.mark.compress
SEEDS = st.integers(0, 2**32 - 1)
# 256 steps a tensor and some tens of layers leave 25 to 50 decibels; a wrong scale anywhere leaves next to none
FAR_DB, NEAR_DB = 8.0, 12.0


def drawn(seed, kind="pictures"):
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    network = random_network(rng) if kind == "pictures" else random_sequences(rng, words=False)
    shape = (1, SIZE, SIZE, 3) if kind == "pictures" else (1, STEPS, 6)
    name = network.inputs[0].name
    return network, [{name: rng.normal(size=shape).astype(np.float32)} for _ in range(8)]


def said(content, sample):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer = Observer(content)
    observer.run(sample)
    entries = TFLiteGraph(content).model.signatureDefs[0].outputs
    return {bytes(e.name).decode(): observer.value(int(e.tensorIndex)) for e in entries}


def apart_db(truth, told):
    from compress.quantize.check import decibels

    return min(
        decibels(
            float(np.sum(truth[n] ** 2)), float(np.sum((truth[n] - told[n].reshape(truth[n].shape)) ** 2))
        )
        for n in truth
    )


def keras_said(network, sample):
    told = network(next(iter(sample.values())), training=False)
    return {name: np.asarray(value) for name, value in told.items()}


@pytest.mark.parametrize("kind", ["pictures", "sequences"])
@given(SEEDS, st.sampled_from(["min-max", "percentile", "mse"]), st.booleans())
@settings(max_examples=3, deadline=None)
def test_int8_and_its_export_say_what_the_network_says(kind, seed, rule, per_channel):
    import onnxruntime

    from compress.export.onnx_qdq import export_qdq
    from compress.export.qdq_lint import lint_qdq
    from compress.quantize.check import not_done
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    network, samples = drawn(seed, kind)
    try:
        content, _ = quantize_network(network, PostTraining(rule=rule, per_channel=per_channel), samples)
        if not_done(content, "int8"):  # the pass refuses it
            return
        exported = export_qdq(content)
    except EdgeError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert lint_qdq(exported) == []
    integer = said(content, samples[0])
    assert apart_db(keras_said(network, samples[0]), integer) > FAR_DB
    session = open_session(onnxruntime, exported)
    (image,) = samples[0].values()
    told = session.run(None, {session.get_inputs()[0].name: image})
    names = [output.name for output in session.get_outputs()]
    assert apart_db(integer, dict(zip(names, told, strict=True))) > FAR_DB


@given(SEEDS)
@settings(max_examples=3, deadline=None)
def test_a_network_that_rounds_in_training_says_what_its_file_says(seed):
    from compress.quantize.aware.convert import convert_aware
    from compress.quantize.aware.network import make_aware, renamed, rounded_kernels
    from compress.train.rounded import round_kernel

    network, samples = drawn(seed)
    try:
        aware = make_aware(network, samples)
        kernels = rounded_kernels(aware)
        for weight in aware.trainable_variables:
            if weight.path in kernels:
                weight.assign(round_kernel(weight.value, kernels[weight.path]))
        (given_inputs, *_) = inputs = renamed(samples, network, aware)
        content = convert_aware(aware, inputs)
    except EdgeError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert apart_db(keras_said(aware, given_inputs), said(content, given_inputs)) > NEAR_DB
