"""Recurrent layers in int8: written out step by step, each step with ranges of its own, and right in every kind of wrapper."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError

pytestmark = pytest.mark.compress
STEPS, WIDTH = 6, 5


def samples(count=16, steps=STEPS):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1, steps, WIDTH)).astype(np.float32) for _ in range(count)]


def built(keras, body, steps=STEPS):
    """A network around `body`; two steps of its sequence joined, so that scales meet."""
    keras.utils.set_random_seed(1)
    given = keras.Input((steps, WIDTH), name="given")
    x = body(keras.layers, given)
    x = keras.layers.Flatten()(x) if len(x.shape) > 2 and x.shape[1] else x
    return keras.Model(given, {"scores": keras.layers.Dense(3, name="scores")(x)})


BODIES = {
    "gru": lambda layers, x: layers.GRU(6, return_sequences=True)(x),
    "gru-last": lambda layers, x: layers.GRU(6)(x),
    "lstm": lambda layers, x: layers.LSTM(6, return_sequences=True)(x),
    "simple": lambda layers, x: layers.SimpleRNN(6, return_sequences=True)(x),
    "backwards": lambda layers, x: layers.LSTM(6, return_sequences=True, go_backwards=True)(x),
    "two": lambda layers, x: layers.LSTM(6)(layers.GRU(6, return_sequences=True)(x)),
    "both-ways": lambda layers, x: layers.Bidirectional(layers.GRU(6, return_sequences=True))(x),
    "both-ways-added": lambda layers, x: layers.Bidirectional(
        layers.LSTM(6, return_sequences=True), merge_mode="sum"
    )(x),
    "of-a-cell": lambda layers, x: layers.RNN([layers.GRUCell(6), layers.LSTMCell(4)], return_sequences=True)(
        x
    ),
}


def quantized(network, **settings):
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    return quantize_network(network, PostTraining(**settings), samples())[0]


def said(content, sample):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer

    observer = Observer(content)
    observer.run(sample)
    return observer.value(TFLiteGraph(content).outputs[0])


@pytest.mark.parametrize("body", sorted(BODIES))
def test_int8_is_integer_throughout_and_says_what_the_network_says(keras, body):
    from compress.quantize.check import decibels, not_done

    network = built(keras, BODIES[body])
    content = quantized(network)
    assert not_done(content, "int8") == []
    truth = np.concatenate([np.asarray(network(s)["scores"]) for s in samples()])
    told = np.concatenate([said(content, s) for s in samples()])
    assert decibels(float(np.sum(truth**2)), float(np.sum((truth - told) ** 2))) > 24


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_other_precisions_keep_the_loop_also_after_int8(keras, precision):
    from compress.quantize.tflite import convert_tflite

    network = built(keras, BODIES["gru"])
    quantized(network)
    assert len(convert_tflite(network, precision)) < len(convert_tflite(network, precision, loops=False))
    assert [layer.unroll for layer in network.layers if hasattr(layer, "unroll")] == [False]


def uncounted(layers, x):
    """A layer that is told that any number of steps may come out of it."""
    return layers.GRU(6, name="gru")(layers.EinsumDense("abc,cd->abd", output_shape=(None, 7))(x))


@pytest.mark.parametrize(
    "body, steps, precision, told",
    [
        (uncounted, STEPS, "int8", r"'gru' \(GRU\) takes any number of steps.*float16"),
        (BODIES["gru-last"], 401, "int8", "401 steps.*may be 400"),
        (BODIES["gru-last"], STEPS, "int16x8", r"\(GRU\) is recurrent: int16x8 cannot have it"),
    ],
)
def test_what_cannot_be_written_out_is_told(keras, body, steps, precision, told):
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    network = built(keras, body, steps=steps)
    with pytest.raises(PassError, match=told):
        quantize_network(network, PostTraining(precision=precision), samples(1, steps))


def test_a_loop_that_is_no_recurrent_layer_is_told(keras):
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    class Halved(keras.layers.Layer):
        def call(self, x):
            return keras.ops.while_loop(lambda y: keras.ops.max(y) > 1.0, lambda y: (y / 2,), (x,))[0]

    given = keras.Input((STEPS, WIDTH), name="given")
    network = keras.Model(given, keras.layers.Dense(2)(Halved()(given)))
    with pytest.raises(PassError, match=r"a loop or a branch.*float16"):
        quantize_network(network, PostTraining(), samples())


def test_four_bits_round_shared_weights_once(keras):
    """A cell's weights stand at every step: rounding them again would round what is rounded."""
    from compress.quantize.graph import TFLiteGraph

    network = built(keras, BODIES["gru"])
    graph = TFLiteGraph(quantized(network, precision="int4", rounding_steps=5))
    values = {}
    for step in graph.weighted():
        held = step.weighted[1]
        values.setdefault(graph.shape(held), set()).add(
            bytes(graph.model.buffers[graph.tensor(held).buffer].data)
        )
    assert all(len(found) == 1 for found in values.values())


def test_biases_of_a_layer_used_twice_are_corrected_each_for_its_place(keras):
    from compress.quantize.correct import bias_shifts, shift_biases
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.linear import linear_steps
    from compress.quantize.tflite import convert_tflite

    keras.utils.set_random_seed(2)
    given = keras.Input((STEPS, WIDTH), name="given")
    shared = keras.layers.Dense(4, bias_initializer="ones")
    near, far = shared(given), shared(given * 10.0 + 3.0)
    network = keras.Model(given, keras.layers.Concatenate()([near, far]))
    floats, shifts = bias_shifts(convert_tflite(network, "float32"), samples())
    before, after = TFLiteGraph(floats), TFLiteGraph(shift_biases(floats, shifts))
    moved = [
        before.constant(old.biases) - after.constant(new.biases)
        for old, new in zip(linear_steps(before), linear_steps(after), strict=True)
    ]
    wanted = [shifts[before.name(linear.output)] for linear in linear_steps(before)]
    assert len(wanted) == 2
    np.testing.assert_allclose(moved, wanted, atol=1e-6)
