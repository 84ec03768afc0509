"""The scan finds what the loss can spare, in place, and leaves the weights as they were."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from prune_networks import loss, small

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


@pytest.fixture
def scanned(keras, batches):
    """(model, graph, scores, evaluate)"""
    from compress.groups.graph import follow_channels
    from compress.prune.scores import score_channels

    model = small(keras)
    graph = follow_channels(model)

    def evaluate():
        return float(np.mean(loss(model(batches[0]["inputs"]), batches[0])))

    return model, graph, score_channels(model, graph, "l2"), evaluate


def test_a_rise_is_what_removing_costs(scanned, batches, capsys):
    from compress.groups.remove import remove_channels
    from compress.prune.sensitivity import scan_sensitivity

    model, graph, scores, evaluate = scanned
    before = model.get_weights()
    scan = scan_sensitivity(model, graph, scores, evaluate, ratios=(0.25, 0.5))
    for mine, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, wanted)
    assert [part.layers for part in scan.components] == [("a", "b"), ("c",)]
    part, component = scan.components[0], graph.components()[0]
    faintest = sorted((int(r) for r in component), key=lambda r: scores[r])
    for ratio in (0.25, 0.5):
        smaller = remove_channels(model, graph, frozenset(faintest[: int(16 * ratio)]))
        value = float(np.mean(loss(smaller(batches[0]["inputs"]), batches[0])))
        assert part.rises[ratio] == pytest.approx(value - scan.base, abs=1e-5)
    assert "sensitivity" in capsys.readouterr().err
    assert json.loads(json.dumps(scan.to_json()))["components"][1]["channels"] == 24


def test_weights_are_put_back_whatever_happens(scanned):
    from compress.prune.sensitivity import scan_sensitivity

    model, graph, scores, _ = scanned
    before = model.get_weights()
    answers = iter([1.0])

    with pytest.raises(StopIteration):
        scan_sensitivity(model, graph, scores, lambda: next(answers))
    for mine, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_limits_are_where_the_line_crosses():
    from compress.prune.sensitivity import ComponentRise, SensitivityScan

    scan = SensitivityScan(
        1.0,
        (
            ComponentRise(("a", "b"), 16, {0.25: 0.1, 0.5: 0.3}),
            ComponentRise(("free",), 16, {0.25: -0.1, 0.5: 0.0, 0.75: 0.01}),
            ComponentRise(("brittle",), 16, {0.25: 9.0}),
            ComponentRise(("broken",), 16, {0.25: 0.0, 0.5: math.inf}),
        ),
    )
    limits = scan.limits(0.2)
    assert limits == {
        "a": pytest.approx(0.375),
        "b": pytest.approx(0.375),
        "free": 0.75,
        "brittle": pytest.approx(0.25 * 0.2 / 9),
        "broken": 0.25,
    }
    assert scan.limits(0)["brittle"] == 0
    with pytest.raises(PassError, match="max_rise"):
        scan.limits(float("nan"))


def test_ratios_beyond_a_rise_too_far_are_not_tried(scanned):
    from compress.prune.sensitivity import scan_sensitivity

    model, graph, scores, _ = scanned
    values = iter([1.0, 5.0, 1.1, 1.2, 1.3])
    scan = scan_sensitivity(model, graph, scores, lambda: next(values), stop_at=1.0)
    assert [list(part.rises) for part in scan.components] == [[0.25], [0.25, 0.5, 0.75]]


def test_what_cannot_be_scanned_is_told(scanned):
    from compress.prune.sensitivity import scan_sensitivity

    model, graph, scores, evaluate = scanned
    with pytest.raises(PassError, match="ratios"):
        scan_sensitivity(model, graph, scores, evaluate, ratios=(0.5, 1.0))
    with pytest.raises(PassError, match="loss of the whole network is nan"):
        scan_sensitivity(model, graph, scores, lambda: float("nan"))
