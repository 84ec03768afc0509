"""tensorflow-model-optimization through tf_keras, by its guides: magnitude pruning, quantization-aware training, clustering."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchange import Exchange, Made, arguments, say, stopwatch
from tf_rebuilt import build_network, write_int8

SPARSITY = (0.5, 0.8)  # the guide's example: from, to
CLUSTERS = 16
# The guides fine-tune a quantized or clustered network shortly, at a small rate; pruning gets all the steps.
SHORT, SHORT_RATE = 0.2, 0.1


def main() -> None:
    exchange, out = arguments()
    made = Made(out, ("tensorflow-model-optimization", "tf_keras", "tensorflow"))
    for name, make, precision, how in (
        ("tfmot prune 80 %", prune, "int8", "polynomial decay of magnitudes to 80 % zeros, stripped, int8"),
        ("tfmot QAT", quantize, "int8", "quantization-aware training"),
        ("tfmot cluster", cluster, "int8", f"{CLUSTERS} centroids a layer, stripped, int8"),
    ):
        say(f"{name}")
        with stopwatch() as seconds:
            network = build_network(exchange)
            made.off = exchange.check(lambda pictures, n=network: n(pictures, training=False).numpy())
            path = out / f"{make.__name__}.tflite"
            make(network, exchange, path)
            made.add(name, path, precision=precision, how=how, seconds=seconds())
        say(f"{name}: {seconds():.0f} s")
    made.write(exchange.facts)


def prune(network: Any, exchange: Exchange, path: Path) -> None:
    import tensorflow_model_optimization as tfmot

    sparsity = tfmot.sparsity.keras
    schedule = sparsity.PolynomialDecay(*SPARSITY, begin_step=0, end_step=sum(exchange.facts.rounds))
    pruned = sparsity.prune_low_magnitude(network, pruning_schedule=schedule)
    train(pruned, exchange, exchange.facts.steps, 1.0, callbacks=[sparsity.UpdatePruningStep()])
    write_int8(sparsity.strip_pruning(pruned), exchange, path)


def quantize(network: Any, exchange: Exchange, path: Path) -> None:
    import tensorflow_model_optimization as tfmot

    aware = tfmot.quantization.keras.quantize_model(network)
    train(aware, exchange, int(SHORT * exchange.facts.steps), SHORT_RATE)
    write_int8(aware, exchange, path, calibrate=False)


def cluster(network: Any, exchange: Exchange, path: Path) -> None:
    import tensorflow_model_optimization as tfmot

    clustering = tfmot.clustering.keras
    clustered = clustering.cluster_weights(
        network,
        number_of_clusters=CLUSTERS,
        cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
    )
    train(clustered, exchange, int(SHORT * exchange.facts.steps), SHORT_RATE)
    write_int8(clustering.strip_clustering(clustered), exchange, path)


def train(
    network: Any,
    exchange: Exchange,
    steps: int,
    rate: float,
    callbacks: list[Callable[..., Any]] | None = None,
) -> None:
    """On the labels alone; a warm-up and half a cosine, as ours."""
    import tf_keras

    facts = exchange.facts
    peak, warm = rate * facts.learning_rate, max(1, steps // 20)
    schedule = tf_keras.optimizers.schedules.CosineDecay(
        peak / warm, max(1, steps - warm), warmup_target=peak, warmup_steps=warm
    )
    network.compile(
        tf_keras.optimizers.AdamW(schedule, weight_decay=facts.weight_decay),
        tf_keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    batches = exchange.batches(0, steps)
    network.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=callbacks)


if __name__ == "__main__":
    main()
