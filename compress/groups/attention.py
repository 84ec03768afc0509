"""How channels run through MultiHeadAttention: heads go whole, and what it reads and gives back are channels too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace, WeightedLayer, WeightIds
from compress.groups.convolutions import positions
from compress.groups.wiring import Call

_READ = ("query", "value", "key")


def follow_attention(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Kernels of query, key and value are (in, heads, size), that of the output is (heads, size, out)."""
    layer, output = call.op, call.outputs[0]
    if len(call.outputs) > 1:
        raise BlockedError("it returns its scores, which have an axis of heads")
    if getattr(layer, "_use_gate", False):
        raise BlockedError("its gate is not followed")
    given = _tensors_by_name(call)
    by_tensor = {id(t): trace for t, trace in zip(call.inputs, traces, strict=True)}
    if any(by_tensor[id(t)].axis != len(t.shape) - 1 for t in given.values()):
        raise BlockedError("it looks along the axis of the channels")
    read = {name: by_tensor[id(tensor)].ids for name, tensor in given.items()}
    last = layer._output_dense
    if len(last.kernel.shape) != 3:
        raise BlockedError("its output has more than one axis")
    mask = [t for t in call.inputs if not any(t is x for x in given.values())]
    if any(not by_tensor[id(t)].whole for t in mask):
        raise BlockedError("its mask depends on channels")
    heads = graph.new_ids(int(layer.num_heads))
    denses = {
        "query": layer._query_dense,
        "key": layer._key_dense,
        "value": layer._value_dense,
    }
    uses = {name: positions(tensor) for name, tensor in given.items()}
    weights = []
    for name, dense in denses.items():
        weights.append(WeightIds(dense.kernel, (read[name], heads, None), uses[name], reads=0, makes=1))
        if dense.bias is not None:
            weights.append(WeightIds(dense.bias, (heads, None)))
    # every position against every other one, once for the scores and once for the sum of values
    seen = layer._attention_axes or range(1, len(given["key"].shape) - 1)
    against = int(np.prod([given["key"].shape[axis] or 1 for axis in seen]))
    pairs = uses["query"] * against * (int(layer.key_dim) + int(layer.value_dim))
    graph.add(call, WeightedLayer(layer, "heads", read["query"], heads, tuple(weights), channel_macs=pairs))
    out_ids = graph.new_ids(int(last.kernel.shape[-1]))
    projection = [WeightIds(last.kernel, (heads, None, out_ids), positions(output), reads=0, makes=2)]
    if last.bias is not None:
        projection.append(WeightIds(last.bias, (out_ids,)))
    graph.add(call, WeightedLayer(layer, "projection", heads, out_ids, tuple(projection)))

    def shrink(config: dict[str, Any], kept_heads: Ids, kept_out: Ids) -> None:
        config.update(num_heads=len(kept_heads), output_shape=(len(kept_out),))

    graph.edit(call, [heads, out_ids], shrink)
    return Trace(len(output.shape) - 1, out_ids)


def _tensors_by_name(call: Call) -> dict[str, Any]:
    """query, value and key as MultiHeadAttention.call takes them; the key is the value where none is given."""
    given = dict(zip(_READ, call.args, strict=False))
    given.update({name: call.kwargs[name] for name in _READ if name in call.kwargs})
    if given.get("key") is None:
        given["key"] = given["value"]
    return given
