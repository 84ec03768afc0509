"""One rule of the channel graph at a time: what is joined, what is held and why, what a removal rewrites."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def graph_of(model, **options):
    from compress.groups.graph import follow_channels

    return follow_channels(model, **options)


def sizes(graph):
    return sorted(len(component) for component in graph.components())


def check_half(model, *, seed=0, given=None):
    """Without every second channel it says what it said with them unheard; the smaller network and the graph."""
    from compress.groups.remove import remove_channels
    from compress.groups.zero import zero_channels

    graph = graph_of(model)
    removed = frozenset(int(root) for component in graph.components() for root in component[1::2])
    smaller, zeroed = remove_channels(model, graph, removed), zero_channels(model, graph, removed)
    if given is None:
        given = np.random.default_rng(seed).normal(0, 1, (2, *model.input_shape[1:])).astype(np.float32)
    wanted = np.array(zeroed(given, training=False))
    np.testing.assert_allclose(
        smaller(given, training=False), wanted, rtol=0, atol=1e-4 * (np.abs(wanted).max() + 1e-6)
    )
    assert not removed or np.abs(wanted - np.array(model(given, training=False))).max() > 1e-6
    return smaller, graph


# what stands between two convolutions, how many channels can go then, and what is told
HELD = {
    "lambda": (lambda k: k.layers.Lambda(lambda x: x[..., ::-1], name="x"), "Lambda: its code is unknown"),
    "layer norm": (
        lambda k: k.layers.LayerNormalization(name="x"),
        "LayerNormalization: its statistics run over all channels together",
    ),
    "one group": (
        lambda k: k.layers.GroupNormalization(1, name="x"),
        "GroupNormalization: its statistics run over all channels together",
    ),
    "softmax": (lambda k: k.layers.Softmax(name="x"), "Softmax: it looks at all channels together"),
    "glu": (
        lambda k: k.layers.Activation("log_softmax", name="x"),
        "Activation: it looks at all channels together",
    ),
    "mix": (
        lambda k: k.layers.Activation(lambda x: x - k.ops.mean(x, -1, keepdims=True), name="x"),
        "Activation: it looks at all channels together",
    ),
    "no rule": (lambda k: k.layers.ConvLSTM1D(3, 1, name="x"), "ConvLSTM1D: there is no rule for it"),
    "reshape": (
        lambda k: k.layers.Reshape((32, 12), name="x"),
        "Reshape: its target shape mixes channels with positions",
    ),
    "convolution over channels": (
        lambda k: k.Sequential(
            [k.layers.Permute((1, 3, 2)), k.layers.Conv2D(3, 3, padding="same", name="x")]
        ),
        "Conv2D: it slides over the axis of the channels",
    ),
}


@pytest.mark.parametrize("what", HELD)
def test_what_holds_channels_is_named_with_the_reason(keras, what):
    make, told = HELD[what]
    image = keras.Input((4, 6, 3))
    x = keras.layers.Conv2D(16, 1, name="before")(image)
    x = make(keras)(x)
    x = keras.layers.Flatten()(x)
    graph = graph_of(keras.Model(image, keras.layers.Dense(2, name="head")(x)))
    assert graph.blocked == {"x": told}
    assert graph.components() == []


def test_a_softmax_over_positions_is_harmless(keras):
    image = keras.Input((4, 6, 3))
    x = keras.layers.Softmax(axis=[1, 2])(keras.layers.Conv2D(16, 1)(image))
    _, graph = check_half(keras.Model(image, keras.layers.Conv2D(2, 1)(x)))
    assert sizes(graph) == [16]
    assert graph.blocked == {}


def test_a_classifier_that_ends_in_softmax_blocks_nothing(keras):
    image = keras.Input((4,))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Dense(8)(image))
    assert graph_of(keras.Model(image, x)).blocked == {}


def test_channels_through_a_layer_norm_go_when_asked_and_are_marked(keras):
    from compress.groups.remove import remove_channels

    steps = keras.Input((5, 6))
    x = keras.layers.LayerNormalization(name="norm")(keras.layers.Dense(8, name="wide")(steps))
    model = keras.Model(steps, keras.layers.Dense(2)(x))
    graph = graph_of(model, through_norms=True)
    assert [len(ids) for ids in graph.inexact] == [8]
    assert graph.blocked == {}
    smaller = remove_channels(model, graph, frozenset(graph.components()[0][:3].tolist()))
    assert smaller.get_layer("norm").gamma.shape == (5,)
    assert smaller(np.zeros((1, 5, 6), np.float32)).shape == (1, 5, 2)


def test_groups_go_whole_from_a_group_norm(keras):
    image = keras.Input((4, 4, 3))
    x = keras.layers.GroupNormalization(4, name="norm")(keras.layers.Conv2D(12, 1)(image))
    smaller, graph = check_half(keras.Model(image, keras.layers.Conv2D(2, 1)(x)))
    assert sizes(graph) == [4]
    assert smaller.get_layer("norm").groups == 2
    assert smaller.get_layer("norm").gamma.shape == (6,)


def test_every_group_of_a_convolution_keeps_as_many(keras):
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(12, 1)(image)
    x = keras.layers.Conv2D(18, 3, groups=3, name="grouped")(x)
    smaller, graph = check_half(keras.Model(image, keras.layers.Conv2D(2, 1)(x)))
    assert sizes(graph) == [4, 6]
    assert smaller.get_layer("grouped").kernel.shape == (3, 3, 2, 9)


def test_heads_go_whole(keras):
    steps = keras.Input((5, 6))
    x = keras.layers.MultiHeadAttention(4, 3, name="attention")(steps, steps)
    smaller, graph = check_half(keras.Model(steps, keras.layers.Dense(2)(x)))
    assert {item.kind: len(item.out_ids) for item in graph.layers} == {
        "heads": 4,
        "projection": 6,
        "dense": 2,
    }
    assert smaller.get_layer("attention").num_heads == 2
    assert smaller.get_layer("attention").get_config()["output_shape"] == (3,)


def test_cross_attention_called_by_name(keras):
    one, other = keras.Input((5, 6)), keras.Input((7, 3))
    queries, values = keras.layers.Dense(8)(one), keras.layers.Dense(8, name="values")(other)
    x = keras.layers.MultiHeadAttention(2, 4, value_dim=3)(query=queries, value=values)
    model = keras.Model([one, other], keras.layers.Dense(2)(x))
    assert sizes(graph_of(model)) == [2, 8, 8, 8]


def test_einsum_makes_heads_that_go_whole(keras):
    steps = keras.Input((5, 6))
    x = keras.layers.EinsumDense("abc,chk->abhk", (None, 4, 3), bias_axes="hk", name="split")(steps)
    x = keras.layers.EinsumDense("...hk,hkd->...d", 8, bias_axes="d", name="merge")(keras.ops.relu(x))
    smaller, graph = check_half(keras.Model(steps, keras.layers.Dense(2)(x)))
    assert sizes(graph) == [4, 8]
    assert smaller.get_layer("split").kernel.shape == (6, 2, 3)
    assert smaller.get_layer("merge").kernel.shape == (2, 3, 4)


def test_every_step_flattened_on_its_own(keras):
    clips = keras.Input((3, 6, 6, 2))
    x = keras.layers.TimeDistributed(keras.layers.Conv2D(8, 3), name="frames")(clips)
    x = keras.layers.TimeDistributed(keras.layers.Flatten())(x)
    smaller, graph = check_half(keras.Model(clips, keras.layers.Dense(2)(x)))
    assert {item.kind for item in graph.layers} == {"distributed", "dense"}
    assert smaller.get_layer("frames").layer.filters == 4


def test_a_unit_is_coupled_over_its_gates_and_its_memory(keras):
    steps = keras.Input((5, 6))
    x = keras.layers.GRU(8, name="gru")(steps)
    smaller, graph = check_half(keras.Model(steps, keras.layers.Dense(2)(x)))
    assert sizes(graph) == [8]
    assert [w.shape for w in smaller.get_layer("gru").get_weights()] == [(6, 12), (4, 12), (2, 12)]


def test_steps_that_are_masked_stay_masked(keras):
    words = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True, name="words")(words)
    x = keras.layers.Bidirectional(keras.layers.LSTM(6))(x)
    model = keras.Model(words, keras.layers.Dense(2)(x))
    smaller, _ = check_half(model, given=np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0]]))
    assert smaller.get_layer("words").embeddings.shape == (9, 4)


def test_a_layer_called_twice_is_joined_with_itself(keras):
    shared = keras.layers.Dense(8, name="shared")
    one = keras.Input((8,))
    x = keras.layers.Dense(8, name="first")(one)
    model = keras.Model(one, keras.layers.Dense(2)(shared(shared(x))))
    smaller, graph = check_half(model)
    assert sizes(graph) == [8]
    assert smaller.get_layer("first").units == smaller.get_layer("shared").units == 4


def test_a_layer_stopped_in_one_call_stays_whole_in_all(keras):
    shared = keras.layers.Reshape((2, -1), name="shared")
    one = keras.Input((8,))
    a = shared(keras.layers.Dense(8)(one))
    b = shared(keras.layers.Dense(12)(one))
    x = keras.layers.Concatenate()([keras.layers.Flatten()(a), keras.layers.Flatten()(b)])
    graph = graph_of(keras.Model(one, keras.layers.Dense(2)(x)))
    assert graph.blocked["shared"].startswith("Reshape: it is called several times")
    assert graph.components() == []


@pytest.mark.parametrize("first", ["whole", "free"])
def test_weights_shared_with_what_cannot_shrink_stay(keras, first):
    """One batch norm for the picture and for what a convolution makes of it, in either order."""
    image = keras.Input((4, 4, 8))
    norm = keras.layers.BatchNormalization(name="norm")
    made = keras.layers.Conv2D(8, 1, name="conv")(image)
    if first == "whole":
        x = keras.layers.Concatenate()([norm(image), norm(made)])
    else:
        x = norm(keras.layers.Lambda(lambda t: t[..., ::-1])(keras.layers.Conv2D(8, 1)(norm(made))))
    x = keras.layers.Conv2D(6, 1, name="free")(x)
    smaller, graph = check_half(keras.Model(image, keras.layers.Conv2D(2, 1)(x)))
    assert sizes(graph) == [6]
    assert smaller.get_layer("conv").filters == 8


def test_a_dense_layer_along_channels_and_along_steps_stays(keras):
    steps = keras.Input((8, 3))
    shared = keras.layers.Dense(8, name="shared")
    x = keras.layers.Dense(8, name="before")(steps)
    y = keras.layers.Permute((2, 1))(shared(keras.layers.Permute((2, 1))(x)))
    _, graph = check_half(keras.Model(steps, keras.layers.Dense(2)(shared(y))))
    assert sizes(graph) == []


def test_a_model_inside_is_opened(keras):
    from compress.groups.rebuild import flatten_model

    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = keras.layers.BatchNormalization()(x)
    backbone = keras.Model(image, x, name="backbone")
    outer = keras.Input((6, 6, 3))
    stem = keras.layers.Conv2D(3, 1, name="conv")(outer)
    tail = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2, name="logits")], name="tail")
    model = keras.Model(outer, tail(backbone(stem, training=False)))
    flat = flatten_model(model)
    assert [layer.name for layer in flat.layers][1:3] == ["conv", "backbone_conv"]
    given = np.random.default_rng(0).normal(0, 1, (2, 6, 6, 3)).astype(np.float32)
    for training in (None, False, True):
        np.testing.assert_allclose(flat(given, training=training), model(given, training=training), atol=1e-6)
    assert flatten_model(flat) is flat
    assert flat.layers[0].name == model.layers[0].name
    smaller, graph = check_half(model)
    assert sizes(graph) == [3, 8]
    assert smaller.get_layer("logits").kernel.shape == (6 * 6 * 4, 2)
    assert [layer.name for layer in model.layers] == [model.layers[0].name, "conv", "backbone", "tail"]


def test_a_model_called_twice_stays_one(keras):
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    inside = keras.Input((4,))
    tower = keras.Model(inside, keras.layers.Dense(8, name="tower_dense")(inside), name="tower")
    x = keras.layers.Subtract()([tower(one), tower(two)])
    model = keras.Model([one, two], keras.layers.Dense(2)(x))
    given = [np.random.default_rng(n).normal(0, 1, (2, 4)).astype(np.float32) for n in (0, 1)]
    smaller, graph = check_half(model, given=given)
    assert sizes(graph) == [8]
    assert smaller.count_params() == 4 * 4 + 4 + 4 * 2 + 2


def test_a_sequential_model_comes_back_functional(keras):
    layers = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)]
    check_half(keras.Sequential(layers))
    with pytest.raises(PassError, match=r"call build\(\)"):
        graph_of(keras.Sequential([keras.layers.Dense(2)]))


def test_constants_shrink_with_their_channels(keras):
    image = keras.Input((4, 4, 3))
    each = np.linspace(1, 2, 8).astype(np.float32)
    x = keras.layers.Conv2D(8, 1)(image)
    x = keras.layers.Rescaling(each.tolist(), 0.5)(x)
    x = keras.layers.Normalization(mean=each.tolist(), variance=(each + 1).tolist())(x)
    x = keras.ops.maximum(x * each, -each) - 0.25
    x = keras.layers.PReLU(alpha_initializer="ones")(x)
    _, graph = check_half(keras.Model(image, keras.layers.Conv2D(2, 1)(x)))
    assert sizes(graph) == [8]


def test_slices_and_splits_follow_their_channels(keras):
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(12, 1)(image)
    one, two, three = keras.ops.split(x, [2, 7], axis=-1)
    x = keras.layers.Concatenate()([x[:, 1:, :-1, 4:10], keras.ops.tanh(x)[:, 1:, :-1, :3]])
    y = keras.layers.Concatenate()([three, one, two])
    pooled = keras.ops.mean(y, axis=(1, 2)) + keras.ops.max(y, axis=[1, 2])
    x = keras.layers.Concatenate()([keras.layers.Flatten()(x), pooled])
    _, graph = check_half(keras.Model(image, keras.layers.Dense(2)(x)))
    assert graph.blocked == {}


def test_filters_hold_what_makes_each_channel(keras):
    steps = keras.Input((5, 6))
    x = keras.layers.LSTM(4, return_sequences=True)(steps)
    x = keras.layers.Conv1DTranspose(3, 2)(keras.layers.SeparableConv1D(5, 3)(x))
    x = keras.layers.MultiHeadAttention(2, 3, value_dim=4)(x, x)
    graph = graph_of(keras.Model(steps, x))
    shapes = {item.kind: item.filters().shape for item in graph.layers if item.makes}
    assert shapes == {
        "recurrent": (4 * (6 + 4), 4),
        "separable": (4, 5),
        "transposed": (2 * 5, 3),
        "heads": (3 * (3 + 3 + 4), 2),
        "projection": (2 * 4, 3),
    }
    lstm = graph.layers[0]
    kernel = lstm.layer.cell.kernel.numpy()
    column = lstm.filters()[: 4 * 6, 2].reshape(6, 4)
    np.testing.assert_allclose(column, kernel[:, 2::4])


def test_removals_that_make_no_network_are_refused(keras):
    from compress.groups.remove import remove_channels
    from compress.groups.zero import zero_channels

    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Dense(8, name="wide")(image)))
    graph = graph_of(model)
    (every,) = graph.components()
    inputs = graph.layers[0].in_ids
    for change in (remove_channels, zero_channels):
        with pytest.raises(PassError, match="'wide' would make none of its 8 channels"):
            change(model, graph, frozenset(every.tolist()))
        with pytest.raises(PassError, match="1 of 1 channels to remove are inputs, outputs or blocked"):
            change(model, graph, frozenset(inputs[:1].tolist()))
        for stranger in (-1, 10**9):
            with pytest.raises(PassError, match="no classes of this graph"):
                change(model, graph, frozenset([stranger]))
        other = keras.Model(image, keras.layers.Dense(2)(image))
        with pytest.raises(PassError, match="made from another network"):
            change(other, graph, frozenset(every[:1].tolist()))


def test_a_layer_that_cannot_be_made_anew_is_named(keras):
    class Odd(keras.layers.Layer):
        def __init__(self, units, **options):
            super().__init__(**options)
            self.units = units
            self.scale = self.add_weight(name="scale", shape=(units,))

        def call(self, x):
            return x * self.scale

        def get_config(self):
            return {"name": self.name}

    from compress.groups.remove import remove_channels

    one = keras.Input((4,))
    x = Odd(8, name="odd")(keras.layers.Dense(8)(one))
    model = keras.Model(one, keras.layers.Dense(2)(keras.layers.Dense(8, name="free")(x)))
    graph = graph_of(model)
    assert graph.blocked == {"odd": "Odd: its code is unknown"}
    with pytest.raises(PassError, match=r"'odd' \(Odd\) cannot be made anew"):
        remove_channels(model, graph, frozenset(graph.components()[0][:1].tolist()))


def test_a_lambda_is_used_again(keras):
    one = keras.Input((4,))
    x = keras.layers.Lambda(lambda t: t * 2, name="twice")(one)
    smaller, _ = check_half(keras.Model(one, keras.layers.Dense(2)(keras.layers.Dense(8)(x))))
    assert smaller.get_layer("twice") is not None
