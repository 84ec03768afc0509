"""Channels removed in rounds, each followed by a fit against the network as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from compress.candidate import Candidate
from compress.groups.graph import follow_channels
from compress.groups.macs import model_macs
from compress.measure.cost import latency_ratio, measure_cost
from compress.passes.bench import Bench
from compress.passes.fitting import fit_candidate, taught_by
from compress.passes.rounds import KeptRounds
from compress.passes.settings import PrunePass
from compress.prune.channels import next_ratio
from compress.prune.scores import NEEDS_BATCHES, score_channels
from compress.prune.sensitivity import SensitivityScan, scan_sensitivity
from compress.prune.target import Target, prune_to
from edgeai.console import print_note
from edgeai.engines import EdgeEngine


def prune(settings: PrunePass, candidate: Candidate, bench: Bench) -> Candidate:
    """Remove channels in equal steps of the target's logarithm, recovering after each.

    Raises PassError where the target cannot be reached.
    """
    with _measured(settings.target, candidate.network, bench) as measure:
        return _rounds(settings, candidate, bench, measure)


def _rounds(
    settings: PrunePass, candidate: Candidate, bench: Bench, measure: Callable[[Any], float] | None
) -> Candidate:
    reference = candidate.reference or candidate.network
    kept = KeptRounds(settings, bench)
    before = measure(candidate.network) if measure else float(model_macs(candidate.network))
    network, notes = _begun(kept, candidate.network, settings.rounds)
    for number in range(len(notes) + 1, settings.rounds + 1):
        batches = bench.training_batches(settings.looks, settings.fit.batch)
        cut, told = settings.cut, {}
        if settings.max_rise is not None:
            scan = _scan(network, settings, batches, bench)
            cut = cut.model_copy(update={"limits": scan.limits(settings.max_rise)})
            told = {"sensitivity": scan.to_json()}
        network, report = prune_to(
            network,
            _target_of_round(settings, network, before, number),
            cut,
            batches=batches if settings.score in NEEDS_BATCHES or settings.compensation != "none" else None,
            loss=bench.batch_loss,
            measure=measure,
        )
        network = bench.same_everywhere(network)
        notes.append(report | told)
        _tell(report, number, settings.rounds)
        fit_candidate(
            network,
            taught_by(reference, settings.teacher_share, settings.loss),
            settings.fit,
            bench,
            f"prune {number}/{settings.rounds}",
            name=f"round-{number}",
            hold=candidate.sparse,
        )
        kept.save(number, network, {"notes": notes})
    after = replace(candidate, network=network, reference=reference, files=())
    return after.with_notes("prune", notes)


def _begun(kept: KeptRounds, network: Any, rounds: int) -> tuple[Any, list[dict[str, Any]]]:
    """(network, a note a round that is done)."""
    found = kept.load()
    if found is None:
        return network, []
    network, told = found
    print_note(f"prune: going on after round {len(told['notes'])} of {rounds}")
    return network, list(told["notes"])


@contextmanager
def _measured(target: Target, network: Any, bench: Bench) -> Iterator[Callable[[Any], float] | None]:
    """Bytes or milliseconds of the engine file that the recipe ends with; none for multiplications.

    network: the one before. Where its share is the target, milliseconds are told as they would be if the machine did as
    much beside as when `network` was measured: minutes of training lie between the two, and others' work comes and goes.
    """
    if target.unit == "multiplications":
        yield None
    elif target.unit == "bytes":
        yield lambda pruned: float(bench.cost_of(pruned).bytes)
    elif not target.relative:
        yield lambda pruned: bench.cost_of(pruned).ms_p50
    else:
        with bench.cost_engine(network, "before") as (engine, path):
            ms = measure_cost(engine, path).ms_p50
            yield lambda pruned: ms * _ratio(pruned, engine, bench)


def _ratio(network: Any, before: EdgeEngine, bench: Bench) -> float:
    with bench.cost_engine(network) as (engine, _):
        return latency_ratio(engine, before)


def _target_of_round(settings: PrunePass, network: Any, before: float, number: int) -> Target:
    """Equal steps of the logarithm from `before` the first round to the target."""
    target = settings.target
    if target.unit == "multiplications":
        ratio = next_ratio(
            network, whole=int(before), macs_ratio=target.value, number=number, rounds=settings.rounds
        )
        return Target(macs_ratio=ratio)
    last = target.value * before if target.relative else target.value
    if last >= before:
        return Target.model_validate({_absolute(target): _number(target, last)})
    now = before * (last / before) ** (number / settings.rounds)
    return Target.model_validate({_absolute(target): _number(target, now)})


def _absolute(target: Target) -> str:
    return "max_bytes" if target.unit == "bytes" else "max_latency_ms"


def _number(target: Target, value: float) -> float:
    return int(value) if target.unit == "bytes" else value


def _scan(network: Any, settings: PrunePass, batches: Sequence[Any], bench: Bench) -> SensitivityScan:
    """How much the label loss on `batches` rises by each layer's own cut."""
    import tensorflow as tf

    @tf.function(autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
    def loss(batch: Any) -> Any:
        return bench.batch_loss(network(batch["inputs"], training=False), batch)

    graph = follow_channels(network, through_norms=settings.through_norms)
    scores = score_channels(network, graph, settings.score, batches=batches, loss=bench.batch_loss)
    most = settings.max_rise or 0.0
    return scan_sensitivity(
        network,
        graph,
        scores,
        lambda: float(np.mean([float(loss(batch)) for batch in batches])),
        stop_at=most,
    )


def _tell(report: dict[str, Any], number: int, rounds: int) -> None:
    if blocked := report["blocked"]:
        names = ", ".join(f"{name} ({why})" for name, why in list(blocked.items())[:3])
        more = f" and {len(blocked) - 3} more" if len(blocked) > 3 else ""
        if number == 1:
            print_note(f"prune: channels around {names}{more} stay")
    removed, whole = report["channels_removed"], report["channels"]
    print_note(f"prune {number}/{rounds}: {removed} of {whole} channels go")
