"""The bench over exports, short: one recurrent network through all of it, and that it knows every network."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def bench():
    from compress.quiet import start_tensorflow

    start_tensorflow()
    from bench import bench_exports

    return bench_exports


def test_a_network_is_trained_exported_and_compared(bench, tmp_path, capsys):
    arguments = ["--only", "gru", "--work", str(tmp_path)]
    assert bench.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    figures = {entry["name"]: entry["value"] for entry in report["results"]}
    assert figures["held"] == 1
    assert figures["gru/float"] > 0.8
    assert figures["gru/agree"] > 0.95
    assert figures["gru/onnx"] > 0.95
    kept = tmp_path / "gru.json"
    kept.write_text(kept.read_text().replace(f'"float": {figures["gru/float"]}', '"float": 0.5'))
    assert bench.main(arguments) == 0  # what was measured is not measured again
    out = capsys.readouterr().out
    assert " 0.500 " in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_every_network_of_the_module_is_known_and_few_are_apart(bench):
    names = bench.application_names()
    assert set(bench.APART) | set(bench.UNTRIED) <= set(names)
    assert not set(bench.APART) & set(bench.UNTRIED)
    assert len(bench.APART) + len(bench.UNTRIED) <= 0.2 * len(names)
    assert bench.as_expected({"network": "VGG16", "holds": True, "faults": []})
    assert not bench.as_expected({"network": "VGG16", "refused": "no kernel"})
    assert bench.as_expected({"network": next(iter(bench.APART)), "holds": False, "faults": []})


def test_a_name_that_is_none_is_told(bench, tmp_path, capsys):
    assert bench.main(["--only", "gruu", "--work", str(tmp_path)]) == 2
    assert "no such network: gruu; there are lstm, gru" in capsys.readouterr().err


def test_a_network_that_learnt_nothing_holds_nothing(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "train", lambda *given: None)
    assert bench.main(["--only", "gru", "--work", str(tmp_path)]) == 1
    assert "0 of 1 say what they were made of says" in capsys.readouterr().out
