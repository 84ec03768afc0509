"""Training: on pictures without labels, and on labels."""

from __future__ import annotations

from dataclasses import replace

from compress.candidate import Candidate
from compress.distill.losses import DistillLoss
from compress.passes.bench import Bench
from compress.passes.fitting import copy_network, fit_candidate, taught_by
from compress.passes.settings import PretrainPass, TrainPass
from compress.train.pretrain import pretrain as pretrain_network
from edgeai.bundle.manifest import ImageInput
from edgeai.console import print_note
from edgeai.errors import PassError


def pretrain(settings: PretrainPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Train the backbone on the recipe's unlabelled pictures. Raises DataError for too few, PassError on collapse."""
    spec = bench.recipe.input
    if not isinstance(spec, ImageInput):
        raise PassError("pretrain looks at pictures", next_step="take it out of the recipe")
    network = copy_network(candidate.network)
    told = pretrain_network(
        network,
        bench.unlabelled,
        spec,
        settings.fit.model_copy(update={"seed": bench.recipe.seed + settings.fit.seed}),
        description="pretrain",
        checkpoint=bench.checkpoint("fit"),
    )
    print_note(
        f"pretrain: {told.pictures} pictures; features find {told.matched:.0%} of the places again, "
        f"{told.matched_before:.0%} before, {told.by_chance:.1%} by chance"
    )
    return replace(candidate, network=network, files=())


def train(settings: TrainPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Fit on labels; with teacher_share also on what the network said before this pass."""
    bench = bench.whole() if settings.on_whole else bench
    network = copy_network(candidate.network)
    before = taught_by(candidate.network, settings.teacher_share, DistillLoss())
    fit_candidate(network, before, settings.fit, bench, "train", hold=candidate.sparse)
    return replace(candidate, network=network, files=())
