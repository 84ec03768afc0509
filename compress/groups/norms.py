"""How channels run through normalisation and through constants of one number a channel.

A norm with statistics over all channels (LayerNormalization, RMSNormalization, UnitNormalization, GroupNormalization of a
single group) gives the others other values once a channel is gone: removing is not zeroing. Such a norm holds all of its
channels, unless the graph was asked to go `through_norms`: then they are marked inexact, and fine-tuning has to mend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.groups.classes import BlockedError, ChannelGraph, Ids, Trace, WeightedLayer, WeightIds
from compress.groups.wiring import Call

_OVER_ALL = "its statistics run over all channels together"


def follow_batch_norm(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    layer, trace = call.op, traces[0]
    if trace.axis in _axes(layer.axis, call):  # along another axis it leaves the channels alone
        _add_norm(graph, call, trace, [WeightIds(w, (trace.ids,)) for w in layer.weights])
    return trace


def follow_layer_norm(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """LayerNormalization and RMSNormalization: weights have the normalised axes, in their order."""
    layer, trace = call.op, traces[0]
    axes = sorted(_axes(layer.axis, call))
    if trace.axis in axes and _may_pass(graph, call, trace):
        ids = tuple(trace.ids if axis == trace.axis else None for axis in axes)
        _add_norm(graph, call, trace, [WeightIds(w, ids) for w in layer.weights])
    return trace


def follow_unit_norm(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    if traces[0].axis in _axes(call.op.axis, call):
        _may_pass(graph, call, traces[0])
    return traces[0]


def follow_group_norm(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Whole groups go: the statistics of the others do not change."""
    layer, trace = call.op, traces[0]
    channels = len(trace.ids)
    groups = channels if layer.groups == -1 else int(layer.groups)
    if trace.axis not in _axes(layer.axis, call) or groups == 1:
        if _may_pass(graph, call, trace) and trace.axis in _axes(layer.axis, call):
            _add_norm(graph, call, trace, [WeightIds(w, (trace.ids,)) for w in layer.weights])
        return trace
    each = channels // groups
    members = trace.ids.reshape(groups, each)
    for column in members.T[1:]:
        graph.join(members[:, 0], column)
    if layer.groups != -1:
        graph.edit(call, [members[:, 0]], lambda config, keep: config.update(groups=len(keep)))
    _add_norm(graph, call, trace, [WeightIds(w, (trace.ids,)) for w in layer.weights])
    return trace


def follow_prelu(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Slopes have the input's axes but the batch; shared ones have length 1."""
    trace, slopes = traces[0], call.op.alpha
    if slopes.shape[trace.axis - 1] == len(trace.ids) and trace.axis not in (call.op.shared_axes or ()):
        axes = tuple(trace.ids if axis == trace.axis - 1 else None for axis in range(len(slopes.shape)))
        _add_norm(graph, call, trace, [WeightIds(slopes, axes)])
    return trace


def follow_layer_scale(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """LayerScale of keras.applications.convnext: one gain a channel of the last axis."""
    trace = traces[0]
    if trace.axis == len(call.inputs[0].shape) - 1:
        graph.edit(call, [trace.ids], lambda config, keep: config.update(projection_dim=len(keep)))
        _add_norm(graph, call, trace, [WeightIds(call.op.gamma, (trace.ids,))])
    return trace


def follow_rescaling(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    layer, trace = call.op, traces[0]
    axis = trace.axis - len(call.inputs[0].shape)
    keys = [key for key in ("scale", "offset") if _has_channels(getattr(layer, key), axis, len(trace.ids))]
    if keys:
        graph.edit(call, [trace.ids], lambda config, keep: _take(config, keys, keep, axis))
    return trace


def follow_normalization(graph: ChannelGraph, call: Call, traces: Sequence[Trace]) -> Trace:
    """Normalization: constants given or adapted, one number for each place along its axes."""
    layer, trace = call.op, traces[0]
    axes = sorted(_axes(layer.axis, call))
    if trace.axis not in axes:
        return trace
    if layer.input_mean is None:
        ids = tuple(trace.ids if axis == trace.axis else None for axis in axes)
        _add_norm(graph, call, trace, [WeightIds(w, ids) for w in (layer.adapt_mean, layer.adapt_variance)])
        return trace
    at = axes.index(trace.axis) - len(axes)
    keys = [key for key in ("mean", "variance") if _has_channels(layer.get_config()[key], at, len(trace.ids))]
    if keys:
        graph.edit(call, [trace.ids], lambda config, keep: _take(config, keys, keep, at))
    return trace


def _axes(axis: Any, call: Call) -> set[int]:
    rank = len(call.inputs[0].shape)
    return {int(a) % rank for a in np.atleast_1d(np.array(axis if axis is not None else [], int))}


def _may_pass(graph: ChannelGraph, call: Call, trace: Trace) -> bool:
    if graph.through_norms:
        graph.inexact.append(trace.ids)
        return True
    graph.hold(call, trace.ids, _OVER_ALL)
    return False


def _add_norm(graph: ChannelGraph, call: Call, trace: Trace, weights: list[WeightIds]) -> None:
    if any(w.variable.shape[i] != len(x) for w in weights for i, x in enumerate(w.axes) if x is not None):
        raise BlockedError("it has another number of weights than channels")
    graph.add(call, WeightedLayer(call.op, "norm", trace.ids, trace.ids, tuple(weights)))


def _has_channels(constant: Any, axis: int, count: int) -> bool:
    shape = np.shape(constant)
    return len(shape) >= -axis and shape[axis] == count != 1


def _take(config: dict[str, Any], keys: Sequence[str], keep: Ids, axis: int) -> None:
    for key in keys:
        config[key] = np.take(np.asarray(config[key]), keep, axis=axis).tolist()
