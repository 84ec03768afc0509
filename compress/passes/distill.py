"""Learning from the network as it was before the first pruning."""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate
from compress.passes.bench import Bench
from compress.passes.fitting import copy_network, fit_candidate
from compress.passes.settings import DistillPass
from edgeai.errors import PassError


def distill(settings: DistillPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Fit against the network as it was before it was pruned. Raises PassError where there is none."""
    if candidate.reference is None:
        raise PassError(
            "distill: there is no earlier network to distill from", next_step="put it after prune"
        )
    network = copy_network(candidate.network)
    fit_candidate(
        network,
        candidate.reference,
        settings.teacher_share,
        settings.fit,
        bench,
        "distill",
        hold=candidate.sparse,
    )
    return replace(candidate, network=network, files=())
