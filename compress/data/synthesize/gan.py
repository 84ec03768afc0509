"""A small generator of crops that learns from a few dozen: hinge GAN, spectral norm, differentiable augmentation.

Generator and discriminator of DCGAN's kind (Radford et al. 2016); spectral normalisation (Miyato et al. 2018) and the
hinge loss keep them in step; augmenting real and made crops alike before the discriminator sees either keeps it from
learning the few real ones by heart (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.console import progress_bar
from edgeai.errors import DataError

Images = NDArray[np.uint8]
LATENT = 64
MIN_CROPS = 12
BATCH = 32
# two time scales (Heusel et al. 2017)
GENERATOR_RATE, DISCRIMINATOR_RATE = 2e-4, 4e-4
AVERAGE = 0.995


def train_generator(crops: Images, *, steps: int, seed: int = 0) -> Any:
    """A Keras model from (B, 64) noise to (B, s, s, 3) float32 BGR in -1..1, trained on crops (N, s, s, 3) uint8.

    s is a multiple of 8. Crops are mirrored left-right at random. Raises DataError below 12 crops: what a generator makes of
    fewer is those again; and where the training diverges.
    """
    import keras
    import tensorflow as tf

    if len(crops) < MIN_CROPS:
        raise DataError(
            f"{len(crops)} crops are too few to learn from; {MIN_CROPS} are the least",
            next_step="label more, or paste the real ones with --method copy",
        )
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    generator, discriminator = _generator(crops.shape[1]), _discriminator(crops.shape[1])
    g_steps = keras.optimizers.Adam(GENERATOR_RATE, beta_1=0.0, beta_2=0.9)
    d_steps = keras.optimizers.Adam(DISCRIMINATOR_RATE, beta_1=0.0, beta_2=0.9)
    g_variables, d_variables = generator.trainable_variables, discriminator.trainable_variables
    g_steps.build(g_variables)
    d_steps.build(d_variables)
    averages = [tf.Variable(v, trainable=False) for v in g_variables]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def step(real: Any) -> Any:
        with tf.GradientTape() as g_tape:
            made = generator(tf.random.normal((BATCH, LATENT)), training=True)
            with tf.GradientTape() as d_tape, g_tape.stop_recording():
                scores = discriminator(_augmented(tf.concat([real, made], 0)), training=True)
                hinge = tf.reduce_mean(tf.nn.relu(1 - scores[:BATCH]) + tf.nn.relu(1 + scores[BATCH:]))
                d_gradients = d_tape.gradient(hinge, d_variables)
                d_steps.apply_gradients(zip(d_gradients, d_variables, strict=True))
            score = -tf.reduce_mean(discriminator(_augmented(made), training=False))
        g_gradients = g_tape.gradient(score, g_variables)
        g_steps.apply_gradients(zip(g_gradients, g_variables, strict=True))
        for average, variable in zip(averages, g_variables, strict=True):
            average.assign(AVERAGE * average + (1 - AVERAGE) * variable)
        return hinge

    scaled = crops.astype(np.float32) / 127.5 - 1
    with progress_bar("learning to draw", steps) as advance:
        for number in range(steps):
            real = scaled[rng.integers(0, len(scaled), BATCH)]
            flipped = rng.random(BATCH) < 0.5
            real[flipped] = real[flipped, :, ::-1]
            hinge = step(tf.constant(real))
            if number % 100 == 99 or number == steps - 1:
                value = float(hinge)
                if not np.isfinite(value):
                    raise DataError(
                        f"the generator diverged at step {number + 1}", next_step="try another --seed"
                    )
                advance(min(100, number % 100 + 1), note=f"hinge {value:.2f}")
    for average, variable in zip(averages, g_variables, strict=True):
        variable.assign(average)
    return generator


def draw_crops(generator: Any, count: int, *, seed: int = 0) -> Images:
    """`count` made crops (count, s, s, 3) uint8 BGR."""
    noise = np.random.default_rng([seed, 1]).standard_normal((count, LATENT), np.float32)
    made = [np.asarray(generator(noise[i : i + 128], training=False)) for i in range(0, count, 128)]
    return np.clip(np.rint((np.concatenate(made) + 1) * 127.5), 0, 255).astype(np.uint8)


def _generator(size: int) -> Any:
    import keras

    noise = keras.Input((LATENT,), name="noise")
    x = keras.layers.Dense((size // 8) ** 2 * 64, use_bias=False)(noise)
    x = keras.layers.Reshape((size // 8, size // 8, 64))(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    for channels in (64, 48, 24):
        x = keras.layers.Conv2DTranspose(channels, 4, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    image = keras.layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    return keras.Model(noise, image, name="generator")


def _discriminator(size: int) -> Any:
    import keras

    def normed(layer: Any) -> Any:
        return keras.layers.SpectralNormalization(layer)

    x = image = keras.Input((size, size, 3), name="image")
    for channels in (32, 64, 128):
        x = keras.layers.LeakyReLU(0.2)(
            normed(keras.layers.Conv2D(channels, 4, strides=2, padding="same"))(x)
        )
    score = normed(keras.layers.Dense(1))(keras.layers.Flatten()(x))
    return keras.Model(image, score, name="discriminator")


def _augmented(images: Any) -> Any:
    """Brightness, contrast, a move by up to an eighth and a hidden quarter, each image its own, all differentiable."""
    import tensorflow as tf

    count, size = images.shape[0], images.shape[1]

    def chance(low: float, high: float) -> Any:
        return tf.random.uniform((count, 1, 1, 1), low, high)

    images += chance(-0.4, 0.4)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = (images - mean) * chance(0.6, 1.4) + mean
    positions = tf.range(size)[tf.newaxis, :]
    for axis in (1, 2):
        move = tf.random.uniform((count, 1), -(size // 8), size // 8 + 1, tf.int32)
        # what comes in from outside is black, as an edge of the picture: index size is the padding
        index = positions + move
        index = tf.where((index < 0) | (index >= size), size, index)
        padding = [[0, 0]] + [[0, 1 if a == axis else 0] for a in (1, 2)] + [[0, 0]]
        images = tf.gather(tf.pad(images, padding), index, axis=axis, batch_dims=1)
    corner = tf.random.uniform((2, count, 1), -(size // 4), size - size // 4, tf.int32)
    hidden = [(positions >= corner[i]) & (positions < corner[i] + size // 2) for i in (0, 1)]
    shown = ~(hidden[0][:, :, tf.newaxis] & hidden[1][:, tf.newaxis, :])
    return images * tf.cast(shown, images.dtype)[..., tf.newaxis]
