"""Any network: without a channel it says what it said when nobody listened to that channel."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.compress
SIZE = 8
STEPS = 6


def random_network(rng):
    """A functional network of 3 to 6 random blocks with two heads, batch norms with statistics of their own."""
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    layers = keras.layers

    def conv(x, channels, kernel=3, activation=None):
        x = layers.Conv2D(channels, kernel, padding="same", use_bias=bool(rng.integers(2)))(x)
        if rng.integers(2):
            x = layers.BatchNormalization()(x)
        return layers.Activation(activation or str(rng.choice(["relu6", "silu", "tanh"])))(x)

    def residual(x):
        return layers.Add()([x, conv(x, x.shape[-1])])

    def concat(x):
        return layers.Concatenate()(
            [x, conv(x, int(rng.integers(2, 9))), layers.MaxPooling2D(3, 1, "same")(x)]
        )

    def depthwise(x):
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        return conv(x, int(rng.integers(4, 17)), 1)

    def gate(x):
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return layers.Multiply()([x, conv(y, x.shape[-1], 1)])

    def down_up(x):
        if x.shape[1] % 2:
            return conv(x, 6)
        y = conv(layers.AveragePooling2D(2)(x), x.shape[-1])
        return layers.Add()([x, layers.UpSampling2D(2)(y)])

    def shuffle(x):
        """Channels of one tensor added to other channels of the same: they are joined crosswise."""
        y = conv(x, 4)
        both = layers.Concatenate()([y, conv(x, 4)])
        return layers.Add()([both, layers.Concatenate()([conv(x, 4), y])])

    def squeeze(x):
        """Squeeze and excite as EfficientNet has it: pooled, shaped (1, 1, C), two 1x1 convolutions, hard sigmoid."""
        y = layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalAveragePooling2D()(x))
        y = layers.Conv2D(x.shape[-1], 1)(layers.Conv2D(3, 1, activation="relu")(y))
        return keras.ops.hard_sigmoid(y * 0.5) * x

    def grouped(x):
        x = conv(x, 8)
        x = layers.GroupNormalization(4)(layers.Conv2D(12, 3, padding="same", groups=4)(x))
        return layers.Conv2D(24, 3, padding="same", groups=12)(x)

    def transposed(x):
        if x.shape[1] % 2:
            return conv(x, 6)
        y = layers.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2)(x)
        return layers.Concatenate()([layers.PReLU(shared_axes=[1, 2])(x), layers.Conv2DTranspose(5, 2, 2)(y)])

    def multiply(x):
        """More channels out of each, the second half of them gates of the first, and back by a swapped order of axes."""
        y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
        half = y.shape[-1] // 2
        y = y[..., :half] * keras.ops.sigmoid(y[..., half:])
        return layers.Permute((2, 1, 3))(keras.ops.transpose(y, (0, 2, 1, 3)) + np.float32(0.5))

    def interleave(x):
        """The channel shuffle of ShuffleNet."""
        y = layers.Reshape((x.shape[1], x.shape[2], 2, 6))(conv(x, 12))
        return layers.Reshape((x.shape[1], x.shape[2], 12))(layers.Permute((1, 2, 4, 3))(y))

    image = keras.Input((SIZE, SIZE, 3))
    x = conv(image, int(rng.integers(4, 17)))
    blocks = [residual, concat, depthwise, gate, down_up, shuffle]
    blocks += [squeeze, grouped, transposed, multiply, interleave]
    for block in rng.choice(blocks, rng.integers(2, 5)):
        x = block(x)
    flat = layers.Dense(12, activation="relu")(layers.Flatten()(conv(x, 4, 1)))
    model = keras.Model(
        image, {"map": layers.Conv2D(3, 1)(x), "flat": layers.Dense(2)(layers.BatchNormalization()(flat))}
    )
    return shaken(model, rng)


def random_sequences(rng):
    """A network over steps: recurrent layers, attention, dense layers of every kind, in random order."""
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    layers = keras.layers

    def recurrent(x):
        kind = rng.choice([layers.GRU, layers.LSTM, layers.SimpleRNN])
        return kind(int(rng.integers(3, 8)), return_sequences=True, go_backwards=bool(rng.integers(2)))(x)

    def both_ways(x):
        mode = str(rng.choice(["concat", "sum"]))
        kind = rng.choice([layers.GRU, layers.LSTM])
        return layers.Bidirectional(kind(4, return_sequences=True), merge_mode=mode)(x)

    def attention(x):
        y = layers.MultiHeadAttention(int(rng.integers(2, 5)), 3, output_shape=x.shape[-1])(x, x)
        return layers.Add()([x, y])

    def states(x):
        sequence, *state = layers.LSTM(5, return_sequences=True, return_state=True)(x)
        return layers.GRU(5, return_sequences=True)(sequence, initial_state=state[0])

    def dense(x):
        y = layers.TimeDistributed(layers.Dense(6, activation="relu"))(x)
        return layers.EinsumDense("abc,cd->abd", output_shape=(None, 7), bias_axes="d")(y)

    def convolution(x):
        y = layers.Conv1D(8, 3, padding="causal", activation="tanh")(x)
        return layers.BatchNormalization()(layers.DepthwiseConv1D(3, padding="same")(y))

    def mixer(x):
        """A dense layer over the steps: the channels stand aside."""
        y = layers.Permute((2, 1))(layers.Dense(6)(x))
        return layers.Permute((2, 1))(layers.Dense(STEPS, activation="relu")(y))

    words = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=bool(rng.integers(2)))(words)
    blocks = [recurrent, both_ways, attention, states, dense, convolution, mixer]
    for block in rng.choice(blocks, rng.integers(2, 5)):
        x = block(x)
    last = keras.ops.mean(layers.Dense(5)(x), axis=1)
    model = keras.Model(words, {"each": layers.Dense(2)(x), "all": layers.Dense(3)(last)})
    return shaken(model, rng)


def shaken(model, rng):
    """Biases, gains and statistics that are not all alike."""
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            elif weight.name in ("beta", "bias", "moving_mean", "alpha"):
                weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def random_removal(graph, rng, share=0.4):
    """Random classes of every component, none of which leaves a layer without a channel."""
    removed = frozenset(
        int(root) for component in graph.components() for root in component if rng.random() < share
    )
    for item in graph.layers:
        for ids in (item.in_ids, item.out_ids):
            roots = {int(r) for r in graph.roots(ids)}
            if roots and roots <= removed:
                removed -= {min(roots)}
    return removed


def assert_same(got, wanted):
    for name in wanted:
        assert got[name].shape == wanted[name].shape
        scale = float(np.abs(wanted[name]).max()) + 1e-6
        np.testing.assert_allclose(np.array(got[name]) / scale, np.array(wanted[name]) / scale, atol=1e-4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_a_pruned_network_is_the_whole_one_with_those_channels_unheard(seed):
    check_removal(random_network, seed, lambda rng: rng.normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_so_are_recurrent_layers_and_attention(seed):
    check_removal(random_sequences, seed, lambda rng: rng.integers(0, 9, (2, STEPS)))


def check_removal(build, seed, draw):
    from compress.groups.graph import follow_channels
    from compress.groups.macs import macs_without, model_macs, parameters_without
    from compress.groups.remove import remove_channels
    from compress.groups.zero import zero_channels

    rng = np.random.default_rng(seed)
    model = build(rng)
    graph = follow_channels(model)
    removed = random_removal(graph, rng)
    given_inputs = draw(rng)
    smaller, zeroed = remove_channels(model, graph, removed), zero_channels(model, graph, removed)
    wanted = zeroed(given_inputs, training=False)
    assert_same(smaller(given_inputs, training=False), wanted)
    assert model_macs(smaller) == macs_without(graph, removed)
    assert smaller.count_params() == parameters_without(graph, removed)
    assert removed == frozenset() or smaller.count_params() < model.count_params()
    counted = Counter(type(layer).__name__ for layer in smaller.layers)
    assert counted == Counter(type(layer).__name__ for layer in model.layers)
    # unheard: whatever the removed channels say, nothing changes
    for (name, index), slot in graph.weights.items():
        for axis, ids in enumerate(slot.axes):
            if ids is None or axis == slot.reads:
                continue
            variable = zeroed.get_layer(name).weights[index]
            values = np.moveaxis(variable.numpy(), axis, -1)
            values[..., np.setdiff1d(np.arange(len(ids)), graph.kept(ids, removed))] += 3
            variable.assign(np.moveaxis(values, -1, axis))
    assert_same(zeroed(given_inputs, training=False), wanted)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8]), st.sampled_from([1, 4, 8]))
@settings(max_examples=4, deadline=None)
def test_pruning_meets_its_ratio_or_says_why_not(seed, ratio, round_to):
    from compress.groups.macs import model_macs
    from compress.prune.channels import prune_channels
    from edgeai.errors import PassError

    model = random_network(np.random.default_rng(seed))
    try:
        smaller, report = prune_channels(model, macs_ratio=ratio, round_to=round_to)
    except PassError as error:
        assert "at best" in str(error)
        return
    assert model_macs(smaller) == report["macs_after"] <= ratio * model_macs(model)
    assert smaller(np.zeros((1, SIZE, SIZE, 3), np.float32))["map"].shape == (1, SIZE, SIZE, 3)
