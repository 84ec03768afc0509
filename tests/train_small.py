"""A small convolutional network with batch norm and a task for it; run as a program, one process of a distributed training.

python train_small.py one|mirrored|multi-worker OUT.npz [--steps N] [--checkpoint FILE] [--devices N] [--seed N]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATES = np.random.default_rng(7).normal(0, 1, (4, 8, 8, 2)).astype(np.float32)


def network(seed: int = 0, *, dropout: float = 0.0) -> Any:
    """Four classes out of (8, 8, 2) pictures."""
    import keras

    keras.utils.set_random_seed(seed)
    picture = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(picture)
    x = keras.layers.BatchNormalization(momentum=0.9, name="first_norm")(x)
    x = keras.layers.Activation("relu6")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu6", name="second")(x))
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    return keras.Model(picture, {"class": keras.layers.Dense(4, name="head")(x)})


def make(rng: np.random.Generator, size: int = 16) -> dict[str, Any]:
    """One of four patterns each, in noise."""
    classes = rng.integers(0, 4, size)
    noise = rng.normal(0, 1, (size, 8, 8, 2))
    return {"inputs": (TEMPLATES[classes] + noise).astype(np.float32), "targets": classes}


def loss(outputs: Any, batch: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["targets"], logits=outputs["class"])
    )


def make_pair(rng: np.random.Generator) -> dict[str, Any]:
    """Batch n of one process that stands for two: batches 2n and 2n + 1 of theirs."""
    seed, number = rng.bit_generator.seed_seq.entropy
    both = [make(np.random.default_rng([seed, 2 * number + i])) for i in (0, 1)]
    return {name: np.concatenate([batch[name] for batch in both]) for name in both[0]}


def stops_at(number: int, error: BaseException) -> Any:
    """make, but batch `number` raises `error`."""

    def stopping(rng: np.random.Generator) -> dict[str, Any]:
        if rng.bit_generator.seed_seq.entropy[1] == number:
            raise error
        return make(rng)

    return stopping


def by_keras(net: Any, optimizer: Any, *, steps: int = 6, peak: float = 0.02) -> Any:
    """`net`, trained by an optimizer of Keras' at the rates of fit without warm-up."""
    import tensorflow as tf

    for number in range(steps):
        batch = make(np.random.default_rng([1, number]))
        with tf.GradientTape() as tape:
            value = loss(net(batch["inputs"], training=True), batch)
        done = max(0, number - 1) / (steps - 1)
        optimizer.learning_rate.assign(peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))))
        variables = net.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
    return net


def settings(steps: int) -> Any:
    from compress.train.fit import FitSettings

    return FitSettings(steps=steps, learning_rate=0.01, average=0.8, save_every_s=0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("one", "mirrored", "multi-worker"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--checkpoint", type=Path)
    options = parser.parse_args()
    from compress.quiet import start_tensorflow
    from compress.train.distributed import open_strategy
    from compress.train.fit import fit
    from edgeai.errors import EdgeError

    start_tensorflow()
    import tensorflow as tf

    if options.devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * options.devices
        tf.config.set_logical_device_configuration(cpu, logical)
    seen: list[float] = []

    def made(rng: np.random.Generator) -> dict[str, Any]:
        batch = make(rng)
        seen.append(float(batch["inputs"].sum()))
        return batch

    try:
        if options.kind == "mirrored":
            strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(options.devices)])
        else:
            strategy = open_strategy(options.kind)
        trained = network(options.seed, dropout=options.dropout)
        result = fit(
            trained,
            made,
            loss,
            settings(options.steps),
            description="small",
            checkpoint=options.checkpoint,
            strategy=strategy,
        )
    except EdgeError as error:
        print(error, file=sys.stderr)
        return 1
    weights = {f"w{n}": w for n, w in enumerate(trained.get_weights())}
    np.savez(options.out, losses=result.losses, seen=seen, resumed=result.resumed_from, **weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
