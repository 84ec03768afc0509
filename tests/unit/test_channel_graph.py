"""Channel graphs and pruning on networks drawn by hand: what is joined, what is blocked, what is counted."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def conv(keras, x, channels, name, *, kernel=3, **options):
    return keras.layers.Conv2D(channels, kernel, padding="same", name=name, **options)(x)


def test_macs_are_those_counted_by_hand(keras):
    from compress.groups.macs import model_macs

    x = image = keras.Input((16, 12, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(x)  # 8 x 6 cells, 9 * 3 * 8
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D((5, 3), padding="same")(x)  # 8 x 6 cells, 15 * 8
    x = keras.layers.Conv2D(10, 1)(x)  # 8 x 6 cells, 8 * 10
    x = keras.layers.Conv2D(4, 3, padding="valid", groups=2)(x)  # 6 x 4 cells, 9 * 5 * 4
    x = keras.layers.Conv2DTranspose(6, 2, strides=2)(x)  # from 6 x 4 cells, 4 * 4 * 6
    x = keras.layers.Flatten()(x)  # 12 * 8 * 6
    x = keras.layers.Dense(7)(x)
    wanted = 48 * 9 * 3 * 8 + 48 * 15 * 8 + 48 * 8 * 10 + 24 * 9 * 5 * 4 + 24 * 4 * 4 * 6 + 12 * 8 * 6 * 7
    assert model_macs(keras.Model(image, x)) == wanted


def test_what_is_added_is_removed_together(keras):
    from compress.groups.graph import follow_channels

    x = image = keras.Input((8, 8, 3))
    x = conv(keras, x, 16, "a")
    y = conv(keras, x, 16, "b")
    x = keras.layers.Add()([x, y])
    head = conv(keras, x, 2, "head", kernel=1)
    graph = follow_channels(keras.Model(image, head))
    by_name = {item.layer.name: item for item in graph.layers}
    assert (graph.roots(by_name["a"].out_ids) == graph.roots(by_name["b"].out_ids)).all()
    assert [len(component) for component in graph.components()] == [16]
    assert not graph.blocked


def test_inputs_and_outputs_stay_whole(keras):
    from compress.prune.channels import prune_channels

    x = image = keras.Input((8, 8, 3))
    x = conv(keras, x, 32, "a")
    model = keras.Model(image, {"out": conv(keras, x, 5, "head", kernel=1)})
    smaller, report = prune_channels(model, macs_ratio=0.5)
    assert smaller.input_shape == model.input_shape
    assert smaller.output["out"].shape == model.output["out"].shape
    assert smaller.get_layer("a").filters == 16
    assert report["macs_after"] <= 0.5 * report["macs_before"]


def test_the_loudest_channels_are_kept(keras):
    from compress.prune.channels import prune_channels

    x = image = keras.Input((8, 8, 3))
    x = conv(keras, x, 16, "a", use_bias=False)
    model = keras.Model(image, conv(keras, x, 2, "head", kernel=1))
    kernel = np.random.default_rng(0).normal(0, 1, (3, 3, 3, 16)).astype(np.float32)
    kernel[..., ::2] *= 0.01
    model.get_layer("a").set_weights([kernel])
    smaller, _ = prune_channels(model, macs_ratio=0.6)
    np.testing.assert_array_equal(smaller.get_layer("a").get_weights()[0], kernel[..., 1::2])


def test_layers_that_are_not_understood_are_named_and_kept(keras):
    from compress.prune.channels import prune_channels

    x = image = keras.Input((8, 8, 3))
    x = conv(keras, x, 16, "a")
    x = keras.layers.LayerNormalization(name="strange")(x)
    x = conv(keras, x, 16, "b")
    model = keras.Model(image, conv(keras, x, 2, "head", kernel=1))
    smaller, report = prune_channels(model, macs_ratio=0.8)
    why = "LayerNormalization: its statistics run over all channels together"
    assert report["blocked"] == {"strange": why}
    assert smaller.get_layer("a").filters == 16
    assert smaller.get_layer("b").filters < 16
    with pytest.raises(PassError, match=r"at best.*strange \(LayerNormalization: its stat"):
        prune_channels(model, macs_ratio=0.05)


def test_a_softmax_in_the_middle_keeps_its_channels(keras):
    from compress.prune.channels import prune_channels

    x = image = keras.Input((8, 8, 3))
    x = conv(keras, x, 16, "a", activation="softmax")
    x = conv(keras, x, 16, "b")
    model = keras.Model(image, conv(keras, x, 2, "head", kernel=1))
    smaller, _ = prune_channels(model, macs_ratio=0.8)
    assert smaller.get_layer("a").filters == 16


def test_a_layer_used_twice_keeps_its_channels(keras):
    from compress.prune.channels import prune_channels

    shared = keras.layers.Conv2D(16, 3, padding="same", name="shared")
    image = keras.Input((8, 8, 16))
    x = shared(shared(image))
    x = conv(keras, x, 32, "b")
    model = keras.Model(image, conv(keras, x, 2, "head", kernel=1))
    smaller, _ = prune_channels(model, macs_ratio=0.8)
    assert smaller.get_layer("shared").filters == 16
    assert smaller(np.zeros((1, 8, 8, 16), np.float32)).shape == (1, 8, 8, 2)


def test_no_layer_of_a_group_runs_empty(keras):
    """Two thin layers side by side, added to a wide one: all that may go could be one of the thin ones."""
    from compress.prune.channels import prune_channels

    x = image = keras.Input((8, 8, 3))
    faint, loud = conv(keras, x, 8, "faint", use_bias=False), conv(keras, x, 8, "loud", use_bias=False)
    wide = conv(keras, x, 16, "wide", use_bias=False)
    x = keras.layers.Add()([keras.layers.Concatenate()([faint, loud]), wide])
    model = keras.Model(image, conv(keras, x, 2, "head", kernel=1))
    for name, gain in (("faint", 1e-6), ("loud", 5.0)):
        layer = model.get_layer(name)
        layer.set_weights([gain * layer.get_weights()[0]])
    kernel = model.get_layer("wide").get_weights()[0]
    kernel[..., :8] *= 1e-6
    model.get_layer("wide").set_weights([kernel])
    smaller, _ = prune_channels(model, macs_ratio=0.6, round_to=1, max_removed=0.75)
    assert smaller.get_layer("faint").filters >= 2
    assert smaller.get_layer("loud").filters >= 2


def test_nothing_to_remove_is_a_pass_error(keras):
    from compress.prune.channels import prune_channels

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, conv(keras, image, 2, "head"))
    with pytest.raises(PassError, match="at best"):
        prune_channels(model, macs_ratio=0.5)
    for ratio in (0, -1, 1.5, float("nan")):
        with pytest.raises(PassError, match="macs_ratio"):
            prune_channels(model, macs_ratio=ratio)


def test_models_that_cannot_be_followed_say_so(keras):
    from compress.groups.graph import follow_channels

    image = keras.Input((3, 8, 8))
    first = keras.layers.Conv2D(4, 3, data_format="channels_first", name="cf")(image)
    with pytest.raises(PassError, match="'cf' has its channels first"):
        follow_channels(keras.Model(image, first))

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(PassError, match="functional"):
        follow_channels(Own())


def test_rounds_meet_the_ratio_in_equal_steps(keras):
    from compress.groups.macs import model_macs
    from compress.prune.channels import next_ratio, prune_channels

    x = image = keras.Input((8, 8, 3))
    for number in range(3):
        x = conv(keras, x, 64, f"c{number}")
    model = keras.Model(image, conv(keras, x, 2, "head", kernel=1))
    whole = model_macs(model)
    for number in (1, 2):
        ratio = next_ratio(model, whole=whole, macs_ratio=0.25, number=number, rounds=2)
        model, _ = prune_channels(model, macs_ratio=ratio, round_to=4)
        assert model_macs(model) <= whole * 0.25 ** (number / 2) * 1.0001
