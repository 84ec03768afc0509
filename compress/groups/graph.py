"""Which channels of a functional Keras model belong together, found by following each channel through the graph."""

from __future__ import annotations

from typing import Any

from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace, WeightedLayer, WeightIds
from compress.groups.handlers import find_handler, has_constants, makes_channels
from compress.groups.unfollowed import macs_of_call, why_unknown
from compress.groups.wiring import Call, open_wiring
from edgeai.errors import PassError

__all__ = ["ChannelGraph", "Ids", "Trace", "WeightIds", "WeightedLayer", "follow_channels"]


def follow_channels(model: Any, *, through_norms: bool = False) -> ChannelGraph:
    """Build the graph of a functional or sequential Keras model, models inside it included. The model is left as it is.

    What cannot be followed keeps all its channels and is named in `blocked`, with the reason. through_norms: also follow
    channels through norms whose statistics run over all of them (see compress.groups.norms): the removal then changes what
    the others say, and `inexact` holds those channels.
    Raises PassError for a model that is not functional or has its channels first.
    """
    wiring = open_wiring(model)
    for call in wiring.calls:
        if _channels_first(call.op):
            raise PassError(
                f"layer {call.name!r} has its channels first", next_step="build the network channels_last"
            )
    import keras

    graph = ChannelGraph(wiring, through_norms=through_norms)
    known: dict[int, Trace] = {id(t): graph.whole(t) for t in keras.tree.flatten(wiring.inputs)}
    for call in wiring.calls:
        made = _follow(graph, call, [known[id(t)] for t in call.inputs])
        known.update({id(t): trace for t, trace in zip(call.outputs, made, strict=True)})
    for output in keras.tree.flatten(wiring.outputs):
        graph.fix(known[id(output)].ids)
    graph.name_blocked()
    return graph


def _channels_first(operation: Any) -> bool:
    inner = getattr(operation, "layer", None)
    return "channels_first" in (getattr(operation, "data_format", None), getattr(inner, "data_format", None))


def _follow(graph: ChannelGraph, call: Call, traces: list[Trace]) -> list[Trace]:
    """What the outputs of one call carry."""
    handle = find_handler(call.op)
    if call.name in graph.stopped:
        return _stop(graph, call, traces, graph.stopped[call.name])
    if handle is None or (all(t.whole for t in traces) and not makes_channels(call.op)):
        return _stop(graph, call, traces, why_unknown(call.op))
    try:
        made = handle(graph, call, traces)
    except BlockedError as error:
        return _stop(graph, call, traces, str(error))
    return made if isinstance(made, list) else [made] * len(call.outputs)


def _stop(graph: ChannelGraph, call: Call, traces: list[Trace], why: str) -> list[Trace]:
    graph.fixed_macs += macs_of_call(call)
    if getattr(call.op, "weights", ()) or has_constants(call.op):
        graph.stopped.setdefault(call.name, "in another call its channels cannot go")
    for trace in traces:
        if not trace.whole:
            graph.hold(call, trace.ids, why)
    for ids in graph.ids_of(call.name):  # other calls of it, which share its weights and constants
        graph.hold(call, ids, why)
    return [graph.whole(tensor) for tensor in call.outputs]
