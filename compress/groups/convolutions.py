"""How channels run through convolutions and dense layers of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.groups.activations import mixes_channels
from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace, WeightedLayer, WeightIds
from compress.groups.wiring import Call


def positions(tensor: Any) -> int:
    """Known positions of one example: all axes but the batch and the last."""
    return int(np.prod([d for d in tensor.shape[1:-1] if d] or [1]))


def follow_dense(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    kernel = call.op.kernel
    trace, output = traces[0], call.outputs[0]
    if trace.axis != len(call.inputs[0].shape) - 1:
        size = int(np.prod(kernel.shape))
        return _across(graph, call, trace, size * positions(output) // len(trace.ids))
    _refuse_quantized(call)
    out_ids = graph.new_ids(int(kernel.shape[-1]))
    weights = [WeightIds(kernel, (trace.ids, out_ids), positions(output), reads=0, makes=1)]
    _add_maker(graph, call, "dense", trace.ids, out_ids, weights, key="units")
    return Trace(len(output.shape) - 1, out_ids)


def follow_conv(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    layer, trace, output = call.op, traces[0], call.outputs[0]
    _need_last_axis(call, trace)
    _refuse_quantized(call)
    groups, in_ids = int(layer.groups), trace.ids
    if groups > 1 and groups == len(in_ids):  # a depthwise convolution under another name: whole groups go
        return _follow_depthwise_groups(graph, call, trace)
    kernel = layer.kernel
    out_ids = graph.new_ids(int(kernel.shape[-1]))
    if groups > 1:  # every group keeps as many, at the same places
        for ids in (in_ids, out_ids):
            _join_rows(graph, ids.reshape(groups, -1))
    read = in_ids[: len(in_ids) // groups]
    axes = (*[None] * (len(kernel.shape) - 2), read, out_ids)
    last = len(kernel.shape) - 1
    weights = [WeightIds(kernel, axes, positions(output), reads=last - 1, makes=last)]
    kind = "grouped" if groups > 1 else "dense"
    _add_maker(graph, call, kind, in_ids, out_ids, weights, key="filters")
    return Trace(len(output.shape) - 1, out_ids)


def follow_transposed(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    layer, trace, output = call.op, traces[0], call.outputs[0]
    _need_last_axis(call, trace)
    if getattr(layer, "groups", 1) != 1:
        raise BlockedError("transposed convolutions in groups are not followed")
    kernel = layer.kernel  # (..., out, in), laid at every cell of the input
    out_ids = graph.new_ids(int(kernel.shape[-2]))
    axes = (*[None] * (len(kernel.shape) - 2), out_ids, trace.ids)
    last = len(kernel.shape) - 1
    weights = [WeightIds(kernel, axes, positions(call.inputs[0]), reads=last, makes=last - 1)]
    _add_maker(graph, call, "transposed", trace.ids, out_ids, weights, key="filters")
    return Trace(len(output.shape) - 1, out_ids)


def follow_depthwise(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    _need_last_axis(call, traces[0])
    out_ids = _add_depthwise(graph, call, traces[0].ids, call.op.kernel, call.op.bias)
    if mixes_channels(call.op.activation):
        graph.hold(call, out_ids, "its activation looks at all channels together")
    return Trace(len(call.outputs[0].shape) - 1, out_ids)


def follow_separable(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    layer, trace, output = call.op, traces[0], call.outputs[0]
    _need_last_axis(call, trace)
    between = _add_depthwise(graph, call, trace.ids, layer.depthwise_kernel, None)
    kernel = layer.pointwise_kernel
    out_ids = graph.new_ids(int(kernel.shape[-1]))
    axes = (*[None] * (len(kernel.shape) - 2), between, out_ids)
    last = len(kernel.shape) - 1
    weights = [WeightIds(kernel, axes, positions(output), reads=last - 1, makes=last)]
    _add_maker(graph, call, "separable", between, out_ids, weights, key="filters")
    return Trace(len(output.shape) - 1, out_ids)


def follow_einsum(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """EinsumDense: the channels' letter is summed over or passed on; the first new letter is that of new channels, so that
    of (heads, size) heads go whole.
    """
    layer, trace, output = call.op, traces[0], call.outputs[0]
    _refuse_quantized(call)
    given, made = layer.equation.replace(" ", "").split("->")
    data, kernel = given.split(",")
    rank, out_rank = len(call.inputs[0].shape), len(output.shape)
    free = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if "..." in data:
        dots = "".join(next(free) for _ in range(rank - len(data) + 3))
        data, made = data.replace("...", dots), made.replace("...", dots)
    letter = data[trace.axis]
    if letter in made:
        if letter in kernel and not trace.whole:
            raise BlockedError("its kernel scales the channels one by one, with other axes")
        moved = Trace(made.index(letter), trace.ids, trace.whole)
        others = data.replace(letter, "")
        return _across(
            graph, call, moved, _uses(call, others, data, kernel) * int(np.prod(layer.kernel.shape))
        )
    new = [x for x in kernel if x in made and x not in data]
    if not new or letter not in kernel:
        raise BlockedError(f"its equation {layer.equation} does not make one axis of channels out of another")
    out_ids = graph.new_ids(int(layer.kernel.shape[kernel.index(new[0])]))
    axes = tuple(trace.ids if x == letter else out_ids if x == new[0] else None for x in kernel)
    uses = _uses(call, data, data, kernel)
    weights = [WeightIds(layer.kernel, axes, uses, kernel.index(letter), kernel.index(new[0]))]
    if layer.bias is not None:
        letters = made[out_rank - len(layer.bias.shape) :]
        weights.append(WeightIds(layer.bias, tuple(out_ids if x == new[0] else None for x in letters)))
    at = made.index(new[0])

    def shrink(config: dict[str, Any], keep: Ids) -> None:
        shape = list(np.atleast_1d(np.array(config["output_shape"], object)))
        shape[at - out_rank] = len(keep)
        config["output_shape"] = shape

    graph.edit(call, [out_ids], shrink)
    graph.add(call, WeightedLayer(layer, "einsum", trace.ids, out_ids, tuple(weights)))
    _hold_mixed(graph, call, out_ids)
    return Trace(at, out_ids)


def _uses(call: Call, letters: str, data: str, kernel: str) -> int:
    """How often an EinsumDense uses each weight: positions along those `letters` that its kernel does not have."""
    sizes = zip(data, call.inputs[0].shape, strict=True)
    return int(np.prod([d for x, d in sizes if d and x in letters and x not in kernel] or [1]))


def follow_embedding(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    layer = call.op
    _refuse_quantized(call)
    out_ids = graph.new_ids(int(layer.output_dim))
    weights = (WeightIds(layer.embeddings, (None, out_ids), makes=1),)
    graph.edit(call, [out_ids], lambda config, keep: config.update(output_dim=len(keep)))
    graph.add(call, WeightedLayer(layer, "embedding", traces[0].ids[:0], out_ids, weights))
    return Trace(len(call.outputs[0].shape) - 1, out_ids)


def _follow_depthwise_groups(graph: ChannelGraph, call: Call, trace: Trace) -> Trace:
    layer, output, in_ids = call.op, call.outputs[0], trace.ids
    out_ids = np.repeat(in_ids, layer.filters // len(in_ids))
    axes = (*[None] * (len(layer.kernel.shape) - 1), out_ids)
    weights = [WeightIds(layer.kernel, axes, positions(output))]
    if layer.bias is not None:
        weights.append(WeightIds(layer.bias, (out_ids,)))

    def shrink(config: dict[str, Any], kept_in: Ids, kept_out: Ids) -> None:
        config.update(groups=len(kept_in), filters=len(kept_out))

    graph.edit(call, [in_ids, out_ids], shrink)
    graph.add(call, WeightedLayer(layer, "depthwise", in_ids, out_ids, tuple(weights)))
    _hold_mixed(graph, call, out_ids)
    return Trace(len(output.shape) - 1, out_ids)


def _add_depthwise(graph: ChannelGraph, call: Call, in_ids: Ids, kernel: Any, bias: Any) -> Ids:
    """Add a kernel (..., channels, multiplier); the channels that come out: each one's copies side by side."""
    out_ids = np.repeat(in_ids, int(kernel.shape[-1]))
    axes = (*[None] * (len(kernel.shape) - 2), in_ids, None)
    weights = [WeightIds(kernel, axes, positions(call.outputs[0]))]
    if bias is not None:
        weights.append(WeightIds(bias, (out_ids,)))
    graph.add(call, WeightedLayer(call.op, "depthwise", in_ids, out_ids, tuple(weights)))
    return out_ids


def _add_maker(
    graph: ChannelGraph,
    call: Call,
    kind: str,
    in_ids: Ids,
    out_ids: Ids,
    weights: list[WeightIds],
    *,
    key: str,
) -> None:
    """Add a layer that makes `out_ids` and whose configuration says under `key` how many there are."""
    if call.op.bias is not None:
        weights.append(WeightIds(call.op.bias, (out_ids,)))
    graph.edit(call, [out_ids], lambda config, keep: config.update({key: len(keep)}))
    graph.add(call, WeightedLayer(call.op, kind, in_ids, out_ids, tuple(weights)))
    _hold_mixed(graph, call, out_ids)


def _across(graph: ChannelGraph, call: Call, trace: Trace, macs: int) -> Trace:
    """A dense layer along another axis than the channels': nothing of it shrinks, but fewer channels cost less."""
    # the weights stay whole, also where the same layer is called along the channels elsewhere
    fixed = [WeightIds(w, tuple(graph.new_ids(int(d), fixed=True) for d in w.shape)) for w in call.op.weights]
    graph.add(call, WeightedLayer(call.op, "across", trace.ids, trace.ids, tuple(fixed), channel_macs=macs))
    return trace


def _hold_mixed(graph: ChannelGraph, call: Call, ids: Ids) -> None:
    # an activation that mixes channels, as softmax does, is no element-wise one: all of its channels stay
    if mixes_channels(call.op.activation):
        graph.hold(call, ids, "its activation looks at all channels together")


def _join_rows(graph: ChannelGraph, grid: Ids) -> None:
    for row in grid[1:]:
        graph.join(grid[0], row)


def _need_last_axis(call: Call, trace: Trace) -> None:
    if trace.axis != len(call.inputs[0].shape) - 1:
        raise BlockedError("it slides over the axis of the channels")


def _refuse_quantized(call: Call) -> None:
    if getattr(call.op, "quantization_mode", None) is not None:
        raise BlockedError("its weights are quantised already")
