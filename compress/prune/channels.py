"""Remove whole channels: a new, smaller dense model with the kept weights, nothing masked."""

from __future__ import annotations

from typing import Any

from compress.groups.macs import model_macs
from compress.prune.target import PruneSettings, Target, prune_to
from edgeai.errors import PassError


def prune_channels(
    model: Any, *, macs_ratio: float, round_to: int = 8, max_removed: float = 0.75
) -> tuple[Any, dict[str, Any]]:
    """A copy of `model` without its least important channels, at most `macs_ratio` (0..1) of its multiplications.

    prune_to() with L2 scores and one threshold for all layers; see there for the report and for other scores, limits and
    targets. Raises PassError where the ratio cannot be reached, naming what is in the way.
    """
    if not 0 < macs_ratio <= 1:
        raise PassError(f"macs_ratio must be above 0 and at most 1, is {macs_ratio}")
    settings = PruneSettings(round_to=round_to, max_removed=max_removed)
    return prune_to(model, Target(macs_ratio=macs_ratio), settings)


def next_ratio(network: Any, *, whole: int, macs_ratio: float, number: int, rounds: int) -> float:
    """The ratio for round `number` (from 1) of `rounds` equal steps of the multiplications' logarithm.

    whole: multiplications before the first round. network: as the rounds before have left it.
    """
    return float(min(1.0, whole * macs_ratio ** (number / rounds) / model_macs(network)))
