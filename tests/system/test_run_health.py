"""Health on standard output, where there is no broker, and what SIGHUP does there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from blob_bundle import write_blob_bundle, write_walk

pytestmark = pytest.mark.system

CONFIG = """\
device = "cam"
{}
[[cameras]]
name = "gate"
source = "walk.avi"
model = "./blob"
realtime = false
[[cameras.rules]]
kind = "track"
"""


@pytest.mark.parametrize("section", ["", "[health]\nevery_s = 5", "[health]\nenabled = false"])
def test_health_is_printed_where_the_file_asks_for_it(tmp_path, section):
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi")
    path = tmp_path / "device.toml"
    path.write_text(CONFIG.format(section))
    done = subprocess.run(
        [sys.executable, "-m", "edgeai", "run", str(path)],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    events = ["track_started", "track_ended"]
    of_itself = ("info", "health", "totals")
    assert [each for each in types if each not in of_itself] == events
    assert set(types) - set(events) == (set(of_itself) if "every_s" in section else set())
    assert not (tmp_path / "state").exists()
