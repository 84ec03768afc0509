"""Everything that `edgeai run` publishes is as the schema of its topic says, checked by a validator that is not ours."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from blob_bundle import write_blob_bundle, write_walk
from broker import Mosquitto, Subscriber
from jsonschema import Draft202012Validator
from tiny_bundle import write_keyword_bundle

from edgeai.sinks.schemas import SCHEMAS, TOPICS

pytestmark = pytest.mark.system

ROOT = "edge/v1/default/default/cam/"
CONFIG = """\
device = "cam"
[mqtt]
host = "127.0.0.1"
port = {port}
[[cameras]]
name = "gate"
source = "walk.avi"
model = "./blob"
realtime = false
[[cameras.rules]]
kind = "track"
[[cameras.rules]]
kind = "line"
name = "Main gate v1.2"
a = [0.5, 1.0]
b = [0.5, 0.0]
[[cameras.rules]]
kind = "zone"
name = "lot"
polygon = [[0.3, 0.0], [0.9, 0.0], [0.9, 1.0], [0.3, 1.0]]
[[microphones]]
name = "hall"
source = "said.wav"
model = "./voice"
threshold = 0.4
"""


def carriage(topic):
    """The row of the table of topics that this topic is."""
    levels = topic.split("/")
    for one in TOPICS:
        wanted = one.topic.split("/")
        # a stream's placeholder is not for the device's own events
        same = len(wanted) == len(levels) and topic.endswith("/_device") == one.topic.endswith("/_device")
        if same and all(
            want in (level, f"<{want[1:-1]}>") for want, level in zip(wanted, levels, strict=True)
        ):
            return one
    raise AssertionError(f"no schema tells of {topic}")


def check(topic, payload):
    """The name of the schema that the message is right by."""
    one = carriage(topic)
    if one.content == "image/jpeg":
        assert payload.startswith(b"\xff\xd8")
        return "image"
    value = json.loads(payload)
    kind = {"totals": "telemetry"}.get(value.get("type"), value.get("type"))
    name = kind if kind in one.schemas else one.schemas[0]
    assert [error.message for error in Draft202012Validator(SCHEMAS[name]).iter_errors(value)] == [], topic
    properties = SCHEMAS[name]["properties"]
    assert set(value) <= set(properties), name
    if "data" in value:
        assert set(value["data"]) <= set(properties["data"]["properties"]), name
    return name


def test_everything_that_a_run_publishes(tmp_path):
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi")
    write_keyword_bundle(tmp_path / "voice")
    soundfile.write(tmp_path / "said.wav", np.random.default_rng(3).normal(0, 0.1, 48000), 16000)
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:
        (tmp_path / "device.toml").write_text(CONFIG.format(port=broker.port))
        done = subprocess.run(
            [sys.executable, "-m", "edgeai", "run", str(tmp_path / "device.toml")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert subscriber.wait_for(
            lambda messages: any(
                b"offline" in payload for topic, payload, _ in messages if topic == f"{ROOT}state"
            )
        )
        seen = {check(topic, payload) for topic, payload, _ in subscriber.messages}
    assert seen >= {
        "state", "track_started", "track_ended", "line_crossed", "zone_entered", "zone_left", "zone_occupancy", "keyword",
    }  # fmt: skip
