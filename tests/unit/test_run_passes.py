"""The runner's book-keeping without any training: what is kept, undone, skipped and told."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from tiny_recipe import squares_recipe

from compress.candidate import Candidate, EngineFile
from compress.recipe import parse_recipe

pytestmark = pytest.mark.compress


class Network:
    """Stands for a Keras model: a name, and a file when saved."""

    def __init__(self, name):
        self.name = name

    def save(self, path):
        path.write_text(self.name)


class Play:
    """Passes and measurements as a script: {pass kind: (value, bytes, milliseconds)}."""

    def __init__(self, monkeypatch, work, script):
        from compress import run
        from compress.measure.cost import Cost
        from compress.measure.metric import Metric
        from compress.passes.bench import Measured

        self.script, self.work, self.measurements = script, work, 0
        kinds = {}
        for kind in ("train", "prune", "distill"):
            kinds[kind] = lambda settings, c, bench: replace(
                c,
                network=Network(settings.kind),
                reference=c.network if settings.kind == "prune" else c.reference,
                files=(),
            )
        for kind, file in (("quantize", ("tflite", "int8")), ("export", ("onnx", "float32"))):
            kinds[kind] = lambda settings, c, bench, file=file: replace(
                c, files=(*c.files, EngineFile(work / "_".join(file), *file))
            )
        self.last = "load"

        def tell(kind):
            def apply(settings, candidate, bench):
                self.last = kind
                if kind == "prune" and settings.macs_ratio != PRUNE["macs_ratio"]:
                    self.last = f"prune {settings.macs_ratio:.3f}"
                return kinds[kind](settings, candidate, bench)

            return apply

        monkeypatch.setattr(run, "PASSES", {kind: tell(kind) for kind in kinds})

        def measure(candidate):
            from compress.passes.bench import chosen_file

            self.measurements += 1
            value, size, ms = script[self.last]
            file = chosen_file(candidate) or EngineFile(work / "measured", "tflite", "float32")
            return Measured(
                10, 100, Metric("AP50", value, (value, value), 5), Cost(size, size, ms, ms, ms), file
            )

        from compress.passes.bench import Bench

        class Scripted(Bench):
            def measure(self, candidate):
                return measure(candidate)

        self.bench = Scripted(None, None, work)

    def run(self, **changes):
        """As run_recipe does it: a run that was cut off goes on."""
        from compress.record import SavedRun
        from compress.run import _run_passes

        recipe = parse_recipe(squares_recipe(**changes), where="here")
        saved = SavedRun(self.work, "fingerprint")
        state = saved.load() or (Candidate(Network("start")), [])
        return _run_passes(recipe, self.bench, saved, *state)


FIT = {"steps": 1}
TRAIN, PRUNE, DISTILL, INT8, ONNX = (
    {"kind": "train", "fit": FIT},
    {"kind": "prune", "macs_ratio": 0.5, "fit": FIT},
    {"kind": "distill", "fit": FIT},
    {"kind": "quantize"},
    {"kind": "export"},
)


@pytest.fixture
def readable_networks(monkeypatch):
    from compress import record

    monkeypatch.setattr(record, "keras_network", lambda path: Network(path.read_text()))


def test_a_pass_that_drops_too_much_is_undone_and_told(monkeypatch, tmp_path, capsys):
    play = Play(monkeypatch, tmp_path, {"train": (0.8, 9, 1), "prune": (0.6, 5, 1), "quantize": (0.79, 2, 1)})
    candidate, records = play.run(passes=[TRAIN, PRUNE, INT8], budget={"max_drop": 0.05, "retries": 0})
    assert candidate.network.name == "train"
    assert [r.kept for r in records] == [True, False, True]
    assert records[1].reason == "AP50 dropped by 0.200, allowed are 0.05"
    assert "undone: AP50 dropped" in capsys.readouterr().err
    told = json.loads((tmp_path / "records.json").read_text())
    assert [row["kept"] for row in told] == [True, False, True]
    assert not list(tmp_path.glob("after-2-*"))


def test_a_pass_that_drops_too_much_is_tried_again_softer(monkeypatch, tmp_path, capsys, readable_networks):
    play = Play(
        monkeypatch,
        tmp_path,
        {"train": (0.8, 9, 1), "prune": (0.6, 5, 1), "prune 0.707": (0.78, 6, 1), "quantize": (0.79, 2, 1)},
    )
    passes, budget = [TRAIN, PRUNE, INT8], {"max_drop": 0.05, "retries": 2}
    candidate, records = play.run(passes=passes, budget=budget)
    assert [(r.kind, r.kept, r.tried_again) for r in records] == [
        ("train", True, False),
        ("prune", False, True),
        ("prune", True, False),
        ("quantize", True, False),
    ]
    assert candidate.reference.name == "train", "the second attempt begins where the first one did"
    assert "tried again, asking for less: AP50 dropped by 0.200" in capsys.readouterr().err
    assert [row["tried_again"] for row in json.loads((tmp_path / "records.json").read_text())][1]


def test_a_run_cut_off_between_attempts_goes_on_with_the_next(monkeypatch, tmp_path, readable_networks):
    script = {"train": (0.8, 9, 1), "prune": (0.6, 5, 1)}
    passes, budget = [TRAIN, PRUNE, INT8], {"max_drop": 0.05, "retries": 2}
    with pytest.raises(KeyError):
        Play(monkeypatch, tmp_path, script).run(passes=passes, budget=budget)
    script = {"prune 0.707": (0.7, 6, 1), "prune 0.841": (0.71, 7, 1), "quantize": (0.8, 2, 1)}
    candidate, records = Play(monkeypatch, tmp_path, script).run(passes=passes, budget=budget)
    assert [(r.kept, r.tried_again) for r in records[1:]] == [
        (False, True),
        (False, True),
        (False, False),
        (True, False),
    ]
    assert candidate.network.name == "train"


def test_what_needs_an_undone_prune_is_skipped(monkeypatch, tmp_path):
    play = Play(monkeypatch, tmp_path, {"train": (0.8, 9, 1), "prune": (0.1, 5, 1), "quantize": (0.8, 2, 1)})
    candidate, records = play.run(
        passes=[TRAIN, PRUNE, DISTILL, INT8], budget={"max_drop": 0.05, "retries": 0}
    )
    assert [r.kept for r in records] == [True, False, False, True]
    assert records[2].reason.startswith("skipped")
    assert records[2].measured == records[0].measured
    assert candidate.network.name == "train"


@pytest.mark.parametrize(
    "budget, told", [({"max_bytes": 100}, "200 bytes, allowed are 100"), ({"max_latency_ms": 1.5}, "2.00 ms")]
)
def test_size_and_speed_count_for_the_int8_file_only(monkeypatch, tmp_path, budget, told):
    play = Play(
        monkeypatch, tmp_path, {"train": (0.8, 999, 99), "quantize": (0.8, 200, 2), "export": (0.8, 999, 99)}
    )
    candidate, records = play.run(passes=[TRAIN, INT8, ONNX], budget=budget)
    assert [r.kept for r in records] == [True, False, True]
    assert told in records[1].reason
    assert [file.format for file in candidate.files] == ["onnx"]


def test_an_export_is_not_measured_again(monkeypatch, tmp_path):
    play = Play(monkeypatch, tmp_path, {"train": (0.8, 9, 1), "quantize": (0.8, 2, 1)})
    _, records = play.run(passes=[TRAIN, INT8, ONNX])
    assert play.measurements == 2
    assert records[2].measured == records[1].measured


def test_a_loaded_network_is_what_drops_are_measured_against(monkeypatch, tmp_path):
    play = Play(monkeypatch, tmp_path, {"load": (0.9, 9, 1), "prune": (0.5, 5, 1), "quantize": (0.88, 2, 1)})
    network = {"kind": "keras-file", "init": "mine.keras"}
    _, records = play.run(passes=[PRUNE, INT8], budget={"max_drop": 0.05, "retries": 0}, network=network)
    assert [(r.kind, r.kept) for r in records] == [("load", True), ("prune", False), ("quantize", True)]


def test_a_run_that_was_cut_off_goes_on_after_its_last_pass(monkeypatch, tmp_path, readable_networks):
    script = {"train": (0.8, 9, 1), "prune": (0.79, 5, 1), "distill": (0.8, 5, 1), "quantize": (0.79, 2, 1)}
    passes = [TRAIN, PRUNE, DISTILL, INT8]
    cut_off = Play(monkeypatch, tmp_path, {k: v for k, v in script.items() if k != "distill"})
    with pytest.raises(KeyError):
        cut_off.run(passes=passes)
    play = Play(monkeypatch, tmp_path, script)
    candidate, records = play.run(passes=passes)
    assert [r.kind for r in records] == ["train", "prune", "distill", "quantize"]
    assert play.measurements == 2, "what was measured before is not measured again"
    assert candidate.network.name == "distill"
    assert candidate.reference.name == "train"
    assert records[0].measured.metric.value == 0.8


def test_a_run_of_another_recipe_starts_anew(monkeypatch, tmp_path, readable_networks):
    from compress.record import SavedRun

    play = Play(monkeypatch, tmp_path, {"train": (0.8, 9, 1), "quantize": (0.8, 2, 1)})
    play.run(passes=[TRAIN, INT8])
    (tmp_path / "tflite_int8").write_text("engine")
    assert SavedRun(tmp_path, "another").load() is None
    assert SavedRun(tmp_path, "fingerprint").load() is not None
    for broken in ("", "{", "[]", '{"fingerprint": "fingerprint"}'):
        (tmp_path / "state.json").write_text(broken)
        assert SavedRun(tmp_path, "fingerprint").load() is None


def test_the_fingerprint_changes_with_recipe_and_data(tmp_path):
    from compress.record import run_fingerprint

    folder = tmp_path / "squares"
    folder.mkdir()
    (folder / "instances_train.json").write_text("{}")
    recipe = parse_recipe(squares_recipe(), where="here")
    first = run_fingerprint(recipe, tmp_path)
    assert first == run_fingerprint(recipe, tmp_path)
    assert first != run_fingerprint(parse_recipe(squares_recipe(steps=41), where="here"), tmp_path)
    os.utime(folder / "instances_train.json", (1, 1))  # unpacked anew
    assert first == run_fingerprint(recipe, tmp_path)
    (folder / "instances_train.json").write_text("[]")
    assert first != run_fingerprint(recipe, tmp_path)


def test_a_fingerprint_reads_no_more_than_its_share(tmp_path, monkeypatch):
    from compress import record

    monkeypatch.setattr(record, "_MAX_READ", 2)
    folder = tmp_path / "squares"
    folder.mkdir()
    (folder / "instances_train.json").write_text("{}")
    (folder / "long.mp4").write_bytes(b"film")
    recipe = parse_recipe(squares_recipe(), where="here")
    first = record.run_fingerprint(recipe, tmp_path)
    os.utime(folder / "long.mp4", (1, 1))
    assert first != record.run_fingerprint(recipe, tmp_path)


def test_the_fingerprint_changes_with_a_teacher(tmp_path):
    from compress.record import run_fingerprint

    taught = {**DISTILL, "teacher": "big.tflite"}
    recipe = parse_recipe(squares_recipe(passes=[TRAIN, taught, INT8]), where="here")
    (tmp_path / "big.tflite").write_bytes(b"one")
    first = run_fingerprint(recipe, tmp_path)
    (tmp_path / "big.tflite").write_bytes(b"another")
    assert first != run_fingerprint(recipe, tmp_path)
