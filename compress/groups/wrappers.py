"""How channels run through TimeDistributed: as through the layer within, once for every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from compress.groups.classes import BlockedError, ChannelGraph, Edit, Handler, Ids, Trace
from compress.groups.wiring import Call


def follow_time_distributed(within: Mapping[str, Handler]) -> Handler:
    """A handler for TimeDistributed around the layers that `within` names: those that look at the last axis only."""

    def follow(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace | list[Trace]:
        inner = call.op.layer
        handle = within.get(type(inner).__name__)
        if handle is None or not type(inner).__module__.startswith("keras."):
            raise BlockedError(f"it wraps a {type(inner).__name__}, which is not followed")
        before = graph.edits.pop(call.name, None)
        count = len(graph.layers)
        made = handle(graph, replace(call, op=inner), traces)
        graph.layers[count:] = [replace(item, kind="distributed") for item in graph.layers[count:]]
        edit = graph.edits.pop(call.name, None)
        if edit is not None:
            graph.edits[call.name] = before or Edit(edit.ids, _inside(edit.apply))
            for one, other in zip(graph.edits[call.name].ids, edit.ids, strict=True):
                graph.join(one, other)
        elif before is not None:
            graph.edits[call.name] = before
        return made

    return follow


def _inside(apply: Callable[..., None]) -> Callable[..., None]:
    def change(config: dict[str, Any], *kept: Ids) -> None:
        apply(config["layer"]["config"], *kept)

    return change
