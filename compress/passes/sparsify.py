"""Single weights set to zero while training goes on."""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate
from compress.passes.bench import Bench
from compress.passes.fitting import copy_network, fit_candidate, taught_by
from compress.passes.settings import SparsifyPass
from compress.prune.magnitude import MagnitudeSettings, magnitude_schedule
from compress.prune.two_four import two_four_masks
from compress.train.masks import MaskSchedule, hold_masks
from edgeai.console import print_note


def sparsify(settings: SparsifyPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Train on while the smallest weights go. Raises PassError where no layer fits."""
    network = copy_network(candidate.network)
    reference = candidate.reference or candidate.network
    dense: dict[str, str] = {}
    if settings.pattern == "2:4":
        masks, dense = two_four_masks(network, exclude=settings.exclude)
        schedule: MaskSchedule = hold_masks(masks)
        if dense:
            print_note(
                "2:4: " + "; ".join(f"{name} stays dense, {why}" for name, why in list(dense.items())[:3])
            )
    else:
        chosen = MagnitudeSettings(sparsity=settings.sparsity, scope=settings.scope, exclude=settings.exclude)
        schedule = magnitude_schedule(network, chosen, steps=settings.fit.steps)
    fit_candidate(
        network,
        taught_by(reference, settings.teacher_share, settings.loss),
        settings.fit,
        bench,
        "sparsify",
        masks=schedule,
    )
    told = {"pattern": settings.pattern, "dense": dense}
    return replace(
        candidate,
        network=network,
        reference=reference,
        sparse=True,
        files=(),
        notes={**candidate.notes, "sparsify": told},
    )
