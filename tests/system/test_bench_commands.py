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


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, shared_data) -> tuple[Path, dict, str]:
    """(folder, the JSON, what was said) of a short run; the JSON is kept as pipeline.json."""
    folder = tmp_path_factory.mktemp("pipeline")
    done = edgeai_bench(
        *(
            "pipeline",
            str(shared_data / "videos" / "vtest.avi"),
            "--frames",
            "20",
            "--size",
            "640x480",
            "--json",
        ),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    (folder / "pipeline.json").write_text(done.stdout)
    return folder, json.loads(done.stdout), done.stderr


def test_a_pipeline_has_the_names_that_others_rely_on(pipeline):
    _, report, said = pipeline
    rows = {row["name"]: row for row in report["results"]}
    names = {
        "overhead_ms",
        "engine_ms",
        "rss_per_camera_mb",
        "first_detection_s",
        "frame_age_ms",
        "fair_share_ratio",
    }
    if "left out what needs a broker" not in said:
        names |= {"capture_to_broker_ms", "capture_to_broker_durable_ms", "fsync_ms"}
        assert "did not reach the subscriber" not in said
    assert names <= set(rows)
    assert rows["frame_ms"]["p50"] > rows["engine_ms"]["p50"]
    assert 0 <= rows["rss_per_camera_mb"]["value"] < 100
    assert "loaded TensorFlow" not in said
    assert "Traceback" not in said


def test_a_pipeline_in_part_is_put_beside_a_whole_one(pipeline, shared_data):
    folder, _, _ = pipeline
    done = edgeai_bench(
        *("pipeline", str(shared_data / "videos" / "vtest.avi"), "--frames", "10", "--only", "overhead"),
        *("--compare", "pipeline.json", "--markdown", "pipeline.md"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "vtest.avi at 768 x 576" in done.stdout
    text = (folder / "pipeline.md").read_text()
    assert "| overhead_ms | ms |" in text
    assert "first_detection_s" not in text
