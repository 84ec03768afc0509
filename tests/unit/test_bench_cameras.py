"""bench_cameras: what it makes of runs. The peers themselves are not here; their loop is only read."""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bench import bench_cameras
from bench.bench_cameras import OURS, Contest, our_config, report, run_process
from blob_bundle import write_blob_bundle, write_walk

from edgeai.bundle import load_bundle
from edgeai.config import load_config
from edgeai.engines import EngineUnavailableError, open_engine
from edgeai.errors import EdgeError


@pytest.fixture
def contest(tmp_path) -> Contest:
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi")
    return Contest("blob, small", load_bundle(str(tmp_path / "blob")), tmp_path / "walk.avi", {"loop": {}})


def test_our_configuration_is_one(contest, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(our_config(contest))
    (camera,) = load_config(path).cameras
    assert not camera.realtime
    assert camera.rules[0].name == "line"


def test_our_run_is_a_row(contest, tmp_path):
    try:
        open_engine(contest.bundle).close()
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    row = bench_cameras.run_ours(contest, tmp_path)
    assert row["frames"] == 40
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert row[
        "fps"
    ]  # of 40 frames, and a start measured in another run: it may come out as anything on a busy machine
    assert row["rss_mb"] > 10
    assert row["first_s"] < row["wall_s"] + 60


def test_a_process_is_timed_to_its_first_line():
    command = [
        sys.executable,
        "-c",
        "import time; print('first', flush=True); time.sleep(0.2); print('last')",
    ]
    run = run_process(command, first="first", env=os.environ)
    assert 0 < run["first_s"] <= run["wall_s"] - 0.2
    assert [line.strip() for line in run["lines"]] == ["first", "last"]
    assert run["cpu_s"] > 0


def test_a_process_that_fails_is_told():
    with pytest.raises(EdgeError, match=r"code 3: .*broken"):
        run_process(
            [sys.executable, "-c", "import sys; print('broken', file=sys.stderr); sys.exit(3)"],
            first="x",
            env=os.environ,
        )


def test_ratios_are_of_ours_over_theirs(contest, capsys):
    row = {
        "first_s": 1.0,
        "wall_s": 5.0,
        "cpu_s": 4.0,
        "rss_mb": 100.0,
        "p50_ms": 4.0,
        "p99_ms": 8.0,
        "in": 2.0,
        "out": 1.0,
    }
    row |= {"frames": 401.0, "fps": 100.0}
    contest = replace(contest, rows={OURS: [row] * 5, "loop": [{**row, "fps": 50.0, "p99_ms": 16.0}] * 5})
    bench_cameras.print_contests([contest])
    shown = capsys.readouterr().out
    assert "2.00±0%" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    told = report([contest])
    rows = {each["name"]: each for each in told["results"]}
    assert told["bench"] == "cameras"
    assert rows["blob, small/ours over loop/fps"]["value"] == 2.0
    assert rows["blob, small/ours over loop/p99_ms"]["value"] == 0.5
    assert rows[f"blob, small/{OURS}/fps"] == {
        "name": f"blob, small/{OURS}/fps",
        "unit": "1/s",
        "p50": 100.0,
        "p90": 100.0,
        "p99": 100.0,
        "n": 5,
    }


def test_no_environment_is_told(tmp_path, shared_data, capsys):
    asked = ["--data", str(shared_data), "--environment", str(tmp_path / "none"), "--work", str(tmp_path)]
    assert bench_cameras.main(asked) != 0
    assert "run .ci/peers.sh cameras" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["camera_loop.py", "mediapipe_metadata.py"])
def test_the_peers_know_nothing_of_us(name):
    source = (Path(bench_cameras.__file__).parent / "peers" / name).read_text()
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not any(each.partition(".")[0] in ("edgeai", "compress", "bench") for each in imported)
