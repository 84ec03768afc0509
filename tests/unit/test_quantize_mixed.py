"""Layers that int8 hurts are found, and as few as possible stay in float."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def samples(count):
    rng = np.random.default_rng(1)
    return [rng.random((1, 12, 12, 3)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def network(keras):
    """Its second layer's outputs have one channel a thousand times the others, which one scale for all cannot resolve."""
    layers = keras.layers
    keras.utils.set_random_seed(7)
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(8, 1, name="spread")(x)
    x = layers.Conv2D(8, 1, activation="swish", name="third")(x)
    network = keras.Model(image, layers.Dense(4, name="scores")(layers.GlobalAveragePooling2D()(x)))
    weights, biases = network.get_layer("spread").get_weights()
    network.get_layer("spread").set_weights([weights * np.r_[1000.0, np.ones(7)], biases])
    weights, biases = network.get_layer("third").get_weights()
    weights[0, 0, 0] /= 1000
    network.get_layer("third").set_weights([weights, biases])
    return network


def ranking(network):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.integer import quantize_ranges
    from compress.quantize.mixed import rank_sensitive
    from compress.quantize.tflite import convert_tflite

    floats = convert_tflite(network, "float32")
    ranges = calibrate(floats, samples(6))
    return rank_sensitive(floats, lambda names: quantize_ranges(floats, ranges, keep_float=names), samples(4))


def test_the_layers_around_the_spread_channel_hurt_most(network):
    ranked = ranking(network)
    assert len(ranked) == 4
    assert {one.names[0].split("_")[0] for one in ranked[:2]} == {"spread", "third"}
    assert ranked[1].sqnr_db < 10 < 30 < ranked[2].sqnr_db
    third = next(one for one in ranked if one.names[0].startswith("third"))
    assert len(third.names) == 4, "its activation is two operations of their own, and the mean is of it alone"
    assert third.weight_bytes == 4 * 8 * 8


@given(st.integers(1, 60), st.data())
def test_the_fewest_that_hold_are_found_in_few_tries(count, data):
    from compress.quantize.mixed import Sensitive, fewest_kept

    needed = data.draw(st.integers(1, count))
    most = data.draw(st.integers(1, count))
    ranked = [Sensitive((f"layer{n}",), 1.0, 4) for n in range(count)]
    asked = []

    def holds(names):
        asked.append(names)
        return len(names) >= needed

    kept, trials = fewest_kept(ranked, holds, most=most)
    assert [trial.kept for trial in trials] == [len(names) for names in asked]
    assert len(asked) <= 2 * np.log2(count) + 2
    if needed > most:
        assert kept is None
    else:
        assert kept == tuple(f"layer{n}" for n in range(needed))


def test_a_network_is_mixed_until_it_holds(network):
    from compress.quantize.check import float_layers, layer_errors, not_done
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining
    from compress.quantize.tflite import convert_tflite

    floats = convert_tflite(network, "float32")

    def holds(content):
        return layer_errors(floats, content, samples(4))[-1].sqnr_db > 25

    settings = PostTraining(max_drop=0.01, per_channel=True)
    content, told = quantize_network(network, settings, samples(8), holds=holds)
    assert holds(content)
    kept, layers = told["float_layers"]
    assert 0 < kept <= 2 and layers == 4
    assert len(float_layers(content)) == kept
    assert not_done(content, "int8", keep_float=told["keep_float"]) == []
    with pytest.raises(PassError, match=r"int8 drops more than 0\.01 also with 2 of 4 layers in float"):
        quantize_network(network, settings, samples(8), holds=lambda content: False)


def test_only_int8_is_mixed():
    from compress.passes.settings import QuantizePass

    QuantizePass(kind="quantize", max_drop=0.01)
    with pytest.raises(ValidationError, match="int4 is not mixed"):
        QuantizePass(kind="quantize", precision="int4", max_drop=0.01)


def test_a_run_keeps_layers_in_float_and_tells_the_price(tmp_path, capsys):
    from tiny_recipe import squares_recipe, write_squares

    from compress.recipe import parse_recipe
    from compress.run import run_recipe

    write_squares(tmp_path / "squares")
    train = {"kind": "train", "fit": {"steps": 40, "batch": 8}}
    mixed = {"kind": "quantize", "calibration": 4, "max_drop": 0.0}
    recipe = parse_recipe(squares_recipe(passes=[train, mixed]), where="here")
    bundle = run_recipe(recipe, data_root=tmp_path, out=tmp_path / "out", work=tmp_path / "work").bundle
    assert bundle.manifest.provenance["notes"]["quantize"][0]["rule"] == "min-max"
    assert "quantize: 0 layers in float: AP50" in capsys.readouterr().err
