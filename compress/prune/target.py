"""Prune to a target: a share of the multiplications, bytes of the converted file, or its measured milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.groups.graph import ChannelGraph, follow_channels
from compress.groups.macs import macs_without
from compress.groups.remove import remove_channels
from compress.prune.choice import Cuts, CutSettings, score_per_cost
from compress.prune.compensate import Compensation, compensate
from compress.prune.scores import NEEDS_BATCHES, Batch, Loss, ScoreKind, score_channels
from edgeai.console import progress_bar
from edgeai.errors import PassError

Measure = Callable[[Any], float]
Ratio = Annotated[float, Field(gt=0, le=1)]

MAX_MEASURED = 8  # cuts that are measured: each costs a conversion, and the interval is halved by most
CLOSE = 0.05  # a latency this near its target is measured again: the spread between runs on a shared machine
REPEATS = 3
GOOD_ENOUGH = 0.03  # below the target: nothing is gained by looking for a cut that wastes less


class Target(BaseModel):
    """What pruning must reach, exactly one of: multiplications, bytes or milliseconds, as a ratio of before or absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    macs_ratio: Ratio | None = None
    bytes_ratio: Ratio | None = None
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    latency_ratio: Ratio | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Target:
        if len(self.model_fields_set) != 1 or getattr(self, self.name) is None:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def name(self) -> str:
        """Of the field that is set."""
        return next(iter(self.model_fields_set))

    @property
    def value(self) -> float:
        return float(getattr(self, self.name))

    @property
    def unit(self) -> Literal["multiplications", "bytes", "ms"]:
        if "latency" in self.name:
            return "ms"
        return "bytes" if "bytes" in self.name else "multiplications"

    @property
    def relative(self) -> bool:
        return self.name.endswith("_ratio")


class PruneSettings(CutSettings):
    """score: how channels are ranked (compress.prune.scores). compensation: what is done about what removed channels leave
    behind (compress.prune.compensate). through_norms: also remove channels that pass a layer norm, whose statistics change with
    them (compress.groups): transformers can hardly be pruned otherwise. per_cost: rank "taylor" scores by the loss for what
    is saved of the target (compress.prune.choice.score_per_cost); other scores are relative to their layer and stay as they are.
    """

    score: ScoreKind = "l2"
    per_cost: bool = True
    compensation: Compensation = "none"
    through_norms: bool = False


def prune_to(
    model: Any,
    target: Target,
    settings: PruneSettings | None = None,
    *,
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    measure: Measure | None = None,
) -> tuple[Any, dict[str, Any]]:
    """A copy of `model` without its least important channels that meets `target`, with the fewest of them removed.

    batches, loss: for scores and compensation that look at data: training examples, no test data. measure(network): bytes
    or ms of a candidate, the median of many calls; seconds each, so few cuts are tried, and a latency near its target
    is measured three times.

    Returns the new model and a report: multiplications and channels before and after, what blocked, and with a measure
    the value "before", "reached" and "wanted" in "unit". A model that meets its target is returned as it is. Raises
    PassError where the target cannot be reached, naming what is in the way, and where batches, loss or measure are missing.
    """
    settings = settings or PruneSettings()
    if target.unit != "multiplications" and measure is None:
        raise PassError(f"{target.name} needs a way to measure {target.unit}", next_step="or take macs_ratio")
    looks = settings.score in NEEDS_BATCHES or settings.compensation != "none"
    given = list(batches) if batches is not None and looks else None
    if settings.compensation != "none" and not given:
        raise PassError(
            f"compensation {settings.compensation!r} needs batches of examples",
            next_step='give some, or set compensation = "none"',
        )
    graph = follow_channels(model, through_norms=settings.through_norms)
    scores = score_channels(model, graph, settings.score, batches=given, loss=loss)
    if settings.per_cost and settings.score == "taylor":
        scores = score_per_cost(graph, scores, bytes_count=target.unit == "bytes")
    cuts = Cuts(graph, scores, settings)
    told: dict[str, Any] = {}
    if target.unit == "multiplications" or measure is None:
        removed = _by_macs(graph, cuts, target, settings)
    else:
        removed, told = _by_measure(model, graph, cuts, target, settings, measure)
    if settings.compensation == "none" or not removed:
        smaller = remove_channels(model, graph, removed)
    else:
        smaller, told["compensation"] = compensate(
            model, graph, removed, given or [], method=settings.compensation
        )
    report = {
        "macs_before": macs_without(graph, frozenset()),
        "macs_after": macs_without(graph, removed),
        "channels_removed": len(removed),
        "channels": sum(len(c) for c in cuts.components),
        "blocked": dict(graph.blocked),
    }
    return smaller, report | told


def _by_macs(graph: ChannelGraph, cuts: Cuts, target: Target, settings: PruneSettings) -> frozenset[int]:
    before = macs_without(graph, frozenset())
    removed = cuts.within(before * target.value)
    after = macs_without(graph, removed)
    if after > before * target.value:
        raise PassError(
            f"pruning reaches {after / before:.2f} of the multiplications at best, not {target.value}",
            next_step=_way_out(graph, target, settings),
        )
    return removed


def _by_measure(
    model: Any,
    graph: ChannelGraph,
    cuts: Cuts,
    target: Target,
    settings: PruneSettings,
    measure: Measure,
) -> tuple[frozenset[int], dict[str, Any]]:
    """Bisection on the logarithm of the multiplications; what is measured need not fall evenly with them, nor always."""
    whole = macs_without(graph, frozenset())
    with progress_bar(f"prune to {target.name} = {target.value:g}", MAX_MEASURED) as advance:

        def value_of(network: Any, wanted: float | None) -> float:
            values = [_finite(measure(network), target)]
            close = wanted is not None and abs(values[0] - wanted) <= CLOSE * wanted
            if target.unit == "ms" and (close or wanted is None):
                values += [_finite(measure(network), target) for _ in range(REPEATS - 1)]
            value = float(np.median(values))
            advance(1, note=f"{value:.4g} {target.unit}")
            return value

        before = value_of(model, None)
        wanted = before * target.value if target.relative else target.value
        told = {"unit": target.unit, "before": before, "wanted": wanted}
        if before <= wanted:
            return frozenset(), told | {"reached": before}
        best = cuts.at(cuts.deepest)
        reached = value_of(remove_channels(model, graph, best), wanted) if best else before
        if reached > wanted:
            raise PassError(
                f"pruning reaches {reached:.4g} {target.unit} at best, not {wanted:.4g} (before: {before:.4g})",
                next_step=_way_out(graph, target, settings),
            )
        # (log of the multiplications, log of what was measured) of the smallest cut too big, and of the best that fits
        high = (math.log(whole), math.log(before))
        low = (math.log(macs_without(graph, best)), math.log(max(reached, 1e-12)))
        seen = {frozenset(), best}
        for _ in range(MAX_MEASURED - 2):
            if reached >= wanted * (1 - GOOD_ENOUGH):
                break
            removed = cuts.within(math.exp(_guess(low, high, math.log(wanted))))
            if removed in seen:  # the straight line points at an end: halve
                removed = cuts.within(math.exp((low[0] + high[0]) / 2))
            if removed in seen:
                break
            seen.add(removed)
            value = value_of(remove_channels(model, graph, removed), wanted)
            point = (math.log(macs_without(graph, removed)), math.log(max(value, 1e-12)))
            if value <= wanted:
                best, reached, low = removed, value, point
            else:
                high = point
    return best, told | {"reached": reached}


def _guess(low: tuple[float, float], high: tuple[float, float], wanted: float) -> float:
    """Where a straight line between two points meets `wanted`, a little to the safe side, within the middle four fifths."""
    share = (wanted - low[1]) / (high[1] - low[1]) if high[1] > low[1] else 0.5
    return low[0] + min(0.9, max(0.1, share - 0.02)) * (high[0] - low[0])


def _finite(value: float, target: Target) -> float:
    if not math.isfinite(value) or value < 0:
        raise PassError(f"measuring {target.unit} of a pruned network gave {value}")
    return float(value)


def _way_out(graph: ChannelGraph, target: Target, settings: PruneSettings) -> str:
    blocked = ", ".join(f"{name} ({kind})" for name, kind in list(graph.blocked.items())[:3])
    knobs = f"raise {target.name} or max_removed" + (", or loosen the limits" if settings.limits else "")
    return knobs + (f"; layers in the way: {blocked}" if blocked else "")
