"""The network without some of its channels: new dense layers with the kept weights, nothing masked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.classes import ChannelGraph, Ids
from compress.groups.rebuild import rebuild_model
from compress.groups.wiring import Call, Wiring, open_wiring
from edgeai.errors import PassError


def remove_channels(model: Any, graph: ChannelGraph, removed: frozenset[int]) -> Any:
    """The model without the channel classes `removed` (roots of `graph`, made from this model or one that is built alike).

    The result is flat (no models inside) and has layers of its own. Its outputs are those of zero_channels, except behind
    norms that the graph was asked to go through.
    Raises PassError where a class cannot go, a layer would run empty, or graph and model do not fit.
    """
    check_removed(graph, removed)
    wiring = fitting_wiring(model, graph)

    def change_config(call: Call, config: dict[str, Any]) -> None:
        if call.name in graph.edits:
            edit = graph.edits[call.name]
            edit.apply(config, *(graph.kept(ids, removed) for ids in edit.ids))

    def change_arguments(call: Call, args: list[Any], kwargs: dict[str, Any]) -> None:
        if call.number in graph.call_edits:
            edit = graph.call_edits[call.number]
            edit.apply(args, kwargs, *(graph.kept(ids, removed) for ids in edit.ids))

    def change_weight(call: Call, index: int, values: NDArray[Any]) -> NDArray[Any]:
        slot = graph.weights.get((call.name, index))
        for axis, ids in enumerate(slot.axes if slot else ()):
            if ids is not None:
                values = np.take(values, graph.kept(ids, removed), axis=axis)
        return values

    return rebuild_model(
        model,
        wiring,
        change_config=change_config,
        change_arguments=change_arguments,
        change_weight=change_weight,
    )


def check_removed(graph: ChannelGraph, removed: frozenset[int]) -> None:
    """Raise PassError unless every one of `removed` is a class that can go and every layer keeps a channel."""
    ids: Ids = np.array(sorted(removed), np.intp)
    unknown = ids[(ids < 0) | (ids >= len(graph))]
    if len(unknown) or (graph.roots(ids) != ids).any():
        raise PassError(
            f"{len(unknown) or int((graph.roots(ids) != ids).sum())} of {len(ids)} channels to remove are no classes of "
            "this graph",
            next_step="take roots out of its components()",
        )
    stuck = removed & graph.fixed_roots()
    if stuck:
        blocked = ", ".join(f"{name} ({why})" for name, why in list(graph.blocked.items())[:3])
        raise PassError(
            f"{len(stuck)} of {len(ids)} channels to remove are inputs, outputs or blocked"
            + (f" by {blocked}" if blocked else ""),
            next_step="take roots out of the graph's components()",
        )
    for item in graph.layers:
        for what, ids in (("read", item.in_ids), ("make", item.out_ids)):
            if removed and len(ids) and not len(graph.kept(ids, removed)):
                raise PassError(
                    f"layer {item.name!r} would {what} none of its {len(ids)} channels",
                    next_step="keep one of every layer",
                )


def fitting_wiring(model: Any, graph: ChannelGraph) -> Wiring:
    """The wiring of `model`, which may be a copy of the graph's own. Raises PassError where it is built differently."""
    wiring = open_wiring(model)
    mine, theirs = ([(c.name, type(c.op)) for c in w.calls] for w in (graph.wiring, wiring))
    if mine != theirs:
        raise PassError(
            "the channel graph was made from another network", next_step="follow_channels(model) again"
        )
    return wiring
