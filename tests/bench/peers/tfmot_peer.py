"""tensorflow-model-optimization through tf_keras, by its guides: magnitude pruning, quantization-aware training, clustering."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchange import Exchange, Made, arguments, stopwatch
from tf_rebuilt import build_network, write_int8

SPARSITY = (0.5, 0.8)  # the guide's example: from, to
CLUSTERS = 16
# The guides fine-tune a quantized or clustered network for an epoch or less; this is three of the digits. Pruning gets all.
SHORT, SHORT_RATE = 0.05, 0.1


def main() -> None:
    exchange, out, variant = arguments()
    make, name, how = VARIANTS[variant]
    made = Made(out, ("tensorflow-model-optimization", "tf_keras", "tensorflow"))
    with stopwatch() as seconds:
        network = build_network(exchange)
        made.off = exchange.check(lambda pictures: network(pictures, training=False).numpy())
        path = out / f"tfmot-{variant}.tflite"
        make(network, exchange, path)
        made.add(name, path, precision="int8", how=how, seconds=seconds())
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


VARIANTS = {
    "prune": (prune, "tfmot prune", "polynomial decay of magnitudes to 80 % zeros, stripped, int8"),
    "qat": (quantize, "tfmot QAT", "quantization-aware training"),
    "cluster": (cluster, "tfmot cluster", f"{CLUSTERS} centroids a layer, stripped, int8"),
}

if __name__ == "__main__":
    main()
