"""Random networks of every kind of block that compression has to follow, for property tests and fuzzing."""

from __future__ import annotations

import numpy as np

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


def random_sequences(rng, *, words=True):
    """A network over steps: recurrent layers, attention, dense layers of every kind, in random order. words: of numbers of
    words, (STEPS,); else of vectors, (STEPS, 6).
    """
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
        return layers.EinsumDense("abc,cd->abd", output_shape=(STEPS, 7), bias_axes="d")(y)

    def convolution(x):
        y = layers.Conv1D(8, 3, padding="causal", activation="tanh")(x)
        return layers.BatchNormalization()(layers.DepthwiseConv1D(3, padding="same")(y))

    def mixer(x):
        """A dense layer over the steps: the channels stand aside."""
        y = layers.Permute((2, 1))(layers.Dense(6)(x))
        return layers.Permute((2, 1))(layers.Dense(STEPS, activation="relu")(y))

    given = x = keras.Input((STEPS,), dtype="int32") if words else keras.Input((STEPS, 6))
    if words:
        x = layers.Embedding(9, 6, mask_zero=bool(rng.integers(2)))(x)
    blocks = [recurrent, both_ways, attention, states, dense, convolution, mixer]
    for block in rng.choice(blocks, rng.integers(2, 5)):
        x = block(x)
    last = keras.ops.mean(layers.Dense(5)(x), axis=1)
    model = keras.Model(given, {"each": layers.Dense(2)(x), "all": layers.Dense(3)(last)})
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
