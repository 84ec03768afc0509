"""Channels removed in rounds, each followed by a fit against the network as it was."""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate
from compress.groups.macs import model_macs
from compress.passes.bench import Bench
from compress.passes.fitting import fit_candidate
from compress.passes.settings import PrunePass
from compress.prune.channels import next_ratio, prune_channels


def prune(settings: PrunePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Remove channels in equal steps of the multiplications' logarithm, recovering after each.

    Raises PassError where the ratio cannot be reached.
    """
    reference = candidate.reference or candidate.network
    network = candidate.network
    notes = []
    whole = model_macs(network)
    for number in range(1, settings.rounds + 1):
        network, report = prune_channels(
            network,
            macs_ratio=next_ratio(
                network, whole=whole, macs_ratio=settings.macs_ratio, number=number, rounds=settings.rounds
            ),
            round_to=settings.round_to,
            max_removed=settings.max_removed,
        )
        notes.append(report)
        fit_candidate(
            network,
            reference,
            settings.teacher_share,
            settings.fit,
            bench,
            f"prune {number}/{settings.rounds}",
            name=f"round-{number}",
        )
    earlier = candidate.notes.get("prune", [])
    return replace(
        candidate,
        network=network,
        reference=reference,
        files=(),
        notes={**candidate.notes, "prune": [*earlier, *notes]},
    )
