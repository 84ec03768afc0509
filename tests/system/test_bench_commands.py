"""`edgeai bench` as a user types it, on the zoo's `commands`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgeai

ROOT = Path(edgeai.__file__).parents[1]


def edgeai_bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeai", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EDGEAI_CACHE": str(cwd / "cache")},
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[Path, dict]:
    """(folder, the JSON) of a first run, kept there as first.json; its page is page.html."""
    folder = tmp_path_factory.mktemp("bench")
    done = edgeai_bench(
        *("engines", "-b", "commands", "--runs", "40", "--instances", "1,2", "--json", "--html", "page.html", "--save"),
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (folder / "first.json").write_text(done.stdout)
    return folder, json.loads(done.stdout)


def test_names_that_others_rely_on(first):
    _, report = first
    assert {"bench", "device", "versions", "results"} <= set(report)
    names = {row["name"] for row in report["results"]}
    for kind in ("tflite/int8", "onnx/float32", "onnx/int8"):
        assert {f"commands/{kind}_ms", f"commands/{kind}_overhead_us"} <= names
    assert "overhead_us" in names
    assert {"peak_float32_gmacs", "peak_int8_gmacs"} <= names


def test_accuracy_stands_beside_latency(first):
    _, report = first
    for each in report["engines"]:
        assert each["accuracy"]["metric"] == "accuracy"
        low, high = each["accuracy"]["ci95"]
        assert low < each["accuracy"]["value"] < high
        assert 0 < each["roofline"]["percent"] < 200
    assert {each["roofline"]["macs"] for each in report["engines"]} == {3024528}


def test_the_page_shows_all_and_asks_for_nothing(first):
    folder, _ = first
    text = (folder / "page.html").read_text()
    for part in ("Latency", "Accuracy", "Throughput", "Roofline", "The machine", "accuracy against latency"):
        assert part in text
    assert text.count("<svg") == 5  # boxes, accuracy, throughput of one and of two engines, roofline
    page = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|src=|href=|@import|url\(", page)


def test_saved_medians_are_used(first):
    folder, report = first
    table = json.loads((folder / "cache" / "engines" / "measured.json").read_text())
    (row,) = table["rows"]
    assert row["bundle"] == "commands"
    medians = {each["name"]: each.get("p50") for each in report["results"]}
    assert row["p50_ms"]["tflite/int8"] == pytest.approx(medians["commands/tflite/int8_ms"], abs=1e-3)


def test_a_second_run_is_put_beside(first):
    folder, _ = first
    done = edgeai_bench(
        *("engines", "-b", "commands", "--runs", "40", "--engine", "tflite", "--compare", "first.json", "--markdown", "two.md"),
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "commands: now over before, with its 95 % interval" in done.stdout
    assert "| tflite/int8_ms |" in (folder / "two.md").read_text()


def test_another_bundle_cannot_be_put_beside(first):
    folder, _ = first
    done = edgeai_bench("tracking", "--frames", "10", "--compare", "first.json", cwd=folder)
    assert done.returncode == 2
    assert "edgeai: error: cannot compare with a file of `edgeai bench engines`" in done.stderr


def test_tracking(tmp_path):
    done = edgeai_bench("tracking", "--frames", "20", "--json", "--markdown", "new/t.md", cwd=tmp_path)
    assert "| objects_100_ms | ms |" in (tmp_path / "new" / "t.md").read_text()
    names = [row["name"] for row in json.loads(done.stdout)["results"]]
    assert names == ["objects_20_ms", "objects_50_ms", "objects_100_ms", "objects_500_ms"]
