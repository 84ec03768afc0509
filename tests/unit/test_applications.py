"""The bench over keras.applications, short: its smallest networks, and that it knows all of them."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def bench():
    from compress.quiet import start_tensorflow

    start_tensorflow()
    from bench import bench_applications

    return bench_applications


def test_half_of_the_channels_of_small_networks_go(bench, capsys):
    assert bench.main(["--only", "MobileNet,MobileNetV3Small", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    figures = {entry["name"]: entry["value"] for entry in report["results"]}
    assert figures["halved"] == 1
    for name in ("MobileNet", "MobileNetV3Small"):
        assert figures[f"{name}/max_relative"] <= 1e-4
        assert figures[f"{name}/parameters_kept"] < 0.35


def test_every_network_of_the_module_is_known(bench):
    names = bench.application_names()
    assert len(names) >= 38
    assert set(bench.BLOCKED) <= set(names)
    assert len(bench.BLOCKED) <= 0.2 * len(names)


def test_a_name_that_is_none_is_told(bench, capsys):
    assert bench.main(["--only", "MobileNet,MobilNet"]) == 2
    assert "no such network: MobilNet; there are ConvNeXt" in capsys.readouterr().err
