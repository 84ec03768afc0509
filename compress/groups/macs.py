"""Multiply-accumulates of a network, whole or without some of its channels."""

from __future__ import annotations

from typing import Any

from compress.groups.graph import ChannelGraph, follow_channels


def model_macs(model: Any) -> int:
    """Multiply-accumulates of one inference: convolutions and dense layers (what MLPerf Tiny counts).

    Raises PassError for a model that is not functional.
    """
    return macs_without(follow_channels(model), frozenset())


def macs_without(graph: ChannelGraph, removed: frozenset[int]) -> int:
    """What one inference costs without the channel classes `removed` (roots of `graph`)."""
    total = graph.fixed_macs
    for item in graph.layers:
        outs = len(graph.kept(item.out_ids, removed)) if removed else len(item.out_ids)
        if item.kind == "dense":
            ins = len(graph.kept(item.in_ids, removed)) if removed else len(item.in_ids)
            total += item.macs * ins * outs
        elif item.kind == "depthwise":
            total += item.macs * outs
    return total
