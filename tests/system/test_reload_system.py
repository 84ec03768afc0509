"""Reload under load: 50 SIGHUPs in a row change, add and remove cameras, and those that stay lose not one frame."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from blob_bundle import write_blob_bundle, write_walk

pytestmark = pytest.mark.system

LIMIT_S = 120.0
FPS = 5.0  # slow, so that a noisy machine has 200 ms for each frame, and a reload that takes longer shows
FRAMES = 10
LOOP_S = FRAMES / FPS
RELOADS = 50
STAY = ("stays-1", "stays-2", "stays-3")

HEAD = """\
device = "cam"
[health]
every_s = 1
"""
CAMERA = """\
[[cameras]]
name = "{name}"
source = "walk.avi"
model = "./blob"
score_threshold = {threshold}
capture = {{ loop = true }}
tracker = {{ lost_s = 0.05, confirm_hits = 1 }}
rules = [{{ kind = "track" }}]
"""


def config(threshold=0.4, *, more=(), less=()):
    """Those that stay, one that changes, and others."""
    text = HEAD + "".join(CAMERA.format(name=name, threshold=0.4) for name in STAY if name not in less)
    text += CAMERA.format(name="changes", threshold=threshold)
    return text + "".join(CAMERA.format(name=name, threshold=0.4) for name in more)


class Device:
    """`edgeai run` as a process; what it prints and logs is kept."""

    def __init__(self, path: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeai", "run", str(path), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict] = []
        self.logged: list[str] = []
        self._news = threading.Condition()
        self._threads = [
            threading.Thread(
                target=self._read, args=(self._process.stdout, self.said, json.loads), daemon=True
            ),
            threading.Thread(target=self._read, args=(self._process.stderr, self.logged, str), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream, kept, parse):
        for line in stream:
            with self._news:
                kept.append(parse(line))
                self._news.notify_all()

    def wait_for(self, true, what):
        with self._news:
            assert self._news.wait_for(true, LIMIT_S), f"{what}: {self.logged[-5:]}"

    def reload(self):
        """Send SIGHUP, and wait for what the log says of it: True where it was reloaded."""
        seen = len(self.logged)

        def answers():
            return [line for line in self.logged[seen:] if "reloaded" in line]

        self._process.send_signal(signal.SIGHUP)
        self.wait_for(answers, "an answer to SIGHUP")
        return "not reloaded" not in answers()[0]

    def health(self):
        """The newest, of each stream."""
        return next(each for each in reversed(self.said) if each["type"] == "health")["data"]["streams"]

    def end(self):
        """SIGTERM, and the exit code; what it printed last is its summary."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(LIMIT_S)
        for thread in self._threads:
            thread.join(LIMIT_S)
        return code

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def device(tmp_path):
    """A running device whose file is tmp_path / "device.toml"."""
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi", frames=FRAMES, fps=FPS)
    path = tmp_path / "device.toml"
    path.write_text(config())
    device = Device(path)
    yield device
    device.kill()


def stalls_s(stop: threading.Event) -> list[float]:
    """How long this machine kept a thread from running that wanted to, each time longer than 50 ms, until `stop`."""
    found = []
    before_s = time.monotonic()
    while not stop.wait(0.01):
        now_s = time.monotonic()
        if now_s - before_s > 0.06:
            found.append(now_s - before_s)
        before_s = now_s
    return found


def test_untouched_cameras_lose_no_frame_over_fifty_reloads(device, tmp_path):
    path = tmp_path / "device.toml"
    device.wait_for(
        lambda: {each["stream"] for each in device.said} >= {*STAY, "changes"}, "events of all cameras"
    )
    stop, stalls = threading.Event(), []
    watch = threading.Thread(target=lambda: stalls.extend(stalls_s(stop)))
    watch.start()
    began_s = time.monotonic()
    try:
        for number in range(RELOADS):
            if number == RELOADS // 2:
                path.write_text(config(0.99).replace("[health]", "[helth]"))
                assert not device.reload()
                assert "did you mean 'health'?" in device.logged[-1]
                path.write_text(config(0.99).replace('"./blob"\nscore_threshold = 0.99', '"./none"'))
                assert not device.reload()
                assert "no bundle" in device.logged[-1]
            path.write_text(config(0.3 + 0.001 * number, more=[f"comes-{number}"][: number % 2]))
            assert device.reload()
    finally:
        stop.set()
        watch.join()
    took_s = time.monotonic() - began_s
    before = len(device.said)
    device.wait_for(  # one whole loop of each after the last reload
        lambda: {each["stream"] for each in device.said[before:] if each["type"] == "track_ended"} >= {*STAY},
        "the cameras that stay go on",
    )
    assert device.end() == 0
    summary = device.said[-1]
    reports = {each["name"]: each for each in summary["streams"]}
    assert list(reports) == [*STAY, "changes", f"comes-{RELOADS - 1}"]
    assert not any(each["failed"] for each in reports.values())
    # a stall of the whole machine that is longer than a frame's time costs frames, whoever stalls it
    pardoned = sum(int(stall_s * FPS) for stall_s in stalls)
    for name in STAY:
        assert reports[name]["dropped"] <= pardoned, (reports[name], stalls)
        assert reports[name]["frames"] + reports[name]["dropped"] >= took_s * FPS - 2
        # each walk of the video is one track: begun at its first frame, ended at the next walk's, on a clock that runs on
        begun = [
            each for each in device.said if each.get("stream") == name and each["type"] == "track_started"
        ]
        steps = [after["time_s"] - before["time_s"] for before, after in itertools.pairwise(begun)]
        assert len(steps) >= int(took_s / LOOP_S) - 1
        if not pardoned:
            assert all(abs(step_s - LOOP_S) < 0.001 for step_s in steps), steps
    print(f"{RELOADS} reloads in {took_s:.1f} s, stalls of the machine {[round(each, 3) for each in stalls]}")


def test_a_reload_that_takes_a_camera_away_leaves_the_others(device, tmp_path):
    device.wait_for(
        lambda: {each["stream"] for each in device.said} >= {*STAY, "changes"}, "events of all cameras"
    )
    (tmp_path / "device.toml").write_text(config(less=STAY[1:]))
    assert device.reload()
    before = len(device.said)
    device.wait_for(lambda: any(each["type"] == "health" for each in device.said[before:]), "health")
    assert set(device.health()) == {STAY[0], "changes"}
    assert device.end() == 0
