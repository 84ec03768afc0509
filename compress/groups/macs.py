"""Multiply-accumulates of a network, whole or without some of its channels."""

from __future__ import annotations

from typing import Any

from compress.groups.graph import ChannelGraph, follow_channels


def model_macs(model: Any) -> int:
    """Multiply-accumulates of one inference: convolutions, dense and recurrent layers, attention (as MLPerf Tiny counts).

    Raises PassError for a model that is not functional.
    """
    return macs_without(follow_channels(model), frozenset())


def macs_without(graph: ChannelGraph, removed: frozenset[int]) -> int:
    """What one inference costs without the channel classes `removed` (roots of `graph`)."""
    total = graph.fixed_macs
    for item in graph.layers:
        if item.channel_macs:
            total += item.channel_macs * len(graph.kept(item.out_ids, removed))
        for weight in item.weights:
            macs = weight.uses
            for size, ids in zip(weight.variable.shape, weight.axes, strict=True):
                macs *= int(size) if ids is None or not macs else len(graph.kept(ids, removed))
            total += macs
    return total


def parameters_without(graph: ChannelGraph, removed: frozenset[int]) -> int:
    """Numbers in the weights without the channel classes `removed`."""
    total = 0
    seen: set[str] = set()
    for call in graph.wiring.calls:
        if call.name in seen:
            continue
        seen.add(call.name)
        for index, variable in enumerate(getattr(call.op, "weights", ())):
            slot = graph.weights.get((call.name, index))
            count = 1
            for axis, size in enumerate(variable.shape):
                ids = slot.axes[axis] if slot else None
                count *= int(size) if ids is None else len(graph.kept(ids, removed))
            total += count
    return total
