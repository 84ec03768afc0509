"""Which channels go: at one threshold of importance, or the same share of every layer, never more than the limits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from compress.groups.graph import ChannelGraph
from compress.groups.macs import macs_without, parameters_without
from edgeai.errors import PassError

Scope = Literal["global", "per-layer"]
FREE = 1e-9  # share of the whole: a channel that saves nothing is the last to go


class CutSettings(BaseModel):
    """How channels are chosen.

    round_to: each component keeps a multiple of it (what SIMD kernels like), heads of attention aside. max_removed: fraction
    of any layer, as it is given, that may go: in a pass of several rounds, in each of them. scope: "global" removes what
    scores lowest anywhere, "per-layer" the same fraction everywhere. limits: fraction that may go by layer name, below
    max_removed, as a sensitivity scan gives it; other layers follow max_removed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    round_to: Annotated[int, Field(ge=1)] = 8
    max_removed: Annotated[float, Field(ge=0, le=1)] = 0.75
    scope: Scope = "global"
    limits: Mapping[str, Annotated[float, Field(ge=0, le=1)]] = {}


class Cuts:
    """All the cuts that one scoring allows, from none (0) to the deepest (`deepest`), each holding the one before.

    scores: by class root, comparable over components, as score_channels() gives them. Raises PassError for limits of a
    layer that does not exist.
    """

    def __init__(self, graph: ChannelGraph, scores: Mapping[int, float], settings: CutSettings) -> None:
        self._graph = graph
        _check_limits(graph, settings.limits)
        self.components = [[int(r) for r in component] for component in graph.components()]
        protected = _protected(graph, scores, settings)
        # faintest first, what must stay last
        self._ordered = [
            sorted(component, key=lambda r: (r in protected, scores[r])) for component in self.components
        ]
        self._free = [sum(r not in protected for r in component) for component in self.components]
        if settings.scope == "global":
            marks = [[scores[r] for r in c[:n]] for c, n in zip(self._ordered, self._free, strict=True)]
            self._ranks = _ranks(marks, [len(c) for c in self._ordered])
        else:  # by the fraction of its component that is gone with a channel
            shares = [np.arange(1, n + 1) / len(c) for c, n in zip(self._ordered, self._free, strict=True)]
            levels = np.unique(np.concatenate([*shares, np.zeros(0)]))
            self._ranks = [np.searchsorted(levels, share) for share in shares]
        # a class that is a head of attention is wide already
        heads = {int(r) for item in graph.layers if item.kind == "heads" for r in graph.roots(item.out_ids)}
        self._round_to = [1 if heads & set(c) else settings.round_to for c in self.components]

    @property
    def deepest(self) -> int:
        return max((int(ranks.max()) + 1 for ranks in self._ranks if len(ranks)), default=0)

    def at(self, depth: int) -> frozenset[int]:
        """Class roots that are removed at a depth of 0 .. deepest."""
        if depth <= 0:
            return frozenset()
        chosen: list[int] = []
        for component, ranks, round_to in zip(self._ordered, self._ranks, self._round_to, strict=True):
            keep = max(len(component) - int((ranks < depth).sum()), min(round_to, len(component)))
            keep = min(len(component), -(-keep // round_to) * round_to)
            chosen.extend(component[: len(component) - keep])
        return frozenset(chosen)

    def within(self, macs: float) -> frozenset[int]:
        """The smallest cut that leaves at most `macs` multiplications, else the deepest one."""
        low, high = 0, self.deepest
        while low < high:
            middle = (low + high) // 2
            if macs_without(self._graph, self.at(middle)) <= macs:
                high = middle
            else:
                low = middle + 1
        return self.at(low)


def score_per_cost(
    graph: ChannelGraph, scores: Mapping[int, float], *, bytes_count: bool = False
) -> dict[int, float]:
    """Each score divided by the share of the multiplications that goes with its channel, or of the parameters.

    What a knapsack is filled by: the loss that a cut brings for what it saves (Aflalo et al. 2020, arXiv:2002.08258). Without it
    a score that is a loss empties the late layers, whose many channels matter little each and save next to nothing.
    """
    count = parameters_without if bytes_count else macs_without
    whole = max(count(graph, frozenset()), 1)
    found: dict[int, float] = {}
    for component in graph.components():
        roots = [int(r) for r in component]
        saved = (whole - count(graph, frozenset(roots[:1]))) / whole  # alike for all that are ranked together
        found.update({r: scores[r] / max(saved, FREE) for r in roots})
    return found


def _ranks(marks: Sequence[Sequence[float]], sizes: Sequence[int]) -> list[NDArray[np.intp]]:
    """The place of each mark among all; of equal ones first come those with the smaller part of their component before them."""
    every = np.array([mark for part in marks for mark in part])
    shares = np.array([i / size for part, size in zip(marks, sizes, strict=True) for i in range(len(part))])
    ranks = np.empty(len(every), np.intp)
    ranks[np.lexsort((shares, every))] = np.arange(len(every))
    return np.split(ranks, np.cumsum([len(part) for part in marks])[:-1]) if marks else []


def _protected(graph: ChannelGraph, scores: Mapping[int, float], settings: CutSettings) -> set[int]:
    """The best channels of every layer, as many as may not be removed, one at least: no layer may run empty."""
    stay: set[int] = set()
    for item in graph.layers:
        if not item.makes and item.name not in settings.limits:
            continue  # it passes on what another layer made
        most = min(settings.max_removed, settings.limits.get(item.name, 1.0))
        roots = sorted({int(r) for r in graph.roots(item.out_ids)}, key=lambda r: -scores.get(r, np.inf))
        stay.update(roots[: max(1, int(np.ceil(len(roots) * (1 - most) - 1e-9)))])
    return stay


def _check_limits(graph: ChannelGraph, limits: Mapping[str, float]) -> None:
    names = [item.name for item in graph.layers]
    for name in limits:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise PassError(
                f"limits: no layer {name!r} has channels that could go",
                next_step=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:6])}, ...",
            )
