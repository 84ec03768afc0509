"""`edgeai run` with everything that it can report to at once, and `edgeai outbox`, against a real mosquitto."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from blob_bundle import write_blob_bundle, write_blob_config, write_walk
from broker import Mosquitto, Subscriber, free_port

pytestmark = pytest.mark.system


def edgeai(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "edgeai", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def place(tmp_path):
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "video.avi")
    return tmp_path


def write_config(place: Path, port: int, more: str = "") -> Path:
    return write_blob_config(place, port, realtime=False, more=f"connect_timeout_s = 1.0\n{more}")


EVERYTHING = """
[mqtt.frigate]
qos = 1
[mqtt.hermes]
[mqtt.home_assistant]
[mqtt.sparkplug]
group_id = "plant"
[[sinks]]
kind = "file"
name = "log"
path = "events.jsonl"
"""


def test_every_destination_gets_its_own_from_one_outbox(place):
    pytest.importorskip("google.protobuf")
    with Mosquitto(place / "broker") as broker, Subscriber(broker.port, "#") as subscriber:
        path = write_config(place, broker.port, EVERYTHING)
        said = edgeai("check", path, cwd=place).stdout
        for name in ("frigate", "hermes", "home_assistant", "sparkplug", "file log"):
            assert name in said
        report = json.loads(edgeai("run", path, "--json", cwd=place).stdout)
        assert report["waiting"] == 0
        assert subscriber.wait_for(
            lambda messages: (
                any(b'"offline"' in payload for _, payload, _ in messages)
                and any(payload == b"stopped" for _, payload, _ in messages)
            )
        )
        topics = {topic for topic, _, _ in subscriber.messages}
        native = [json.loads(payload) for topic, payload, _ in subscriber.messages if "/event/" in topic]
    assert [event["type"] for event in native] == ["track_started", "line_crossed", "track_ended"]
    assert [event["stream_seq"] for event in native] == [1, 2, 3]
    assert topics >= {
        "edge/v1/default/default/cam/state",
        "edge/v1/default/default/cam/info",
        "edge/v1/default/default/cam/telemetry/gate",
        "edge/v1/default/default/cam/cfg/reported",
        "frigate/available",
        "frigate/events",
        "homeassistant/device/cam/config",
        "spBv1.0/plant/NBIRTH/cam",
        "spBv1.0/plant/DBIRTH/cam/gate",
        "spBv1.0/plant/DDATA/cam/gate",
    }
    lines = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines if line["priority"] == "event"] == [e["type"] for e in native]
    assert {line["id"] for line in lines} >= {event["id"] for event in native}


def test_a_file_in_the_place_of_a_broker(place):
    path = write_config(place, 1, "")
    text = path.read_text()
    path.write_text(
        'device = "cam"\n[[sinks]]\nkind = "file"\nname = "log"\npath = "log/events.jsonl"\n'
        + text[text.index("[[cameras]]") :]
    )
    report = json.loads(edgeai("run", path, "--json", cwd=place).stdout)
    assert (report["waiting"], report["streams"][0]["events"]) == (0, 3)
    lines = [json.loads(line) for line in (place / "log" / "events.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["track_started", "line_crossed", "track_ended"]


def test_a_stick_carries_what_waits_and_only_the_receipt_deletes_it(place):
    pytest.importorskip("cryptography")
    (place / "key").write_text("07" * 32)
    path = write_config(place, free_port(), '[outbox]\nkey_file = "key"\n')
    edgeai("run", path, "--json", cwd=place)
    assert json.loads(edgeai("outbox", "status", path, "--json", cwd=place).stdout)["waiting"] >= 3
    stick = place / "cam.carry"
    exported = json.loads(edgeai("outbox", "export", path, stick, "--json", cwd=place).stdout)
    assert exported["messages"] == 3
    assert "is there already" in edgeai("outbox", "export", path, stick, cwd=place, code=2).stderr
    receipt = place / "cam.carry.receipt.json"
    with Mosquitto(place / "broker") as broker, Subscriber(broker.port) as subscriber:
        words = ("outbox", "import", stick, "--host", "127.0.0.1", "--port", broker.port)
        assert "--key-file" in edgeai(*words, cwd=place, code=1).stderr
        done = edgeai(*words, "--key-file", place / "key", "--json", cwd=place)
        assert json.loads(done.stdout) == {
            "device": "cam", "delivered": 3, "left": 0, "receipt": str(receipt),
        }  # fmt: skip
        assert subscriber.wait_for(lambda messages: len(messages) == 3)
        types = [json.loads(payload)["type"] for _, payload, _ in subscriber.messages]
    assert types == ["track_started", "line_crossed", "track_ended"]
    done = edgeai("outbox", "acknowledge", path, receipt, "--json", cwd=place)
    assert json.loads(done.stdout)["deleted"] == 3
    waiting = json.loads(edgeai("outbox", "status", path, "--json", cwd=place).stdout)
    assert [lane["class"] for lane in waiting["lanes"] if lane["class"] == "event"] == []


def test_a_stick_that_meets_no_broker_says_so_and_writes_no_receipt(place):
    path = write_config(place, free_port())
    edgeai("run", path, "--json", cwd=place)
    stick = place / "cam.carry"
    edgeai("outbox", "export", path, stick, cwd=place)
    done = edgeai(
        "outbox",
        "import",
        stick,
        "--host",
        "127.0.0.1",
        "--port",
        free_port(),
        "--seconds",
        2,
        cwd=place,
        code=1,
    )
    assert "3 of 3 messages were not delivered" in done.stderr
    assert not (place / "cam.carry.receipt.json").exists()


def test_home_assistant_hears_of_streams_that_come_and_go_at_a_reload(place):
    with Mosquitto(place / "broker") as broker, Subscriber(broker.port, "homeassistant/#") as subscriber:
        path = write_config(place, broker.port, "[mqtt.home_assistant]\n")
        text = path.read_text().replace("realtime = false", "realtime = true")
        write_walk(place / "long.avi", frames=2000)
        path.write_text(text.replace("video.avi", "long.avi"))
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeai", "run", str(path), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            try:
                assert subscriber.wait_for(lambda messages: len(messages) >= 1)
                path.write_text(text.replace("video.avi", "long.avi").replace('"middle"', '"exit"'))
                process.send_signal(signal.SIGHUP)
                assert subscriber.wait_for(lambda messages: len(messages) >= 2)
            finally:
                process.terminate()
        first, second = (json.loads(payload)["cmps"] for _, payload, _ in subscriber.messages[:2])
    assert any("middle" in name for name in first)
    assert not any("exit" in name for name in first)
    assert any("exit" in name for name in second)
    gone = [one for name, one in second.items() if "middle" in name]
    assert gone
    assert all(list(one) == ["p"] for one in gone)
