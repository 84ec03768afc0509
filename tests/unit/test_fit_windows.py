"""Training on windows of the input: the network keeps its size, what it learns is the same, and teachers answer to windows."""

from __future__ import annotations

import numpy as np
import pytest

from compress.train.fit import FitSettings, fit
from edgeai.errors import PassError

pytestmark = pytest.mark.compress
WHOLE, WINDOW = (16, 24, 3), (8, 8, 3)


def convolutions(keras, shape=WHOLE):
    keras.utils.set_random_seed(0)
    picture = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False)(picture)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.UpSampling2D(2)(keras.layers.Conv2D(6, 3, 2, padding="same")(x))
    return keras.Model(picture, {"map": keras.layers.Conv2D(2, 1, name="map")(x)})


def make(rng):
    inputs = rng.normal(size=(4, *WINDOW)).astype(np.float32)
    return {"inputs": inputs, "targets": inputs[..., :2] * 2}


def loss(outputs, batch):
    import tensorflow as tf

    return tf.reduce_mean(tf.square(outputs["map"] - batch["targets"]))


def test_the_same_weights_come_out_as_of_a_network_of_the_windows_size(keras):
    settings = FitSettings(steps=5, learning_rate=0.01, average=0.5)
    large, small = convolutions(keras), convolutions(keras, WINDOW)
    told = fit(large, make, loss, settings, description="windows", shape=WINDOW)
    wanted = fit(small, make, loss, settings, description="whole")
    np.testing.assert_allclose(told.losses, wanted.losses, rtol=1e-5)
    for one, other in zip(large.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert large.input.shape[1:] == WHOLE


def test_a_network_that_is_of_one_size_is_told(keras):
    picture = keras.Input(WHOLE, name="image")
    x = keras.layers.Dense(2)(keras.layers.Flatten()(picture))
    settings = FitSettings(steps=1)
    with pytest.raises(
        PassError, match=r"cannot be trained on inputs of \(8, 8, 3\): its copy would have other"
    ):
        fit(keras.Model(picture, {"map": x}), make, loss, settings, description="windows", shape=WINDOW)


def test_a_resized_network_says_of_a_window_what_the_whole_says_of_it(keras):
    from compress.train.forward import resized

    network = convolutions(keras)
    small = resized(network, WINDOW)
    picture = np.random.default_rng(0).normal(size=(1, *WHOLE)).astype(np.float32)
    whole = network(picture, training=False)["map"].numpy()
    window = small(picture[:, :8, 8:16], training=False)["map"].numpy()
    np.testing.assert_allclose(window[:, 2:-2, 2:-2], whole[:, 2:6, 10:14], atol=1e-5)


def test_only_a_keras_teacher_answers_to_windows():
    from compress.distill.teacher_network import TeacherNetwork
    from compress.passes.fitting import _of_shape

    class Engine(TeacherNetwork):
        name = "file.tflite"

        def raw(self, inputs):
            return {}

    with pytest.raises(PassError, match=r"file\.tflite cannot answer to windows of 8 pixels"):
        _of_shape(Engine(), WINDOW)
