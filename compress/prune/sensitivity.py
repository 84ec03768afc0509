"""How much the loss rises when one component loses its least important channels: what bounds the ratios of pruning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.groups.graph import ChannelGraph
from compress.prune.scores import reading_weights
from edgeai.console import progress_bar
from edgeai.errors import PassError

RATIOS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class ComponentRise:
    """layers: names of those whose channels go together. channels: how many classes. rises: by ratio removed, what the loss
    is above the whole network's; ratios after the first that rises too far are absent.
    """

    layers: tuple[str, ...]
    channels: int
    rises: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class SensitivityScan:
    """base: loss of the whole network."""

    base: float
    components: tuple[ComponentRise, ...]

    def limits(self, max_rise: float) -> dict[str, float]:
        """By layer name the fraction (0..1) of its channels that may go for the loss to rise by max_rise at most.

        Straight lines between the measured ratios, the last one where none rises so far; for CutSettings.limits.
        """
        if not (math.isfinite(max_rise) and max_rise >= 0):
            raise PassError(f"max_rise must be 0 or above, is {max_rise}")
        return {name: _crossing(part.rises, max_rise) for part in self.components for name in part.layers}

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "components": [
                {
                    "layers": list(part.layers),
                    "channels": part.channels,
                    "rises": [[ratio, rise] for ratio, rise in part.rises.items()],
                }
                for part in self.components
            ],
        }


def scan_sensitivity(
    model: Any,
    graph: ChannelGraph,
    scores: Mapping[int, float],
    evaluate: Callable[[], float],
    *,
    ratios: Sequence[float] = RATIOS,
    stop_at: float = math.inf,
) -> SensitivityScan:
    """Remove each component's least important channels alone, at each of `ratios`, and see what the loss becomes.

    Removed is done in place, by zeros in what the following layers read, which gives the same outputs and needs no new
    graph; the weights are put back. evaluate(): loss of `model` as it stands on training examples held out from pruning (not
    the test split): lower is better; compiled once, it is fast. stop_at: a rise after which a component's larger ratios are not
    tried. Raises PassError for ratios outside 0..1 and for a whole network whose loss is no number.
    """
    if not ratios or not all(0 < ratio < 1 for ratio in ratios):
        raise PassError(f"ratios must lie between 0 and 1, are {list(ratios)}")
    base = float(evaluate())
    if not math.isfinite(base):
        raise PassError(
            f"the loss of the whole network is {base}", next_step="check the network and the data"
        )
    parts: list[ComponentRise] = []
    components = graph.components()
    with progress_bar("sensitivity", len(components) * len(ratios)) as advance:
        for component in components:
            roots = sorted((int(r) for r in component), key=lambda r: scores[r])
            layers = _makers(graph, set(roots))
            rises: dict[float, float] = {}
            for ratio in sorted(ratios):
                if rises and max(rises.values()) > stop_at:
                    advance()
                    continue
                gone = frozenset(roots[: int(ratio * len(roots))])
                with _unheard(graph, gone):
                    value = float(evaluate()) if gone else base
                rises[ratio] = value - base if math.isfinite(value) else math.inf
                advance(note=layers[0] if layers else "")
            parts.append(ComponentRise(layers, len(roots), rises))
    return SensitivityScan(base, tuple(parts))


@contextmanager
def _unheard(graph: ChannelGraph, gone: frozenset[int]) -> Iterator[None]:
    """Inside, no layer reads the channel classes `gone`."""
    before: list[tuple[Any, Any]] = []
    try:
        for weight, axis, ids in reading_weights(graph):
            heard = np.zeros(len(ids), np.bool_)
            heard[graph.kept(ids, gone)] = True
            if heard.all():
                continue
            kernel = np.array(weight.variable.numpy())  # a copy: TensorFlow may lend its own memory
            before.append((weight.variable, kernel))
            shape = [-1 if a == axis else 1 for a in range(kernel.ndim)]
            weight.variable.assign(np.where(heard.reshape(shape), kernel, 0))
        yield
    finally:
        for variable, kernel in before:
            variable.assign(kernel)


def _makers(graph: ChannelGraph, roots: set[int]) -> tuple[str, ...]:
    made = (
        item.name
        for item in graph.layers
        if item.makes and roots & {int(r) for r in graph.roots(item.out_ids)}
    )
    return tuple(dict.fromkeys(made))


def _crossing(rises: Mapping[float, float], most: float) -> float:
    """Where straight lines through (0, 0) and the points first exceed `most`; the last ratio where they do not."""
    ratio, rise = 0.0, 0.0
    for next_ratio, next_rise in sorted(rises.items()):
        if next_rise > most:
            if not math.isfinite(next_rise):
                return ratio
            share = (most - rise) / (next_rise - rise) if next_rise > rise else 0.0
            return ratio + max(0.0, min(1.0, share)) * (next_ratio - ratio)
        ratio, rise = next_ratio, next_rise
    return ratio
