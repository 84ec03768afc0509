"""Remove whole channels: a new, smaller dense model with the kept weights, nothing masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.graph import ChannelGraph, Ids, follow_channels
from compress.groups.macs import macs_without, model_macs
from compress.groups.remove import remove_channels
from edgeai.errors import PassError

Floats = NDArray[np.float64]


def prune_channels(
    model: Any, *, macs_ratio: float, round_to: int = 8, max_removed: float = 0.75
) -> tuple[Any, dict[str, Any]]:
    """A copy of `model` without its least important channels, at most `macs_ratio` (0..1) of its multiplications.

    Importance is the L2 norm of the filters that make a channel (times the batch norm's gamma where one follows),
    relative to the mean of its layer, summed over the layers that share it (Li et al. 2017, "Pruning Filters"). Each group
    of coupled channels keeps a multiple of `round_to` (what SIMD kernels like), and every layer at least 1 - max_removed
    of its channels.
    Returns the new model and a report. Raises PassError where the ratio cannot be reached, naming what is in the way.
    """
    if not 0 < macs_ratio <= 1:
        raise PassError(f"macs_ratio must be above 0 and at most 1, is {macs_ratio}")
    graph = follow_channels(model)
    components = graph.components()
    scores = _scores(graph, model)
    before = macs_without(graph, frozenset())
    removed = _choose(graph, components, scores, int(before * macs_ratio), round_to, max_removed)
    after = macs_without(graph, removed)
    if after > before * macs_ratio:
        blocked = ", ".join(f"{name} ({kind})" for name, kind in list(graph.blocked.items())[:4])
        raise PassError(
            f"pruning reaches {after / before:.2f} of the multiplications at best, not {macs_ratio}",
            next_step="raise macs_ratio or max_removed"
            + (f"; layers in the way: {blocked}" if blocked else ""),
        )
    report = {
        "macs_before": before,
        "macs_after": after,
        "channels_removed": len(removed),
        "channels": int(sum(len(c) for c in components)),
        "blocked": dict(graph.blocked),
    }
    return remove_channels(model, graph, removed), report


def next_ratio(network: Any, *, whole: int, macs_ratio: float, number: int, rounds: int) -> float:
    """The ratio for round `number` (from 1) of `rounds` equal steps of the multiplications' logarithm.

    whole: multiplications before the first round. network: as the rounds before have left it.
    """
    return float(min(1.0, whole * macs_ratio ** (number / rounds) / model_macs(network)))


def _scores(graph: ChannelGraph, model: Any) -> Mapping[int, float]:
    """Importance by class root."""
    gains: dict[int, list[float]] = {}
    for item in graph.layers:
        if item.kind == "norm" and item.layer.scale:
            for root, gamma in zip(graph.roots(item.out_ids), np.abs(item.layer.gamma.numpy()), strict=True):
                gains.setdefault(int(root), []).append(float(gamma))
    scores: dict[int, float] = {}
    for item in graph.layers:
        if item.kind != "dense":
            continue
        kernel = np.asarray(item.layer.kernel.numpy(), np.float64)
        norms: Floats = np.sqrt(np.square(kernel.reshape(-1, kernel.shape[-1])).mean(0))
        roots = graph.roots(item.out_ids)
        norms = norms * np.array([float(np.mean(gains[int(r)])) if int(r) in gains else 1.0 for r in roots])
        norms /= norms.mean() + 1e-12
        for root, norm in zip(roots, norms, strict=True):
            scores[int(root)] = scores.get(int(root), 0.0) + float(norm)
    return scores


def _choose(
    graph: ChannelGraph,
    components: list[Ids],
    scores: Mapping[int, float],
    budget: int,
    round_to: int,
    max_removed: float,
) -> frozenset[int]:
    """The smallest cut at one importance threshold, the same for all components, that meets the budget (bisection)."""
    if not components:
        return frozenset()
    protected = _protected(graph, scores, max_removed)
    # a component may reach several layers: its own mean importance makes components comparable
    means = [float(np.mean([scores[int(r)] for r in c])) or 1.0 for c in components]
    levels = sorted({scores[int(r)] / mean for c, mean in zip(components, means, strict=True) for r in c})
    # faintest first, what must stay last
    ordered = [sorted((int(r) for r in c), key=lambda r: (r in protected, scores[r])) for c in components]

    def cut(level: float) -> frozenset[int]:
        chosen: list[int] = []
        for component, mean in zip(ordered, means, strict=True):
            below = sum(scores[r] / mean <= level and r not in protected for r in component)
            keep = max(len(component) - below, min(round_to, len(component)))
            keep = min(len(component), -(-keep // round_to) * round_to)
            chosen.extend(component[: len(component) - keep])
        return frozenset(chosen)

    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if macs_without(graph, cut(levels[middle])) <= budget:
            high = middle
        else:
            low = middle + 1
    return cut(levels[low])


def _protected(graph: ChannelGraph, scores: Mapping[int, float], max_removed: float) -> set[int]:
    """The best 1 - max_removed of every layer's channels, one at least: no layer of a component may run empty."""
    stay: set[int] = set()
    for item in graph.layers:
        if item.kind == "dense":
            roots = sorted({int(r) for r in graph.roots(item.out_ids)}, key=lambda r: -scores[r])
            stay.update(roots[: max(1, int(np.ceil(len(roots) * (1 - max_removed) - 1e-9)))])
    return stay
