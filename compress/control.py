"""The control of a compression: the small network it ended with, trained from nothing for as long.

A compressed network is worth its trouble only where it beats that one. Whoever leaves it out may sell as compression what
a smaller network would have learnt by itself (Crowley et al. 2018; Liu et al. 2019, "Rethinking the value of network
pruning").
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from compress.candidate import Candidate
from compress.export.bundle import write_candidate
from compress.measure.metric import group_numbers
from compress.measure.pairs import Difference, paired_difference
from compress.measure.scored import Scored
from compress.passes.bench import Bench, chosen_file
from compress.passes.fitting import fit_candidate
from compress.passes.quantize import export, qat, quantize
from compress.passes.settings import ExportPass, PassSettings, PretrainPass, QatPass, QuantizePass
from compress.record import PassRecord
from compress.train.fit import FitSettings
from edgeai.console import print_note
from edgeai.errors import PassError

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Control:
    """record: of the network trained from nothing, measured as the compressed one was. steps: of its training, in batches
    of `batch`. difference: the compressed one's metric less the control's, on the same held-out examples; where a lower
    metric is the better one, the sign is turned round, so that above 0 is always in favour of the compression.
    """

    record: PassRecord
    steps: int
    batch: int
    difference: Difference

    def sentence(self) -> str:
        """What it means, for people."""
        gap, metric = self.difference, self.record.measured.metric.name
        told = (
            f"by {gap.value:+.3f} {metric} (95 %: {gap.ci95[0]:+.3f} to {gap.ci95[1]:+.3f}, {gap.n} examples)"
        )
        if gap.value > 0 and gap.seen:
            return f"compression beats the same network trained from nothing {told}"
        if gap.value < 0 and gap.seen:
            return f"the same network trained from nothing BEATS the compressed one {told}"
        ends = f"{gap.value:+.3f} {metric}, 95 %: {gap.ci95[0]:+.3f} to {gap.ci95[1]:+.3f}, {gap.n} examples"
        return f"no difference from the same network trained from nothing can be seen ({ends})"

    def to_json(self) -> dict[str, Any]:
        gap = self.difference
        return {
            **self.record.to_json(),
            "steps": self.steps,
            "batch": self.batch,
            "difference": round(gap.value, 4),
            "difference_ci95": [round(end, 4) for end in gap.ci95],
            "says": self.sentence(),
        }


def train_control(
    passes: Sequence[PassSettings], candidate: Candidate, bench: Bench, *, lower_is_better: bool = False
) -> Control:
    """Train the architecture of `candidate` from random weights on labels, for as many examples as all of `passes` that
    were kept, then make of it the engine file that `candidate` is measured by. The bundle of it is left in the working
    folder, as control/bundle, to be compared on other data.

    Raises PassError where no pass trains, or where `candidate` has no TFLite file.
    """
    began = time.monotonic()
    file = chosen_file(candidate)
    if file is None:
        raise PassError("control: the compressed network has no TFLite file to be compared with")
    fits = control_fits(passes)
    network = _untrained(candidate.network, seed=bench.recipe.seed)
    bench = replace(bench, step=CONTROL, work=bench.work / CONTROL)
    bench.work.mkdir(exist_ok=True)
    for number, (settings, whole) in enumerate(fits):
        name = "fit" if number == 0 else f"fit-{number + 1}"
        fit_candidate(network, None, settings, bench.whole() if whole else bench, CONTROL, name=name)
    made = Candidate(network)
    for asked in passes:
        if isinstance(asked, QuantizePass) and asked.precision == file.precision:
            made = quantize(asked, made, bench)
        elif isinstance(asked, QatPass):  # on labels alone, as all of the control's training
            made = qat(asked.model_copy(update={"teacher_share": 0.0}), made, bench)
        elif isinstance(asked, ExportPass) and f"{file.format}/{file.precision}" in asked.formats:
            made = export(
                asked.model_copy(update={"formats": (f"{file.format}/{file.precision}",)}), made, bench
            )
    (ours, _), (theirs, measured) = bench.score(candidate), bench.score(made)
    difference = _pair(ours, theirs, turned=lower_is_better)
    record = PassRecord(CONTROL, time.monotonic() - began, measured, kept=True)
    first = fits[0][0]
    examples = sum(settings.steps * settings.batch for settings, _ in fits)
    control = Control(record, round(examples / first.batch), first.batch, difference)
    write_candidate(
        bench.recipe,
        made,
        bench.work / "bundle",
        records=[record.to_json()],
        final=measured,
        date=datetime.date.today().isoformat(),
    )
    print_note(f"{CONTROL}: {control.sentence()}")
    return control


def control_fits(passes: Sequence[PassSettings]) -> list[tuple[FitSettings, bool]]:
    """(settings, whether on whole pictures) of the control's trainings: the first training's of `passes`, with steps for as many
    examples as all of them on labels saw together; but for quantization-aware training, which the control goes through by
    itself. Where some saw whole pictures and others windows, it has one of each, in their order.

    Raises PassError where none trains.
    """
    seen: dict[bool, list[FitSettings]] = {}
    for asked in passes:
        if not isinstance(asked, (PretrainPass, QatPass)):
            seen.setdefault(asked.on_whole, []).extend(asked.fits)
    fits = [(_as_long(given), whole) for whole, given in seen.items() if given]
    if not fits:
        raise PassError("control: no pass of the recipe trains", next_step="leave out --control")
    return fits


def _as_long(fits: Sequence[FitSettings]) -> FitSettings:
    """The first of them for the examples of all."""
    examples = sum(fit.steps * fit.batch for fit in fits)
    # it starts from nothing: layers that stayed as they were had been trained before
    return fits[0].model_copy(update={"steps": max(1, round(examples / fits[0].batch)), "freeze": ()})


def _untrained(network: Any, *, seed: int) -> Any:
    """The same layers with the weights that their initializers give."""
    import keras

    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(network)


def _pair(ours: Scored, control: Scored, *, turned: bool) -> Difference:
    gap = paired_difference(len(ours), control.value, ours.value, groups=group_numbers(ours.groups))
    if not turned:
        return gap
    low, high = gap.ci95
    return Difference(-gap.value, (-high, -low), gap.n)
