"""The control of a compression: how long it trains, and what is said of the difference."""

from __future__ import annotations

import numpy as np
import pytest

from compress.passes.settings import DistillPass, PretrainPass, PrunePass, QuantizePass, TrainPass
from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def test_it_sees_as_many_examples_as_all_kept_passes():
    from compress.control import control_fits

    train = TrainPass(
        kind="train", fit={"steps": 100, "batch": 10, "learning_rate": 0.01, "freeze": ["stem"]}
    )
    prune = PrunePass(kind="prune", macs_ratio=0.5, rounds=3, fit={"steps": 20, "batch": 5})
    distill = DistillPass(kind="distill", fit={"steps": 7, "batch": 10})
    look = PretrainPass(kind="pretrain", fit={"steps": 1000})
    ((fit, whole),) = control_fits([look, train, prune, distill, QuantizePass(kind="quantize")])
    assert fit.steps == 100 + 3 * 20 * 5 // 10 + 7
    assert (fit.batch, fit.learning_rate, fit.freeze) == (10, 0.01, ())
    assert not whole


def test_windows_and_whole_pictures_are_as_many_each():
    from compress.control import control_fits

    prune = PrunePass(kind="prune", macs_ratio=0.5, rounds=1, fit={"steps": 20, "batch": 5})
    windows = DistillPass(kind="distill", fit={"steps": 7, "batch": 10, "learning_rate": 0.02})
    last = {"steps": 6, "batch": 2, "learning_rate": 0.004}
    whole = DistillPass(kind="distill", fit=last, whole_pictures=True)
    found = control_fits([prune, windows, whole, QuantizePass(kind="quantize")])
    assert [(fit.steps, fit.batch, seen) for fit, seen in found] == [(34, 5, False), (6, 2, True)]
    assert found[1][0].learning_rate == 0.004


def test_without_a_training_there_is_nothing_to_compare():
    from compress.control import control_fits

    with pytest.raises(PassError, match="no pass of the recipe trains"):
        control_fits([QuantizePass(kind="quantize")])


class Said:
    """Stands for Scored: right or wrong, example by example."""

    def __init__(self, right):
        self.right_or_wrong = np.array(right, float)
        self.groups = tuple(str(n) for n in range(len(right)))

    def __len__(self):
        return len(self.right_or_wrong)

    def value(self, picks):
        return float(self.right_or_wrong[picks].mean())


@pytest.mark.parametrize(
    "ours, control, turned, says",
    [
        ([1] * 40, [0] * 30 + [1] * 10, False, "beats the same network trained from nothing by +0.750"),
        ([0] * 30 + [1] * 10, [1] * 40, False, "BEATS the compressed one by -0.750"),
        ([1, 0] * 20, [0, 1] * 20, False, "no difference"),
        ([0] * 30 + [1] * 10, [1] * 40, True, "beats the same network trained from nothing by +0.750"),
    ],
)
def test_the_verdict_follows_the_paired_interval(ours, control, turned, says):
    from compress.control import Control, _pair
    from compress.measure.cost import Cost
    from compress.measure.metric import Metric
    from compress.passes.bench import Measured
    from compress.record import PassRecord

    gap = _pair(Said(ours), Said(control), turned=turned)
    metric = Metric("accuracy", 0.5, (0.4, 0.6), 40)
    measured = Measured(1, 1, metric, Cost(1, 1, 1.0, 1.0, 1.0), None)
    told = Control(PassRecord("control", 1.0, measured, kept=True), 10, 4, gap).sentence()
    assert says in told
