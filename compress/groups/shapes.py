"""How channels run through what moves, cuts, joins and reduces axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace
from compress.groups.wiring import Call


def follow_spatial(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Pooling, padding, cropping, up-sampling: all axes between batch and channels, which stay last."""
    if traces[0].axis != len(call.inputs[0].shape) - 1:
        raise BlockedError("it works along the axis of the channels")
    return Trace(len(call.outputs[0].shape) - 1, traces[0].ids)


def follow_repeat_vector(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    return Trace(2, traces[0].ids)


def follow_permute(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """The layer: axes counted from 1, the batch not among them."""
    return Trace(1 + list(call.op.dims).index(traces[0].axis), traces[0].ids)


def follow_transpose(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """The operation: all axes, the batch among them."""
    rank = len(call.inputs[0].shape)
    axes = list(call.op.axes) if call.op.axes is not None else list(range(rank))[::-1]
    at = [axis % rank for axis in axes].index(traces[0].axis)
    return _not_batch(Trace(at, traces[0].ids))


def follow_swapaxes(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    rank = len(call.inputs[0].shape)
    one, other = call.op.axis1 % rank, call.op.axis2 % rank
    return _not_batch(Trace({one: other, other: one}.get(traces[0].axis, traces[0].axis), traces[0].ids))


def follow_expand(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    rank = len(call.outputs[0].shape)
    new = {int(a) % rank for a in np.atleast_1d(call.op.axis)}
    old = [axis for axis in range(rank) if axis not in new]
    return _not_batch(Trace(old[traces[0].axis], traces[0].ids))


def follow_squeeze(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    shape, axis = call.inputs[0].shape, call.op.axis
    gone = (
        {i for i, d in enumerate(shape) if d == 1}
        if axis is None
        else {int(a) % len(shape) for a in np.atleast_1d(axis)}
    )
    if traces[0].axis in gone:
        raise BlockedError("it drops the axis of a single channel")
    if axis is None and len(traces[0].ids) > 1:
        raise BlockedError("it drops every axis of length 1, which may become the channels'")
    return _not_batch(
        Trace([i for i in range(len(shape)) if i not in gone].index(traces[0].axis), traces[0].ids)
    )


def follow_reduction(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Mean, sum, maximum and the like: along other axes than the channels'."""
    rank, trace = len(call.inputs[0].shape), traces[0]
    axis = call.op.axis
    gone = set(range(rank)) if axis is None else {int(a) % rank for a in np.atleast_1d(axis)}
    if trace.axis in gone:
        raise BlockedError("it sums up all channels")
    if getattr(call.op, "keepdims", False):
        return trace
    return _not_batch(Trace([i for i in range(rank) if i not in gone].index(trace.axis), trace.ids))


def follow_pad(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """keras.ops.pad: anything but the channels."""
    widths = list(call.op.pad_width)
    widths = widths * len(call.inputs[0].shape) if len(widths) == 1 else widths
    if any(np.ravel(widths[traces[0].axis])):
        raise BlockedError("it adds channels that no layer makes")
    return traces[0]


def follow_item(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """tensor[...]: slices and numbers; of the channels a slice of step 1, whose ends then move."""
    trace, rank = traces[0], len(call.inputs[0].shape)
    key = call.kwargs.get("key", call.args[1] if len(call.args) > 1 else None)
    parts = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(part is not Ellipsis and not isinstance(part, (slice, int, type(None))) for part in parts):
        raise BlockedError("it picks by another tensor")
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    at = parts.index(Ellipsis)
    parts[at : at + 1] = [slice(None)] * (rank - taken)
    # a new axis (None) reads none, a number gives none
    place = [n for n, part in enumerate(parts) if part is not None][trace.axis]
    out_axis = sum(not isinstance(part, int) for part in parts[:place])
    part = parts[place]
    if isinstance(part, int) or part.step not in (None, 1):
        raise BlockedError("it picks single channels")
    if not all(isinstance(end, (int, type(None))) for end in (part.start, part.stop)):
        raise BlockedError("it picks by another tensor")
    start, stop, _ = part.indices(len(trace.ids))
    if (start, stop) != (0, len(trace.ids)):

        def move(args: list[Any], kwargs: dict[str, Any], keep: Ids) -> None:
            low, high = int((keep < start).sum()), int((keep < stop).sum())
            moved = (*parts[:place], slice(low, high), *parts[place + 1 :])
            if "key" in kwargs:
                kwargs["key"] = moved
            else:
                args[1] = moved

        graph.edit_call(call, trace.ids, move)
    return _not_batch(Trace(out_axis, trace.ids[start:stop]))


def follow_split(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> list[Trace]:
    """keras.ops.split: along the channels the places of the cuts move."""
    trace, rank = traces[0], len(call.inputs[0].shape)
    if call.op.axis % rank != trace.axis:
        return [trace] * len(call.outputs)
    widths = [int(t.shape[trace.axis]) for t in call.outputs]
    cuts = np.cumsum(widths)[:-1]

    def move(config: dict[str, Any], keep: Ids) -> None:
        config["indices_or_sections"] = [int((keep < cut).sum()) for cut in cuts]

    graph.edit(call, [trace.ids], move)
    return [Trace(trace.axis, ids) for ids in np.split(trace.ids, cuts)]


def follow_flatten(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    return _reshaped(graph, call, traces[0], None)


def follow_reshape(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """The layer: its target shape is a constant that follows the channels."""

    def shrink(config: dict[str, Any], axis: int, size: int) -> None:
        target = list(config["target_shape"])
        if target[axis - 1] != -1:
            target[axis - 1] = size
        config["target_shape"] = tuple(target)

    return _reshaped(graph, call, traces[0], shrink)


def follow_reshape_op(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """The operation: its new shape holds the batch too."""

    def shrink(config: dict[str, Any], axis: int, size: int) -> None:
        shape = list(config["newshape"])
        if shape[axis] != -1:
            shape[axis] = size
        config["newshape"] = tuple(shape)

    return _reshaped(graph, call, traces[0], shrink)


def _reshaped(
    graph: ChannelGraph, call: Call, trace: Trace, shrink: Callable[[dict[str, Any], int, int], None] | None
) -> Trace:
    """Row-major order decides where the channels are afterwards. Strides are counted in elements of one example.

    An axis that holds them whole repeats them; where they fall apart into several axes the longest carries them, and what
    meets on it goes together.
    """
    source, target = call.inputs[0].shape, call.outputs[0].shape
    right = _product(source[trace.axis + 1 :])
    count = len(trace.ids)
    if right is None:
        raise BlockedError("it needs all sizes after the channels, and one is not known")
    stride, parts = 1, []
    for axis in range(len(target) - 1, 0, -1):
        size = target[axis]
        if (
            size is None
        ):  # of unknown length: what is left of it does not matter if the channels are found already
            break
        if stride <= right and right % stride == 0 and (stride * size) % (right * count) == 0:
            ids = np.tile(np.repeat(trace.ids, right // stride), stride * size // (right * count))
            _edit_shape(graph, call, axis, ids, shrink)
            return Trace(axis, ids)
        if right <= stride < right * count and (right * count) % (stride * size) == 0 and stride % right == 0:
            parts.append((axis, size, stride // right))
        stride *= size
    if not parts or int(np.prod([size for _, size, _ in parts])) != count:
        raise BlockedError("its target shape mixes channels with positions")
    axis, size, inner = max(parts, key=lambda part: part[1])
    grid = np.moveaxis(trace.ids.reshape(-1, size, inner), 1, 2).reshape(-1, size)
    for row in grid[1:]:
        graph.join(grid[0], row)
    _edit_shape(graph, call, axis, grid[0], shrink)
    return Trace(axis, grid[0])


def _edit_shape(
    graph: ChannelGraph,
    call: Call,
    axis: int,
    ids: Ids,
    shrink: Callable[[dict[str, Any], int, int], None] | None,
) -> None:
    if shrink is not None:
        graph.edit(call, [ids], lambda config, keep: shrink(config, axis, len(keep)))


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if any(d is None for d in sizes) else int(np.prod([d for d in sizes if d is not None] or [1]))


def _not_batch(trace: Trace) -> Trace:
    if trace.axis == 0:
        raise BlockedError("it moves the channels to the place of the batch")
    return trace
