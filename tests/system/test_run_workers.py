"""`edgeai-compress run --distribute multi-worker`: two processes train one network, the first one writes the bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from broker import free_port
from tiny_recipe import toml_of, tones_recipe, write_tones

FIT = {"steps": 20, "batch": 16, "learning_rate": 5e-3, "average": 0.8}
PASSES = [
    {"kind": "train", "fit": FIT},
    {"kind": "prune", "macs_ratio": 0.6, "rounds": 1, "looks": 1, "fit": {**FIT, "steps": 4}},
    {"kind": "quantize", "precision": "int8", "calibration": 20},
]

pytestmark = [pytest.mark.compress, pytest.mark.system]


def test_two_processes_make_one_bundle(tmp_path):
    write_tones(tmp_path / "data" / "tones")
    (tmp_path / "recipe.toml").write_text(toml_of(tones_recipe(passes=PASSES)))
    addresses = [f"localhost:{free_port()}" for _ in range(2)]

    def worker(index):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [Path(sys.executable).with_name("edgeai-compress"), "run", "recipe.toml", "--data", "data"]
        return subprocess.Popen(
            [*command, "--json", "--distribute", "multi-worker", "--out", "bundle", "--work", "work"],
            cwd=tmp_path,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": json.dumps(task)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    workers = [worker(0), worker(1)]
    said = [process.communicate(timeout=300) for process in workers]
    for process, (_, notes) in zip(workers, said, strict=True):
        assert process.returncode == 0, notes
    first, second = (json.loads(out) for out, _ in said)
    assert Path(first["bundle"]) == tmp_path / "bundle"
    assert Path(second["bundle"]) == tmp_path / "work-worker-1" / "bundle"
    assert (tmp_path / first["report"]).is_file() and first["report"] != second["report"]
    assert [p["kept"] for p in first["passes"]] == [p["kept"] for p in second["passes"]] == [True] * 3
    # the same weights: so are the engines made of them
    files = [next((tmp_path / made["bundle"]).glob("*int8.tflite")) for made in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()
