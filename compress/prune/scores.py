"""How much each channel class matters: by its weights, its activations, or what the loss would lose with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from compress.groups.graph import ChannelGraph, WeightedLayer
from edgeai.errors import PassError

Floats = NDArray[np.float64]
Batch = Mapping[str, Any]
Loss = Callable[[Any, Any], Any]
ScoreKind = Literal["l1", "l2", "bn-gamma", "taylor", "activation"]

SCORE_KINDS: tuple[ScoreKind, ...] = get_args(ScoreKind)
NEEDS_BATCHES = ("taylor", "activation")
TINY = 1e-12


def score_channels(
    model: Any,
    graph: ChannelGraph,
    kind: ScoreKind = "l2",
    *,
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
) -> dict[int, float]:
    """Importance by class root of `graph`, made from this very model: 0 and above, low = removed first, mean about 1.

    "l1", "l2": norm of the filters that make a channel, times the batch norm's gamma where one follows (Li et al. 2017).
    "bn-gamma": |gamma| of the batch norms it passes (Liu et al. 2017); "l2" in components that no norm follows.
    "activation": mean magnitude of what the following layers read, over `batches`.
    "taylor": (sum of gradient x weight)^2, averaged over batches (Molchanov et al. 2019), the sum over the weights that
    read the channel: to first order that is what removing it adds to the loss, whatever lies between.

    Layers that share a channel add up, each relative to its own mean; then each component (graph.components()) is divided
    by its mean, which makes components comparable. "taylor" is a loss already: one scale for all.

    batches: {"inputs": ..., and what `loss` wants}, read once. loss(outputs, batch): a scalar, as compress.train.fit takes
    it. Raises PassError where a kind lacks one of them, finds no batch norm, or meets values that are not finite.
    """
    if kind not in SCORE_KINDS:
        raise PassError(f"there is no score {kind!r}", next_step=f"take one of {', '.join(SCORE_KINDS)}")
    if kind in NEEDS_BATCHES and batches is None:
        raise PassError(f"score {kind!r} needs batches of examples", next_step='give some, or take "l2"')
    if kind == "taylor":
        if loss is None:
            raise PassError("score 'taylor' needs a loss", next_step='give one, or take "l2"')
        scores = _taylor(model, graph, batches or (), loss)
    elif kind == "activation":
        scores = _activation(model, graph, batches or ())
    elif kind == "bn-gamma":
        scores = _gammas(graph)
    else:
        scores = _norms(graph, kind)
    bad = sum(not np.isfinite(score) for score in scores.values())
    if bad:
        raise PassError(
            f"score {kind!r}: {bad} of {len(scores)} channels score NaN or infinity",
            next_step="check the network's weights and the batches",
        )
    return _completed(graph, scores, kind)


def _completed(graph: ChannelGraph, scores: dict[int, float], kind: ScoreKind) -> dict[int, float]:
    """On one scale, and with a middling score for classes that only layers of an unknown kind make or read."""
    components = [[int(r) for r in component] for component in graph.components()]
    known = [scores[r] for c in components for r in c if r in scores]
    overall = float(np.mean(known)) if known else 1.0
    for component in components:
        found = [scores[r] for r in component if r in scores]
        mean = (float(np.mean(found)) if found and kind != "taylor" else overall) or 1.0
        middle = float(np.median(found)) / mean if found else 1.0
        scores.update({r: scores[r] / mean if r in scores else middle for r in component})
    return scores


def _norms(graph: ChannelGraph, kind: ScoreKind) -> dict[int, float]:
    gains = _by_root(graph, ((item, _gamma(item)) for item in graph.layers if _gamma(item) is not None))
    scores: dict[int, float] = {}
    for item in graph.layers:
        axis = MAKERS.get(item.kind)
        if axis is None:
            continue
        kernel = np.moveaxis(np.asarray(item.layer.kernel.numpy(), np.float64), axis, -1)
        kernel = kernel.reshape(-1, kernel.shape[-1])
        norms: Floats = np.abs(kernel).mean(0) if kind == "l1" else np.sqrt(np.square(kernel).mean(0))
        roots = graph.roots(item.out_ids)
        norms = norms * np.array([np.mean(gains.get(int(r), [1.0])) for r in roots])
        _add(scores, roots, norms / (norms.mean() + TINY))
    return scores


def _gammas(graph: ChannelGraph) -> dict[int, float]:
    gains = _by_root(graph, ((item, _gamma(item)) for item in graph.layers if _gamma(item) is not None))
    if not gains:
        raise PassError(
            "score 'bn-gamma': the network has no batch norm with a gamma", next_step='take "l2" or "taylor"'
        )
    norms = _norms(graph, "l2")
    scores: dict[int, float] = {}
    for component in graph.components():
        roots = [int(r) for r in component]
        whole = all(r in gains for r in roots)
        scores.update({r: float(np.mean(gains[r])) if whole else norms.get(r, 0.0) for r in roots})
    return scores


def _activation(model: Any, graph: ChannelGraph, batches: Iterable[Batch]) -> dict[int, float]:
    import keras
    import tensorflow as tf

    readers = [item for item in graph.layers if item.kind in READERS]
    tensors = input_tensors(model)
    inside = keras.Model(model.inputs, [tensors[id(item.layer)] for item in readers])

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
    def magnitudes(inputs: Any) -> Any:
        read = inside(inputs, training=False)
        read = [read] if len(readers) == 1 else read
        return [tf.reduce_mean(tf.abs(x), axis=list(range(len(x.shape) - 1))) for x in read]

    totals: list[Floats] = [np.zeros(len(item.in_ids)) for item in readers]
    count = 0
    for batch in batches:
        totals = [total + m.numpy() for total, m in zip(totals, magnitudes(batch["inputs"]), strict=True)]
        count += 1
    _refuse_none(count, "activation")
    scores: dict[int, float] = {}
    for item, total in zip(readers, totals, strict=True):
        _add(scores, graph.roots(item.in_ids), total / (total.mean() + TINY))
    return scores


def _taylor(model: Any, graph: ChannelGraph, batches: Iterable[Batch], loss: Loss) -> dict[int, float]:
    import tensorflow as tf

    readers = [item for item in graph.layers if item.kind in READERS]
    kernels = [item.layer.kernel.value for item in readers]

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
    def products(batch: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            value = loss(model(batch["inputs"], training=False), batch)
            value = tf.reduce_mean(value["loss"] if isinstance(value, dict) else value)
        gradients = tape.gradient(value, kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        told = []
        for item, kernel, gradient in zip(readers, kernels, gradients, strict=True):
            axis = READERS[item.kind] % len(kernel.shape)
            others = [a for a in range(len(kernel.shape)) if a != axis]
            told.append(tf.reduce_sum(kernel * gradient, others))
        return told

    total: dict[int, float] = {}
    count = 0
    for batch in batches:
        once: dict[int, float] = {}
        for item, product in zip(readers, products(dict(batch)), strict=True):
            _add(once, graph.roots(item.in_ids), product.numpy().astype(np.float64))
        for root, change in once.items():
            total[root] = total.get(root, 0.0) + change * change
        count += 1
    _refuse_none(count, "taylor")
    return {root: value / count for root, value in total.items()}


# which axis of the kernel counts the channels that a layer makes, and those that it reads, by the graph's kinds
MAKERS: dict[str, int] = {"dense": -1}
READERS: dict[str, int] = {"dense": -2}


def input_tensors(model: Any) -> dict[int, Any]:
    """What each layer of a functional model reads (its first input), by the layer's id."""
    nodes = (node for depth in model._nodes_by_depth.values() for node in depth)
    return {
        id(node.operation): node.arguments.keras_tensors[0] for node in nodes if node.arguments.keras_tensors
    }


def _gamma(item: WeightedLayer) -> Floats | None:
    if item.kind != "norm" or getattr(item.layer, "gamma", None) is None:
        return None
    return np.abs(np.asarray(item.layer.gamma.numpy(), np.float64))


def _by_root(graph: ChannelGraph, given: Iterable[tuple[WeightedLayer, Any]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for item, values in given:
        for root, value in zip(graph.roots(item.out_ids), values, strict=True):
            found.setdefault(int(root), []).append(float(value))
    return found


def _add(scores: dict[int, float], roots: NDArray[np.intp], values: Floats) -> None:
    for root, value in zip(roots, values, strict=True):
        scores[int(root)] = scores.get(int(root), 0.0) + float(value)


def _refuse_none(count: int, kind: str) -> None:
    if not count:
        raise PassError(f"score {kind!r} got no batch", next_step="check the data, or take 'l2'")
