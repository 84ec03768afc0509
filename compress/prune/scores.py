"""How much each channel class matters: by its weights, its activations, or what the loss would lose with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from compress.groups.graph import ChannelGraph, Ids, WeightIds
from compress.groups.rebuild import flatten_model
from compress.groups.wiring import open_wiring
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

    "l1", "l2": mean norm of the filters that make a channel, times the batch norm's gamma where one follows (Li et al. 2017).
    "bn-gamma": |gamma| of the batch norms it passes (Liu et al. 2017); "l2" in components that no norm follows.
    "activation": mean magnitude of what the following layers read, over `batches`; "l2" for heads of attention.
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
    """On one scale, and with a middling score for classes about which nothing was found."""
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
    gains = _gains(graph)
    scores: dict[int, float] = {}
    for item in graph.layers:
        filters = item.filters()
        if not len(filters):
            continue
        norms: Floats = np.abs(filters).mean(0) if kind == "l1" else np.sqrt(np.square(filters).mean(0))
        roots = graph.roots(item.out_ids)
        norms = norms * np.array([np.mean(gains.get(int(r), [1.0])) for r in roots])
        _add(scores, roots, norms / (norms.mean() + TINY))
    return scores


def _gammas(graph: ChannelGraph) -> dict[int, float]:
    gains = _gains(graph)
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

    flat = flatten_model(model)  # the tensors inside a nested model are no part of the outer one
    tensors = {call.name: call.inputs[0] for call in reversed(open_wiring(flat).calls) if call.inputs}
    readers = [
        item
        for item in graph.layers
        if len(item.in_ids) and item.makes and tensors[item.name].shape[-1] == len(item.in_ids)
    ]
    if not readers:
        raise PassError("score 'activation': no layer reads channels along the last axis")
    inside = keras.Model(flat.inputs, [tensors[item.name] for item in readers])

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
    def magnitudes(inputs: Any) -> Any:
        read = inside(inputs, training=False)
        return [
            tf.reduce_mean(tf.abs(x), axis=list(range(len(x.shape) - 1))) for x in keras.tree.flatten(read)
        ]

    totals: list[Floats] = [np.zeros(len(item.in_ids)) for item in readers]
    count = 0
    for batch in batches:
        totals = [total + m.numpy() for total, m in zip(totals, magnitudes(batch["inputs"]), strict=True)]
        count += 1
    _refuse_none(count, "activation")
    scores: dict[int, float] = {}
    for item, total in zip(readers, totals, strict=True):
        _add(scores, graph.roots(item.in_ids), total / (total.mean() + TINY))
    norms = _norms(graph, "l2")
    for component in graph.components():
        if not any(int(r) in scores for r in component):
            scores.update({int(r): norms[int(r)] for r in component if int(r) in norms})
    return scores


def _taylor(model: Any, graph: ChannelGraph, batches: Iterable[Batch], loss: Loss) -> dict[int, float]:
    import tensorflow as tf

    read = reading_weights(graph)
    variables = [weight.variable.value for weight, _, _ in read]

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator, unused-ignore]
    def products(batch: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = loss(model(batch["inputs"], training=False), batch)
            value = tf.reduce_mean(value["loss"] if isinstance(value, dict) else value)
        gradients = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        told = []
        for (_, axis, _), variable, gradient in zip(read, variables, gradients, strict=True):
            product = variable * tf.convert_to_tensor(gradient)
            told.append(tf.reduce_sum(product, [a for a in range(len(variable.shape)) if a != axis]))
        return told

    total: dict[int, float] = {}
    count = 0
    for batch in batches:
        once: dict[int, float] = {}
        for (_, _, ids), product in zip(read, products(dict(batch)), strict=True):
            _add(once, graph.roots(ids), product.numpy().astype(np.float64))
        for root, change in once.items():
            total[root] = total.get(root, 0.0) + change * change
        count += 1
    _refuse_none(count, "taylor")
    return {root: value / count for root, value in total.items()}


def reading_weights(graph: ChannelGraph) -> list[tuple[WeightIds, int, Ids]]:
    """(weight, axis, channels along it) of every kernel that sums over channels, each once."""
    found: dict[int, tuple[WeightIds, int, Ids]] = {}
    for item in graph.layers:
        for weight in item.weights:
            ids = None if weight.reads is None else weight.axes[weight.reads]
            if weight.reads is not None and ids is not None:
                found.setdefault(id(weight.variable), (weight, weight.reads, ids))
    return list(found.values())


def _gains(graph: ChannelGraph) -> dict[int, list[float]]:
    """|gamma| of the norms that each class passes."""
    found: dict[int, list[float]] = {}
    for item in graph.layers:
        gamma = getattr(item.layer, "gamma", None) if item.kind == "norm" else None
        if gamma is None or tuple(gamma.shape) != (len(item.out_ids),):
            continue
        values = np.abs(np.asarray(gamma.numpy(), np.float64))
        for root, value in zip(graph.roots(item.out_ids), values, strict=True):
            found.setdefault(int(root), []).append(float(value))
    return found


def _add(scores: dict[int, float], roots: NDArray[np.intp], values: Floats) -> None:
    for root, value in zip(roots, values, strict=True):
        scores[int(root)] = scores.get(int(root), 0.0) + float(value)


def _refuse_none(count: int, kind: str) -> None:
    if not count:
        raise PassError(f"score {kind!r} got no batch", next_step="check the data, or take 'l2'")
