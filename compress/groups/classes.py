"""Identities of channels, joined into classes; the layers that use them; what a change of their number changes.

Every channel of every tensor carries an identity. What makes channels makes new identities, what works element by element
joins those that meet, concatenation lists them side by side, flattening repeats them. What is joined can only be removed
together. Idea: dependency graphs, as in DepGraph (Fang et al. 2023); the identities make it exact for any wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.wiring import Call, Wiring

Ids = NDArray[np.intp]


class BlockedError(Exception):
    """A handler cannot follow the channels; its message says why. Never leaves compress.groups."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The channels of a tensor: `ids` along `axis` (counted from 0, which is the batch).

    whole: none of them may go, and other axes may be looked at as channels as well (a model's input, an unknown result).
    """

    axis: int
    ids: Ids
    whole: bool = False


@dataclass(frozen=True, slots=True)
class WeightIds:
    """A variable of a layer: for each of its axes the channels along it, None where none run.

    uses: how often one inference multiplies with each of its numbers. reads: the axis that is summed over (the kernel's
    input channels). makes: the axis of the channels that the layer makes with it.
    """

    variable: Any
    axes: tuple[Ids | None, ...]
    uses: int = 0
    reads: int | None = None
    makes: int | None = None


@dataclass(frozen=True, slots=True)
class WeightedLayer:
    """A layer whose weights shrink. One that makes two kinds of channels (attention) stands in the graph twice.

    layer: the Keras layer (within TimeDistributed and Bidirectional: the inner one, or the first of both). name: of the call
    in the flat model. kind: what it is, from the table below. in_ids, out_ids: channel identities at its input and output.
    channel_macs: multiplications for each out_id that no weight accounts for.

    | kind | makes new channels | is |
    |---|---|---|
    | dense | yes | kernel (..., in, out): Dense, Conv1D to 3D |
    | grouped, transposed, separable, einsum, recurrent, embedding, distributed | yes | others: read them through filters() |
    | heads | yes | a class is a head of MultiHeadAttention |
    | projection | yes | what MultiHeadAttention gives back |
    | depthwise, norm, across | no | pass their channels on; "across" mixes positions and leaves channels alone |
    """

    layer: Any
    kind: str
    in_ids: Ids
    out_ids: Ids
    weights: tuple[WeightIds, ...] = ()
    channel_macs: int = 0
    name: str = ""

    @property
    def makes(self) -> bool:
        """Whether out_ids are new channels of this layer's own."""
        return any(w.makes is not None for w in self.weights)

    def filters(self) -> NDArray[np.float64]:
        """What makes each channel: (n, len(out_ids)), a column for each, biases left out; (0, len(out_ids)) of a layer
        that makes none. A recurrent layer's column holds all of its gates, a head's column its query, key and value.
        """
        order = np.argsort(self.out_ids, kind="stable")
        columns = [np.zeros((0, len(order)))]
        for weight in self.weights:
            ids = None if weight.makes is None else weight.axes[weight.makes]
            if ids is None:
                continue
            values = np.moveaxis(np.asarray(weight.variable.numpy(), np.float64), weight.makes or 0, -1)
            values = values.reshape(-1, len(ids))[:, np.argsort(ids, kind="stable")]
            values = values.reshape(len(values), len(order), -1).transpose(0, 2, 1).reshape(-1, len(order))
            columns.append(values[:, np.argsort(order, kind="stable")])
        return np.concatenate(columns)


@dataclass(frozen=True, slots=True)
class Edit:
    """A constant that follows the number of channels: `apply(config, *kept)` changes a layer's configuration in place,
    given the kept positions of each array of `ids`.
    """

    ids: tuple[Ids, ...]
    apply: Callable[..., None]


@dataclass
class ChannelGraph:
    """Identities joined into classes, the layers that use them, and what cannot be removed.

    layers: in the order of the network. blocked: layers that stopped channels from being removed, name to "Class: why".
    fixed_macs: multiplications of weighted layers that are not followed. inexact: ids that run through a norm over all
    channels, whose statistics a removal changes (only with through_norms). stopped: layers of which some call cannot be
    followed, so no call of theirs can, name to reason. weights: channels by (call's name, index in
    layer.weights).
    """

    wiring: Wiring
    through_norms: bool = False
    layers: list[WeightedLayer] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    fixed_macs: int = 0
    stopped: dict[str, str] = field(default_factory=dict)
    inexact: list[Ids] = field(default_factory=list)
    edits: dict[str, Edit] = field(default_factory=dict)
    call_edits: dict[int, Edit] = field(default_factory=dict)
    weights: dict[tuple[str, int], WeightIds] = field(default_factory=dict)
    _count: int = 0
    _labels: Ids = field(default_factory=lambda: np.zeros(0, np.intp))
    _pending: list[tuple[Ids, Ids]] = field(default_factory=list)
    _born_fixed: list[Ids] = field(default_factory=list)
    _held: list[tuple[str, str, Ids]] = field(default_factory=list)
    _by_variable: dict[int, WeightIds] = field(default_factory=dict)
    _by_layer: dict[tuple[int, str], int] = field(default_factory=dict)
    _mask: tuple[frozenset[int], NDArray[np.bool_]] | None = None

    def __len__(self) -> int:
        """How many identities there are."""
        return self._count

    def new_ids(self, count: int, *, fixed: bool = False) -> Ids:
        ids = np.arange(self._count, self._count + count, dtype=np.intp)
        self._count += count
        if fixed:
            self.fix(ids)
        return ids

    def whole(self, tensor: Any, axis: int | None = None) -> Trace:
        """New channels along `axis` (the last) of a tensor, none of which may go."""
        rank = len(tensor.shape)
        axis = max(rank - 1, 0) if axis is None else axis
        size = (tensor.shape[axis] if rank else 1) or 1
        return Trace(axis, self.new_ids(int(size), fixed=True), whole=True)

    def join(self, a: Ids, b: Ids) -> None:
        """Make `a[i]` and `b[i]` one class, for each i."""
        if len(a) != len(b):
            raise ValueError(f"{len(a)} channels cannot be joined with {len(b)}")
        self._pending.append((a, b))

    def roots(self, ids: Ids) -> Ids:
        """The class of each id: the smallest id in it."""
        self._settle()
        return self._labels[ids]

    def root(self, channel: int) -> int:
        return int(self.roots(np.array([channel], np.intp))[0])

    def _settle(self) -> None:
        """Connected components by hooking and pointer jumping (Shiloach & Vishkin 1982): whole arrays, no loop per id."""
        labels = self._labels
        if len(labels) < self._count:
            labels = np.concatenate([labels, np.arange(len(labels), self._count, dtype=np.intp)])
        if self._pending:
            a = np.concatenate([x for x, _ in self._pending])
            b = np.concatenate([y for _, y in self._pending])
            self._pending = []
            while len(a):
                a, b = labels[a], labels[b]
                apart = a != b
                a, b = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
                np.minimum.at(labels, b, a)
                while (labels != (up := labels[labels])).any():
                    labels = up
        self._labels = labels

    def kept(self, ids: Ids, removed: frozenset[int]) -> Ids:
        """Positions in `ids` of channels whose class is not in `removed`."""
        return np.flatnonzero(~self._gone(removed)[self.roots(ids)])

    def _gone(self, removed: frozenset[int]) -> NDArray[np.bool_]:
        if self._mask is None or self._mask[0] is not removed or len(self._mask[1]) != self._count:
            mask = np.zeros(self._count, np.bool_)
            mask[np.fromiter(removed, np.intp, len(removed))] = True
            self._mask = (removed, mask)
        return self._mask[1]

    def fix(self, ids: Ids) -> None:
        """None of these channels can go, and that needs no telling: inputs, outputs, results of blocked layers."""
        self._born_fixed.append(ids)

    def hold(self, call: Call, ids: Ids, why: str) -> None:
        """None of these channels can go because of this call: told in `blocked`, unless they could not go anyway."""
        self._held.append((call.name, f"{type(call.op).__name__}: {why}", ids))

    def fixed_roots(self) -> set[int]:
        every = [*self._born_fixed, *(ids for _, _, ids in self._held)]
        return set(np.unique(self.roots(np.concatenate(every))).tolist()) if every else set()

    def name_blocked(self) -> None:
        """Fill `blocked` once every join is known."""
        born = np.zeros(self._count, np.bool_)
        if self._born_fixed:
            born[self.roots(np.concatenate(self._born_fixed))] = True
        for name, why, ids in self._held:
            if not born[self.roots(ids)].all():
                self.blocked.setdefault(name, why)

    def components(self) -> list[Ids]:
        """Removable classes (roots), grouped: classes that leave one layer side by side are one component.

        A component holds none of a layer of which some channel cannot go.
        """
        made = [np.unique(self.roots(item.out_ids)) for item in self.layers if item.makes]
        if not made:
            return []
        side = ChannelGraph(self.wiring)
        side.new_ids(self._count)
        for roots in made:
            side.join(roots[1:], roots[:-1])
        every = np.unique(np.concatenate(made))
        fixed = np.zeros(self._count, np.bool_)
        fixed[np.fromiter(self.fixed_roots(), np.intp)] = True
        labels = side.roots(every)
        stuck = np.isin(labels, labels[fixed[every]])
        every, labels = every[~stuck], labels[~stuck]
        order = np.argsort(labels, kind="stable")
        starts = np.flatnonzero(np.diff(labels[order])) + 1
        return [part for part in np.split(every[order], starts) if len(part)]

    def add(self, call: Call, item: WeightedLayer) -> None:
        """Take in one call of a weighted layer. Called again, it is the same layer: its channels are joined with themselves."""
        for weight in item.weights:
            seen = self._by_variable.setdefault(id(weight.variable), weight)
            for one, other in zip(seen.axes, weight.axes, strict=True):
                if one is not None and other is not None:
                    self.join(one, other)
        for index, variable in enumerate(call.op.weights):
            if id(variable) in self._by_variable:
                self.weights[call.name, index] = self._by_variable[id(variable)]
        key = (id(item.layer), item.kind)
        at = self._by_layer.setdefault(key, len(self.layers))
        if at == len(self.layers):
            self.layers.append(replace(item, name=call.name))
            return
        first = self.layers[at]
        self.join(first.in_ids, item.in_ids)
        self.join(first.out_ids, item.out_ids)
        pairs = zip(first.weights, item.weights, strict=True)
        weights = tuple(replace(w, uses=w.uses + more.uses) for w, more in pairs)
        self.layers[at] = replace(first, weights=weights, channel_macs=first.channel_macs + item.channel_macs)

    def ids_of(self, name: str) -> list[Ids]:
        """All channels that the weights and constants of the layer of this name follow so far."""
        slots = [weight for (of, _), weight in self.weights.items() if of == name]
        found = [ids for weight in slots for ids in weight.axes if ids is not None]
        return found + list(self.edits[name].ids if name in self.edits else ())

    def edit(self, call: Call, ids: Sequence[Ids], apply: Callable[..., None]) -> None:
        """The operation's configuration follows these channels. Raises BlockedError where it was called with others."""
        before = self.edits.setdefault(call.name, Edit(tuple(ids), apply))
        if [len(x) for x in before.ids] != [len(x) for x in ids]:
            raise BlockedError("it is called several times, with channels that do not fit each other")
        for one, other in zip(before.ids, ids, strict=True):
            self.join(one, other)

    def edit_call(
        self, call: Call, ids: Ids, apply: Callable[[list[Any], dict[str, Any], Ids], None]
    ) -> None:
        """Arguments of this one call follow these channels: apply(args, kwargs, kept)."""
        self.call_edits[call.number] = Edit((ids,), apply)


Handler = Callable[[ChannelGraph, Call, Sequence[Trace]], "Trace | list[Trace]"]
HandlerTable = Mapping[str, Handler]
