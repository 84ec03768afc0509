"""How channels run through what works element by element, and through concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress.groups.activations import mixes_channels
from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace
from compress.groups.wiring import Call


def pass_on(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    return traces[0]


def follow_clip(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    if np.ndim(call.op.x_min) or np.ndim(call.op.x_max):
        raise BlockedError("its limits are arrays")
    return traces[0]


def follow_activation(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Activation layers: one that mixes does so along the last axis."""
    trace = traces[0]
    if trace.axis == len(call.inputs[0].shape) - 1 and mixes_channels(call.op.activation):
        graph.hold(call, trace.ids, "it looks at all channels together")
    return trace


def follow_softmax(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Softmax and its like, as layer or operation, with an `axis`: harmless along another axis than the channels'."""
    trace, rank = traces[0], len(call.inputs[0].shape)
    axes = np.atleast_1d(np.array(call.op.axis if call.op.axis is not None else range(rank), int))
    if trace.axis in {int(axis) % rank for axis in axes}:
        graph.hold(call, trace.ids, "it looks at all channels together")
    return trace


def follow_elementwise(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Sums, products and the like of tensors and constants, broadcast from the last axis on as NumPy does."""
    rank = len(call.outputs[0].shape)
    from_right = _common_axis(call, traces, [len(t.shape) for t in call.inputs])
    size = call.outputs[0].shape[from_right]
    constants = _constants(call, -from_right, size)
    columns: list[Ids] = []
    narrow: list[Ids] = []
    for trace, tensor in zip(traces, call.inputs, strict=True):
        at = len(tensor.shape) + from_right
        if at < 0 or tensor.shape[at] == 1 != size:
            # broadcast over all channels: the one that there is must stay
            if not trace.whole and trace.axis == at:
                narrow.append(trace.ids)
        elif trace.axis == at:
            columns.append(trace.ids)
        else:
            columns.append(graph.whole(tensor, at).ids)
    if not columns or len({len(ids) for ids in columns}) != 1:
        raise BlockedError("its inputs have different numbers of channels")
    for ids in narrow:
        graph.fix(ids)
    for ids in columns[1:]:
        graph.join(columns[0], ids)
    if constants:
        graph.edit_call(call, columns[0], _shrink_constants(constants, from_right))
    return Trace(rank + from_right, columns[0])


def follow_concatenate(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    ranks = [len(t.shape) for t in call.inputs]
    at = call.op.axis % ranks[0]
    from_right = _common_axis(call, traces, ranks)
    axis = ranks[0] + from_right
    columns = [
        trace.ids if trace.axis == axis else graph.whole(tensor, axis).ids
        for trace, tensor in zip(traces, call.inputs, strict=True)
    ]
    if at == axis:
        return Trace(axis, np.concatenate(columns))
    for ids in columns[1:]:
        graph.join(columns[0], ids)
    return Trace(axis, columns[0])


def _common_axis(call: Call, traces: Sequence[Trace], ranks: Sequence[int]) -> int:
    """The axis of the channels, counted from the right (negative): of all inputs whose channels may go."""
    axes = {
        t.axis - rank for t, rank in zip(traces, ranks, strict=True) if not t.whole and _varies(call, t, rank)
    }
    if len(axes) > 1:
        raise BlockedError("its inputs have their channels on different axes")
    return axes.pop() if axes else -1


def _varies(call: Call, trace: Trace, rank: int) -> bool:
    return len(trace.ids) > 1 or call.outputs[0].shape[trace.axis - rank] == 1


def _constants(call: Call, from_right: int, size: int | None) -> list[int | str]:
    """Where among the arguments a constant has a number for each channel: it has to shrink with them."""
    import keras

    found: list[int | str] = []
    named: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.kwargs.items()]
    for place, value in named:
        if any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(value)):
            continue
        shape = np.shape(value)
        if len(shape) >= from_right and shape[-from_right] == size != 1:
            if isinstance(value, keras.Variable):
                raise BlockedError("a variable that is no layer's meets the channels")
            found.append(place)
    return found


def _shrink_constants(
    places: Sequence[int | str], axis: int
) -> Callable[[list[Any], dict[str, Any], Ids], None]:
    def shrink(args: list[Any], kwargs: dict[str, Any], keep: Ids) -> None:
        for place in places:
            if isinstance(place, int):
                args[place] = np.take(np.asarray(args[place]), keep, axis=axis)
            else:
                kwargs[place] = np.take(np.asarray(kwargs[place]), keep, axis=axis)

    return shrink
