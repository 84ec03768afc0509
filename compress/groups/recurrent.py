"""How channels run through SimpleRNN, GRU, LSTM and Bidirectional: a unit is coupled over all gates and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.groups.activations import mixes_channels
from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace, WeightedLayer, WeightIds
from compress.groups.wiring import Call

GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


def follow_recurrent(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> list[Trace]:
    """One layer: outputs, then its states where it returns them. Initial states are joined with the units."""
    layer = call.op
    out_ids = _add_units(graph, call, layer, traces)
    for state in _states(graph, call, traces):
        graph.join(state.ids, out_ids)
    graph.edit(call, [out_ids], lambda config, keep: config.update(units=len(keep)))
    return [Trace(len(t.shape) - 1, out_ids) for t in call.outputs]


def follow_bidirectional(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> list[Trace]:
    """Both directions keep the same units (Keras wants them equally many), whatever they are merged by."""
    layer = call.op
    if _states(graph, call, traces):
        raise BlockedError("initial states of both directions are not followed")
    both = [layer.forward_layer, layer.backward_layer]
    if any(type(one).__name__ not in GATES for one in both):
        raise BlockedError(f"it wraps a {type(both[0]).__name__}, which is not followed")
    forward, backward = (_add_units(graph, call, one, traces) for one in both)
    graph.join(forward, backward)

    def shrink(config: dict[str, Any], keep: Ids) -> None:
        for key in ("layer", "backward_layer"):
            config[key]["config"]["units"] = len(keep)

    graph.edit(call, [forward], shrink)
    merged = np.concatenate([forward, backward]) if layer.merge_mode == "concat" else forward
    return [Trace(len(t.shape) - 1, merged if t.shape[-1] == len(merged) else forward) for t in call.outputs]


def _states(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> list[Trace]:
    """The initial states among the inputs; the rest, a mask over the steps, must not depend on channels."""
    given = call.kwargs.get("initial_state", call.args[1] if len(call.args) > 1 else None)
    states = {id(t) for t in (given if isinstance(given, (list, tuple)) else [given])}
    found: list[Trace] = []
    for tensor, trace in list(zip(call.inputs, traces, strict=True))[1:]:
        if id(tensor) in states:
            found.append(trace)
        elif not trace.whole:
            raise BlockedError("its mask depends on channels")
    return found


def _add_units(graph: ChannelGraph, call: Call, layer: Any, traces: Sequence[Trace]) -> Ids:
    """Gates lie side by side in every weight: kernel (in, gates * units), recurrent kernel (units, gates * units), bias
    (gates * units,) or, of a GRU that resets after, (2, gates * units).
    """
    trace, tensor = traces[0], call.inputs[0]
    if trace.axis != len(tensor.shape) - 1:
        raise BlockedError("it runs along the axis of the channels")
    if mixes_channels(layer.activation) or mixes_channels(getattr(layer, "recurrent_activation", None)):
        raise BlockedError("its activation looks at all units together")
    out_ids = graph.new_ids(int(layer.units))
    gates = np.tile(out_ids, GATES[type(layer).__name__])
    steps, cell = int(tensor.shape[1] or 1), layer.cell
    weights = [
        WeightIds(cell.kernel, (trace.ids, gates), steps, reads=0, makes=1),
        WeightIds(cell.recurrent_kernel, (out_ids, gates), steps, reads=0, makes=1),
    ]
    if cell.bias is not None:
        weights.append(WeightIds(cell.bias, (*[None] * (len(cell.bias.shape) - 1), gates)))
    graph.add(call, WeightedLayer(layer, "recurrent", trace.ids, out_ids, tuple(weights)))
    return out_ids
