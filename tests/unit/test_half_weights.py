"""Networks kept in half precision: half the bytes, and Keras loads them as what they were."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress


def small_network(keras):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    picture = keras.Input((16, 16, 3), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(32, 3, activation="relu")(picture))
    inner = keras.Sequential([keras.Input((14, 14, 32)), layers.Conv2D(64, 3)], name="inner")
    return keras.Model(picture, {"out": layers.Dense(4)(layers.GlobalAveragePooling2D()(inner(x)))})


def test_half_the_bytes_the_same_network(keras, tmp_path):
    from compress.networks.half_weights import halve_weights

    network, path = small_network(keras), tmp_path / "network.keras"
    network.save(path)
    before = path.stat().st_size
    halve_weights(path)
    assert path.stat().st_size < 0.65 * before
    loaded = keras.models.load_model(path)
    assert {weight.dtype for weight in loaded.weights} == {weight.dtype for weight in network.weights}
    for old, new in zip(network.get_weights(), loaded.get_weights(), strict=True):
        assert new == pytest.approx(old, rel=2**-10, abs=1e-7)
    # twice changes nothing more
    content = path.read_bytes()
    halve_weights(path)
    assert path.read_bytes() == content


def test_what_half_precision_cannot_hold_stays(keras, tmp_path):
    from compress.networks.half_weights import halve_weights

    network, path = small_network(keras), tmp_path / "network.keras"
    large = network.layers[1].get_weights()
    large[0][0, 0, 0, 0] = 1e6
    network.layers[1].set_weights(large)
    network.save(path)
    halve_weights(path)
    loaded = keras.models.load_model(path).layers[1].get_weights()[0]
    assert np.array_equal(loaded, large[0])
