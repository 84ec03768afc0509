"""Milliseconds beside a network's on a machine whose load changes."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress


class Machine:
    """A clock that calls move on: each by its own milliseconds, times how busy the machine is by then."""

    def __init__(self):
        self.ns, self.calls = 0, 0

    def run(self, ms):
        self.calls += 1
        busy = 1 + (self.calls // 40) % 3
        self.ns += int(ms * busy * 1e6)


class Engine:
    def __init__(self, machine, ms):
        from types import SimpleNamespace

        self.machine, self.ms = machine, ms
        self.inputs = (SimpleNamespace(name="image", shape=(1, 2, 2, 1), dtype="float32"),)

    def run(self, given):
        assert given["image"].dtype == np.float32
        self.machine.run(self.ms)


def test_a_ratio_stands_while_the_load_comes_and_goes(monkeypatch):
    from compress.measure.cost import latency_ratio
    from edgeai import metrics

    machine = Machine()
    monkeypatch.setattr(metrics.time, "perf_counter_ns", lambda: machine.ns)
    assert latency_ratio(Engine(machine, 3.0), Engine(machine, 12.0)) == pytest.approx(0.25)
