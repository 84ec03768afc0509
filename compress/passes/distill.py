"""Learning from a teacher: the network as it was before the first pruning, or another one; with data or without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from compress.candidate import Candidate
from compress.distill.data_free import distill_data_free, input_range
from compress.distill.open_teacher import open_teacher_network, output_shapes
from compress.distill.teacher_network import KerasTeacher, TeacherNetwork
from compress.passes.bench import Bench
from compress.passes.fitting import Teaching, copy_network, fit_candidate
from compress.passes.settings import DataFreePass, DistillPass
from edgeai.console import print_note
from edgeai.errors import PassError


def distill(settings: DistillPass, candidate: Candidate, bench: Bench) -> Candidate:
    """Fit against the teacher. Raises PassError where there is none, and what open_teacher_network raises."""
    bench = bench.whole() if settings.on_whole else bench
    network = copy_network(candidate.network)
    with _opened(settings.teacher, candidate, bench) as teacher:
        teaching = Teaching(
            teacher, settings.teacher_share, settings.loss, settings.keep_batches, settings.unlabelled
        )
        fit_candidate(network, teaching, settings.fit, bench, "distill", hold=candidate.sparse)
    return replace(candidate, network=network, files=())


def distill_without_data(settings: DataFreePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Learn what the teacher says of pictures that are drawn for it. Raises PassError for networks that do not fit."""
    network = copy_network(candidate.network)
    low, high = input_range(bench.recipe.input)
    with _opened(settings.teacher, candidate, bench) as teacher:
        if not isinstance(teacher, KerasTeacher):
            raise PassError(
                f"distill-data-free: teacher {teacher.name} is no Keras network, and gradients have to pass through it",
                next_step="give a bundle that holds network.keras, or a .keras file",
            )
        if teacher.rules.input is not None:
            raise PassError(
                f"distill-data-free: teacher {teacher.name} takes pictures of another size, colour order or range",
                next_step="give the recipe's [input] the teacher's size, colour, mean and std",
            )
        chosen = settings.fit.model_copy(update={"seed": bench.recipe.seed + settings.fit.seed})
        told = distill_data_free(teacher.network, network, chosen, low=low, high=high)
    print_note(
        f"distill-data-free: student and teacher agree on {told.agreement:.0%} of the last drawn pictures"
    )
    return replace(candidate, network=network, files=())


@contextmanager
def _opened(source: str | None, candidate: Candidate, bench: Bench) -> Iterator[TeacherNetwork]:
    """The teacher that a recipe names, else the network before pruning."""
    if source is None:
        yield KerasTeacher(
            _reference(candidate), name="the network before pruning", fingerprint=bench.fingerprint
        )
        return
    recipe = bench.recipe
    with open_teacher_network(
        source,
        spec=recipe.input,
        outputs=output_shapes(candidate.network),
        labels=recipe.labels,
        data_root=bench.data_root,
    ) as teacher:
        yield teacher


def _reference(candidate: Candidate) -> Any:
    if candidate.reference is None:
        raise PassError(
            "distill: there is no earlier network to distill from",
            next_step="put it after prune, or name a teacher",
        )
    return candidate.reference
