"""A small network that draws an object into surroundings where one could be, learnt from a few dozen real ones.

It is shown a free window of a real picture and noise, and gives a colour and an opacity for each pixel: the surroundings
stay real, only the object is made, and its box is known. A discriminator compares the result with real crops. Hinge loss,
spectral normalisation (Miyato et al. 2018), and both kinds augmented alike before it sees them, so that it cannot learn the
few real ones by heart (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.synthesize.paste import fade
from edgeai.console import progress_bar
from edgeai.errors import DataError

Images = NDArray[np.uint8]
LATENT = 32
MIN_CROPS = 12
BATCH = 32
# two time scales (Heusel et al. 2017)
GENERATOR_RATE, DISCRIMINATOR_RATE = 2e-4, 4e-4
AVERAGE = 0.995


def train_generator(crops: Images, backgrounds: Images, *, steps: int, seed: int = 0) -> Any:
    """A Keras model that draws into backgrounds: [(B, s, s, 3) -1..1, (B, 32) noise] to (B, s, s, 4) colour and opacity.

    crops: (N, s, s, 3) uint8, real objects in the middle. backgrounds: (M, s, s, 3) uint8, windows of like surroundings
    without one. s is a multiple of 8. Both are mirrored left-right at random. Raises DataError below 12 crops: what a
    network makes of fewer is those again; and where the training diverges.
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
    def step(real: Any, background: Any) -> Any:
        with tf.GradientTape() as g_tape:
            layer = generator([background, tf.random.normal((BATCH, LATENT))], training=True)
            made = background + layer[..., 3:] * (layer[..., :3] - background)
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

    with progress_bar("learning to draw", steps) as advance:
        for number in range(steps):
            real, background = (_picked(images, rng) for images in (crops, backgrounds))
            hinge = step(tf.constant(real), tf.constant(background))
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


def draw_layers(generator: Any, backgrounds: Images, *, seed: int = 0) -> NDArray[np.float32]:
    """(N, s, s, 4) float32 for backgrounds (N, s, s, 3) uint8: BGR 0..255 and opacity 0..1, 0 at the edge."""
    noise = np.random.default_rng([seed, 1]).standard_normal((len(backgrounds), LATENT), np.float32)
    scaled = backgrounds.astype(np.float32) / 127.5 - 1
    parts = [
        np.asarray(generator([scaled[i : i + 128], noise[i : i + 128]], training=False))
        for i in range(0, len(scaled), 128)
    ]
    layers = np.concatenate(parts)
    layers[..., :3] = (layers[..., :3] + 1) * 127.5
    return layers


def put_layers(backgrounds: Images, layers: NDArray[np.float32]) -> Images:
    """The layers over their backgrounds, (N, s, s, 3) uint8."""
    under = backgrounds.astype(np.float32)
    return np.clip(np.rint(under + layers[..., 3:] * (layers[..., :3] - under)), 0, 255).astype(np.uint8)


def _picked(images: Images, rng: np.random.Generator) -> NDArray[np.float32]:
    picked = images[rng.integers(0, len(images), BATCH)].astype(np.float32) / 127.5 - 1
    flipped = rng.random(BATCH) < 0.5
    picked[flipped] = picked[flipped, :, ::-1]
    return np.asarray(picked, np.float32)


def _generator(size: int) -> Any:
    """A little U-Net (Ronneberger et al. 2015) with noise at its narrowest."""
    import keras

    def normed(x: Any) -> Any:
        return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))

    background = keras.Input((size, size, 3), name="background")
    noise = keras.Input((LATENT,), name="noise")
    full = normed(keras.layers.Conv2D(12, 3, padding="same", use_bias=False)(background))
    half = normed(keras.layers.Conv2D(24, 4, strides=2, padding="same", use_bias=False)(full))
    x = normed(keras.layers.Conv2D(48, 4, strides=2, padding="same", use_bias=False)(half))
    quarter = size // 4
    z = keras.layers.Reshape((quarter, quarter, 16))(keras.layers.Dense(quarter * quarter * 16)(noise))
    x = normed(keras.layers.Conv2D(64, 3, padding="same", use_bias=False)(keras.layers.Concatenate()([x, z])))
    x = normed(keras.layers.Conv2DTranspose(32, 4, strides=2, padding="same", use_bias=False)(x))
    x = keras.layers.Concatenate()([x, half])
    x = normed(keras.layers.Conv2DTranspose(16, 4, strides=2, padding="same", use_bias=False)(x))
    x = keras.layers.Concatenate()([x, full])
    colour = keras.layers.Conv2D(3, 3, padding="same", activation="tanh", name="colour")(x)
    opacity = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="opacity")(x)
    shown = keras.layers.Rescaling(fade(size, size))(opacity)
    layer = keras.layers.Concatenate(name="layer")([colour, shown])
    return keras.Model([background, noise], layer, name="generator")


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
    """Brightness, contrast, a move by up to a sixteenth and a hidden quarter, each image its own, all differentiable."""
    import tensorflow as tf

    count, size = images.shape[0], images.shape[1]

    def chance(low: float, high: float) -> Any:
        return tf.random.uniform((count, 1, 1, 1), low, high)

    images += chance(-0.4, 0.4)
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = (images - mean) * chance(0.6, 1.4) + mean
    positions = tf.range(size)[tf.newaxis, :]
    for axis in (1, 2):
        move = tf.random.uniform((count, 1), -(size // 16), size // 16 + 1, tf.int32)
        # what comes in from outside is black, as an edge of the picture: index size is the padding
        index = positions + move
        index = tf.where((index < 0) | (index >= size), size, index)
        padding = [[0, 0]] + [[0, 1 if a == axis else 0] for a in (1, 2)] + [[0, 0]]
        images = tf.gather(tf.pad(images, padding), index, axis=axis, batch_dims=1)
    corner = tf.random.uniform((2, count, 1), -(size // 4), size - size // 4, tf.int32)
    hidden = [(positions >= corner[i]) & (positions < corner[i] + size // 2) for i in (0, 1)]
    shown = ~(hidden[0][:, :, tf.newaxis] & hidden[1][:, tf.newaxis, :])
    return images * tf.cast(shown, images.dtype)[..., tf.newaxis]
