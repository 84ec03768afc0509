"""The bench beside peers, without the peers: its table and figures from a made-up record, what it asks of them, and how it says that one is missing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from bench.peers.exchange import Exchange, Facts, Made, dump_facts, open_exchange
from bench.peers.offer import describe_network, facts_of

from compress.recipe import load_recipe
from edgeai.errors import EdgeError

pytestmark = pytest.mark.compress

ROW = {
    "metric": "accuracy",
    "value": 0.991,
    "ci95": [0.982, 0.998],
    "n": 445,
    "engine": "tflite/float32",
    "bytes": 3_997_308,
    "gzip_bytes": 3_685_983,
    "ms_p50": 0.902,
    "macs": 14_968_776,
    "size_ratio": 1.0,
    "latency_ratio": 1.0,
    "less_baseline": [0.0, 0.0, 0.0],
    "seconds": None,
}


@pytest.fixture(scope="module")
def bench(keras):
    from bench import bench_peers

    return bench_peers


@pytest.fixture
def facts():
    return Facts(
        rounds=(2, 2),
        last=3,
        batch=4,
        learning_rate=1e-3,
        weight_decay=0.0,
        macs_ratio=0.5,
        max_removed=0.9,
        teacher_share=0.7,
        divisor=255.0,
        seed=1,
    )


@pytest.fixture
def record():
    return {
        "device": {"machine": "made up"},
        "versions": {"peer torch": "0"},
        "split": "test",
        "results": [
            {"name": "baseline", "how": "ours, float", **ROW},
            {"name": "TP Taylor+KD", "how": "made up", **ROW, "engine": "onnx/int8"},
            {"name": "tfmot", "failed": "no .venv-peers: run .ci/peers.sh"},
        ],
    }


def test_the_table_fits_80_columns_and_names_a_missing_peer(bench, record, tmp_path, capsys):
    (tmp_path / "peers.json").write_text(json.dumps(record))
    assert bench.main(["--work", str(tmp_path), "--table"]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    lines = [line for line in out.splitlines() if ", int8" in line]
    assert len(lines) == 1
    figures = ["3,997", "3,686", "14.97", "0.902", "1.0", "1.0", "0.991"]
    assert lines[0].split() == ["TP", "Taylor+KD,", "int8", *figures]
    assert "not had: tfmot: no .venv-peers: run .ci/peers.sh" in out


def test_figures_are_in_the_shared_form(bench, record, tmp_path, capsys):
    (tmp_path / "peers.json").write_text(json.dumps(record))
    assert bench.main(["--work", str(tmp_path), "--table", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bench"] == "peers"
    assert told["device"] == {"machine": "made up"}
    names = [row["name"] for row in told["results"]]
    assert names == ["baseline/tflite/float32", "TP Taylor+KD/onnx/int8", "tfmot"]
    assert all("unit" in row for row in told["results"])


def test_without_figures_the_next_step_is_told(bench, tmp_path, capsys):
    assert bench.main(["--work", str(tmp_path), "--table"]) == 1
    assert "make bench-peers" in capsys.readouterr().err


def test_without_our_own_files_the_next_step_is_told(bench, tmp_path, capsys):
    assert bench.main(["--work", str(tmp_path), "--compressed", str(tmp_path)]) == 1
    assert "make bench-compress" in capsys.readouterr().err


def test_peers_get_the_steps_of_our_recipe(bench):
    recipe = load_recipe(bench.HERE / "compress" / "digits-small.toml")
    facts = facts_of(recipe, 1.0)
    assert (facts.rounds, facts.last, facts.steps) == ((150,) * 4, 400, 1000)
    assert facts.macs_ratio == 0.05
    assert facts_of(recipe, 0.001).steps == 10


def test_a_network_goes_over_as_names_and_arrays(bench, facts, tmp_path):
    import keras

    given = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(given)
    x = keras.layers.Add(name="sum")([x, keras.layers.Activation("relu6", name="act")(x)])
    network = keras.Model(
        given, keras.layers.Dense(2, name="class")(keras.layers.GlobalAveragePooling2D()(x))
    )
    layers, weights = describe_network(network)
    assert [layer["name"] for layer in layers][:3] == ["image", "conv", "act"]
    assert next(layer for layer in layers if layer["name"] == "sum")["inputs"] == ["conv", "act"]
    assert json.loads(json.dumps(layers))[0]["settings"] == {"shape": [8, 8, 3]}
    np.savez(tmp_path / "weights.npz", **weights)
    np.save(tmp_path / "pictures.npy", np.zeros((7, 4, 8, 8, 3), np.uint8))
    np.save(tmp_path / "targets.npy", np.zeros((7, 4, 2), np.float32))
    (tmp_path / "network.json").write_text(json.dumps(layers))
    (tmp_path / "facts.json").write_text(dump_facts(facts))
    opened = open_exchange(tmp_path)
    assert opened.facts == facts
    for name in ("conv", "class"):
        for got, wanted in zip(opened.weights(name), network.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert opened.weights("sum") == []
    assert [pictures.shape for pictures, _ in opened.batches(2, 2)] == [(4, 8, 8, 3)] * 2


def test_another_network_is_not_compared(bench, facts, tmp_path):
    logits = np.float32([[1, 2]])
    np.savez(tmp_path / "check.npz", pictures=np.zeros((1, 8, 8, 3), np.uint8), logits=logits)
    exchange = Exchange(tmp_path, facts, [], np.zeros(0, np.uint8), np.zeros(0, np.float32))
    assert exchange.check(lambda pictures: logits) == 0
    with pytest.raises(SystemExit, match="another one"):
        exchange.check(lambda pictures: logits * np.float32(1.001))
    with pytest.raises(SystemExit, match="another one"):
        exchange.check(lambda pictures: logits * np.nan)


def test_a_layer_without_a_rebuild_is_named(bench):
    import keras

    given = keras.Input((8, 8, 3))
    with pytest.raises(EdgeError, match=r"squash.*LayerNormalization"):
        describe_network(keras.Model(given, keras.layers.LayerNormalization(name="squash")(given)))


def test_a_peer_that_fails_says_why(bench, facts, tmp_path):
    for name, array in (("pictures", np.uint8), ("targets", np.float32)):
        np.save(tmp_path / f"{name}.npy", np.zeros(0, array))
    (tmp_path / "network.json").write_text("[]")
    (tmp_path / "facts.json").write_text(dump_facts(facts))
    nowhere = bench.run_peer("tfmot-qat", tmp_path, tmp_path / "out", tmp_path / "none")
    assert nowhere == {"failed": "no none: run .ci/peers.sh"}
    broken = tmp_path / "broken" / "bin"
    broken.mkdir(parents=True)
    (broken / "python").write_text("#!/bin/sh\necho no wheel for this machine >&2\nexit 3\n")
    (broken / "python").chmod(0o755)
    told = bench.run_peer("tfmot-qat", tmp_path, tmp_path / "out", broken.parent)
    assert told == {"failed": "exit 3: no wheel for this machine"}


def test_a_record_of_other_facts_is_made_again(bench, facts, tmp_path):
    for name, array in (("pictures", np.uint8), ("targets", np.float32)):
        np.save(tmp_path / f"{name}.npy", np.zeros(0, array))
    (tmp_path / "network.json").write_text("[]")
    (tmp_path / "facts.json").write_text(dump_facts(facts))
    out = tmp_path / "out"
    out.mkdir()
    Made(out, ("numpy",)).write(facts)
    assert bench.run_peer("tfmot-qat", tmp_path, out, tmp_path / "none")["rows"] == []
    (tmp_path / "facts.json").write_text(dump_facts(replace(facts, seed=2)))
    assert "failed" in bench.run_peer("tfmot-qat", tmp_path, out, tmp_path / "none")
