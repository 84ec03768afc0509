"""`edgeai run` with [[sinks]] and no broker: a file, a webhook and standard output get the same events from one outbox."""

import json
import subprocess
import sys

import cv2
import pytest
from blob_bundle import SIDE_PX, picture, write_blob_bundle, write_walk
from broker import free_port
from webhook_server import Receiver, verified

pytestmark = pytest.mark.system

LIMIT_S = 90
HEAD = """\
device = "cam"
[[cameras]]
name = "gate"
source = "video.avi"
model = "./blob"
realtime = {realtime}
tracker = {{ lost_s = 0.05, confirm_hits = 1 }}
[[cameras.rules]]
kind = "track"
"""
FILE = """\
[[sinks]]
name = "file"
kind = "file"
path = "events.jsonl"
classes = ["alarm", "event"]
"""
HOOK = """\
[[sinks]]
name = "hook"
kind = "webhook"
url = "http://127.0.0.1:{port}/hook"
secret_file = "key"
classes = ["alarm", "event"]
"""
STDOUT = """\
[[sinks]]
name = "out"
kind = "stdout"
classes = ["alarm", "event"]
"""


@pytest.fixture
def place(tmp_path):
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "video.avi")
    (tmp_path / "key").write_text("k3y\n")
    return tmp_path


def start(place, *sinks, realtime="false"):
    path = place / "device.toml"
    path.write_text(HEAD.format(realtime=realtime) + "".join(sinks))
    return subprocess.Popen(
        [sys.executable, "-m", "edgeai", "run", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def types(events):
    return [event["type"] for event in events if event["stream"] == "gate"]


def test_every_destination_gets_every_event(place):
    with Receiver() as receiver:
        out, err = start(place, FILE, HOOK.format(port=receiver.port), STDOUT).communicate(timeout=LIMIT_S)
    wanted = ["track_started", "track_ended"]
    assert types(json.loads(line) for line in (place / "events.jsonl").read_bytes().splitlines()) == wanted
    assert types(event for request in receiver.requests for event in request.events) == wanted
    assert types(json.loads(line) for line in out.splitlines()) == wanted
    assert all(verified(request, "k3y") for request in receiver.requests)
    assert "Traceback" not in err
    assert "k3y" not in err


def test_a_webhook_that_is_away_gets_them_at_the_next_run(place):
    port = free_port()
    _, err = start(place, FILE, HOOK.format(port=port)).communicate(timeout=LIMIT_S)
    assert "wait in the outbox" in err
    assert (
        len((place / "events.jsonl").read_bytes().splitlines()) == 2
    )  # the file does not wait for the webhook
    with Receiver(port=port) as receiver:
        start(place, FILE, HOOK.format(port=port)).communicate(timeout=LIMIT_S)
    assert types(receiver.accepted) == ["track_started", "track_ended"] * 2


def write_blinks(path, *, blinks, fps):
    """A square that is there for 4 frames and gone for 4, again and again: two events each time."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (SIDE_PX, SIDE_PX))
    for _ in range(blinks):
        for x in (24, 24, 24, 24, None, None, None, None):
            writer.write(picture(x))
    writer.release()


def test_a_reader_that_goes_away_ends_the_run_well(place):
    write_blinks(place / "video.avi", blinks=4000, fps=40.0)  # 800 s, longer than the test may take
    process = start(place, STDOUT, realtime="true")
    assert json.loads(process.stdout.readline())["type"] == "track_started"
    process.stdout.close()
    assert process.wait(LIMIT_S) == 0
    assert "Traceback" not in process.stderr.read()
