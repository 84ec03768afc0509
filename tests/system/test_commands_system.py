"""Commands to `edgeai run` over a real mosquitto: what they do, what is answered, and that each is done once."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import paho.mqtt.client as paho
import pytest
from blob_bundle import picture, write_blob_bundle
from broker import Mosquitto, wait_until
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = pytest.mark.system

LIMIT_S = 60.0
ROOT = "edge/v1/default/default/cam"
ALLOW = ["snapshot", "enable", "disable", "set_threshold", "retry", "reload", "restart", "configure"]


class Operator:
    """Somebody afar: publishes commands and keeps what the device says, by topic below the root."""

    def __init__(self, port: int) -> None:
        self.said: dict[str, list[bytes]] = {}
        self._news = threading.Condition()
        ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda *_: self._client.subscribe(f"{ROOT}/#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(LIMIT_S)

    def _take(self, client, data, message):
        with self._news:
            self.said.setdefault(message.topic.removeprefix(ROOT + "/"), []).append(message.payload)
            self._news.notify_all()

    def publish(self, topic: str, payload: object, *, retain: bool = False) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(f"{ROOT}/{topic}", body, qos=1, retain=retain).wait_for_publish(LIMIT_S)

    def wait_for(self, enough: Callable[[dict[str, list[bytes]]], object], what: str) -> None:
        with self._news:
            assert self._news.wait_for(lambda: enough(self.said), LIMIT_S), (
                f"{what}: {[(name, each[-1][:300]) for name, each in self.said.items() if not name.startswith('image')]}"
            )

    def last(self, topic: str) -> dict:
        return json.loads(self.said[topic][-1])

    def count(self, topic: str) -> int:
        return len(self.said.get(topic, ()))

    def ask(self, name: str, args: dict, command_id: str, **fields) -> dict:
        """Send a command and wait for the next answer to it."""
        topic = f"ack/{command_id}"
        before = self.count(topic)
        self.publish(f"cmd/{name}", {"id": command_id, "args": args, **fields})
        self.wait_for(lambda said: len(said.get(topic, ())) > before, topic)
        return self.last(topic)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Device:
    """`edgeai run` as a process; what it logs is kept."""

    def __init__(self, path: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgeai", "run", str(path), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        self.log.extend(iter(self.process.stderr.readline, ""))

    def finish(self) -> int:
        code = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert "Traceback" not in "".join(self.log)
        return code

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.finish()


def write_long(path: Path) -> None:
    """Ten minutes of a square that stays, at 20 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 64))
    for _ in range(12000):
        writer.write(picture(24))
    writer.release()


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.avi"
    write_long(path)
    return path


@pytest.fixture
def place(tmp_path, long_video):
    write_blob_bundle(tmp_path / "blob")
    (tmp_path / "video.avi").symlink_to(long_video)
    (tmp_path / "other.avi").write_bytes(long_video.read_bytes())
    return tmp_path


CAMERA = """
[[cameras]]
name = "{name}"
source = "{source}"
model = "./blob"
[[cameras.rules]]
kind = "track"
"""


def write_config(folder: Path, port: int, *, cameras=(("gate", "video.avi"),), allow=ALLOW, more="") -> Path:
    path = folder / "device.toml"
    head = f"""\
device = "cam"
[mqtt]
host = "127.0.0.1"
port = {port}
[commands]
allow = {json.dumps(allow)}
[health]
every_s = 1
{more}"""
    path.write_text(head + "".join(CAMERA.format(name=name, source=source) for name, source in cameras))
    return path


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def operator(broker):
    one = Operator(broker.port)
    yield one
    one.close()


@pytest.fixture
def started(operator):
    """start(path, *options) -> a device that reports health with frames; killed at the end."""
    devices = []

    def start(path, *options):
        before = operator.count("health")
        device = Device(path, *options)
        devices.append(device)

        def running(said):
            if len(said.get("health", ())) <= before:
                return False
            streams = json.loads(said["health"][-1])["data"]["streams"].values()
            return any(stream["frames"] for stream in streams)

        operator.wait_for(running, f"health of a running device; it said {device.log}")
        return device

    yield start
    for device in devices:
        device.process.kill()


def health(operator) -> dict:
    """The next health that comes."""
    before = operator.count("health")
    operator.wait_for(lambda said: len(said.get("health", ())) > before, "another health")
    return operator.last("health")["data"]


def test_each_command_does_what_it_says(place, broker, operator, started):
    device = started(write_config(place, broker.port))

    answer = operator.ask("snapshot", {"camera": "gate"}, "s-1")
    assert (answer["ok"], answer["reason"], answer["device"], answer["name"]) == (
        True,
        None,
        "cam",
        "snapshot",
    )
    operator.wait_for(lambda said: "image/gate" in said, "a picture")
    jpeg = operator.said["image/gate"][0]
    assert len(jpeg) == answer["result"]["bytes"] <= 256 << 10
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (64, 64, 3)
    assert image[32, 32].min() > 200

    assert operator.ask("disable", {"camera": "gate"}, "d-1")["ok"]
    operator.wait_for(lambda said: b"track_ended" in b"".join(said.get("event/gate", ())), "its tracks end")
    told = health(operator)["streams"]["gate"]
    assert (told["state"], told["overrides"]) == ("disabled", {"disabled": True})
    frames = health(operator)["streams"]["gate"]["frames"]
    later = health(operator)["streams"]["gate"]
    assert later["frames"] == frames
    assert later["dropped"]["disabled"] > 0
    refused = operator.ask("snapshot", {"camera": "gate"}, "s-2")
    assert (refused["ok"], refused["reason"]) == (False, "camera gate: no picture, it is disabled")

    assert operator.ask("enable", {"camera": "gate"}, "e-1")["ok"]
    wait_until(lambda: health(operator)["streams"]["gate"]["frames"] > frames, what="frames again")

    assert operator.ask("disable", {"camera": "gate", "rule": "tracks"}, "d-2")["ok"]
    assert operator.ask("set_threshold", {"stream": "gate", "value": 0.75}, "t-1")["ok"]
    told = health(operator)["streams"]["gate"]
    assert told["overrides"] == {"disabled_rules": ["tracks"], "threshold": 0.75}

    answer = operator.ask("retry", {"camera": "gate"}, "r-1")
    assert (answer["ok"], answer["reason"]) == (False, "camera gate is running")
    answer = operator.ask("disable", {"camera": "gte"}, "d-3")
    assert answer["reason"] == "there is no camera 'gte'; did you mean 'gate'?"
    assert device.stop() == 0


def test_health_and_info_say_what_they_promise(place, broker, operator, started):
    device = started(write_config(place, broker.port))
    told = health(operator)
    gate = told["streams"]["gate"]
    assert set(gate) == {"fps", "latency_ms", "frames", "dropped", "state", "overrides"}
    assert 0 < gate["latency_ms"]["p50"] <= gate["latency_ms"]["p90"] <= gate["latency_ms"]["p99"]
    assert gate["state"] == "running"
    assert told["mqtt"] == {"connected": True, "connections": 1, "refused": 0}
    assert set(told["outbox"]) == {"pending", "pending_bytes", "oldest_s", "on_disk", "dropped"}
    assert told["models"] == {"gate": "blob@1.0.0"}
    assert told["memory"]["rss_mb"] > 10
    assert told["disk"]["free_mb"] > 0
    assert set(told["clock"]) == {"synced", "wall_time"}
    info = operator.last("info")["data"]
    assert set(info) == {"board", "version", "os", "python", "streams"}
    assert info["streams"][0]["name"] == "gate"
    operator.wait_for(lambda said: "telemetry/gate" in said, "counts")
    totals = operator.last("telemetry/gate")
    assert totals["type"] == "totals"
    assert totals["data"]["rules"]["tracks"]["started"] == 1
    assert totals["data"]["fps"] > 0
    assert device.stop() == 0


def test_what_is_not_allowed_or_too_late_is_refused_with_its_reason(place, broker, operator, started):
    device = started(write_config(place, broker.port, allow=["snapshot"]))
    reason = operator.ask("restart", {}, "x-1")["reason"]
    assert reason == "restart is not allowed on this device; commands.allow in its configuration has snapshot"
    reason = operator.ask("snapshott", {}, "x-2")["reason"]
    assert reason == "there is no command 'snapshott'; did you mean 'snapshot'?"
    reason = operator.ask("snapshot", {"camera": "gate", "quality": 3}, "x-3")["reason"]
    assert reason.startswith("unknown key 'quality'")
    reason = operator.ask("snapshot", {"camera": "gate"}, "x-4", ttl_s=1e6)["reason"]
    assert reason == "ttl_s: must be at most 3600, is 1e+06"
    operator.publish("cmd/snapshot", b"\xff{")
    operator.publish("cfg/desired", {"version": 1, "toml": "x = 1"}, retain=True)
    refused = lambda said: any(b'"refused":{' in one for one in said.get("cfg/reported", ()))  # noqa: E731
    operator.wait_for(refused, "a refused configuration")
    assert "configure is not allowed" in operator.last("cfg/reported")["refused"]["reason"]
    assert operator.ask("snapshot", {"camera": "gate"}, "x-5")["ok"]
    assert device.stop() == 0
    assert sum("not UTF-8" in line for line in device.log) == 1


def test_a_repeated_id_is_done_once_and_answered_again(place, broker, operator, started):
    device = started(write_config(place, broker.port))
    first = operator.ask("snapshot", {"camera": "gate"}, "once")
    assert operator.ask("snapshot", {"camera": "gate"}, "once") == first
    assert operator.ask("disable", {"camera": "gate"}, "once") == first
    assert health(operator)["streams"]["gate"]["state"] == "running"
    assert operator.count("image/gate") == 1
    assert device.stop() == 0


def test_restart_ends_with_75_and_is_not_done_again(place, broker, operator, started):
    path = write_config(place, broker.port)
    device = started(path)
    first = operator.ask("restart", {}, "again")
    assert first["ok"]
    assert device.finish() == 75
    operator.publish("cmd/restart", {"id": "again", "args": {}})  # waits for the device in its session
    device = started(path)
    operator.wait_for(lambda said: len(said["ack/again"]) == 2, "the answer again")
    assert operator.last("ack/again") == first
    assert device.process.poll() is None
    assert device.stop() == 0


def test_a_command_waits_for_a_device_that_is_away(place, broker, operator, started):
    path = write_config(place, broker.port)
    device = started(path)
    device.process.kill()
    device.finish()
    operator.publish("cmd/disable", {"id": "away", "args": {"camera": "gate"}})
    device = started_disabled(path, operator)
    try:
        assert operator.last("ack/away")["ok"]
        assert device.stop() == 0
    finally:
        device.process.kill()


def started_disabled(path, operator):
    """Without frames, so not what `started` waits for."""
    device = Device(path)
    operator.wait_for(lambda said: "ack/away" in said, "the answer to what waited")
    wait_until(lambda: health(operator)["streams"]["gate"]["state"] == "disabled", what="a disabled camera")
    return device


def test_a_retained_command_is_refused_each_time(place, broker, operator, started):
    operator.publish("cmd/restart", {"id": "kept", "args": {}}, retain=True)
    path = write_config(place, broker.port)
    for _ in range(2):
        operator.said.pop("ack/kept", None)
        device = started(path)
        operator.wait_for(lambda said: "ack/kept" in said, "a refusal")
        assert operator.last("ack/kept")["reason"] == "it is retained: publish commands without retain"
        assert device.stop() == 0


def test_a_device_that_is_killed_answers_each_command_once(place, broker, operator, started):
    """kill -9 right after a command has arrived: it was carried out, or its answer says that it was cut off."""
    path = write_config(place, broker.port)
    device = started(path)
    for number in range(4):
        operator.publish("cmd/snapshot", {"id": f"k-{number}", "args": {"camera": "gate"}})
        device.process.kill()
        device.finish()
        device = started(path)
        operator.wait_for(lambda said: f"ack/k-{number}" in said, "an answer")  # noqa: B023
    for number in range(4):
        operator.ask("snapshot", {"camera": "gate"}, f"k-{number}")
        assert len(set(operator.said[f"ack/k-{number}"])) == 1
    assert operator.count("image/gate") <= 4
    assert device.stop() == 0


def test_reload_leaves_what_is_equal_alone(place, broker, operator, started):
    path = write_config(place, broker.port, cameras=(("gate", "video.avi"), ("yard", "other.avi")))
    device = started(path)
    before = health(operator)["streams"]
    write_config(place, broker.port, cameras=(("gate", "video.avi"), ("door", "other.avi")))
    answer = operator.ask("reload", {}, "l-1")
    assert answer["result"] == {"unchanged": ["gate"], "started": ["door"], "stopped": ["yard"], "failed": {}}
    told = health(operator)["streams"]
    assert set(told) == {"gate", "door"}
    assert told["gate"]["frames"] >= before["gate"]["frames"]
    assert told["gate"]["dropped"] == before["gate"]["dropped"]

    path.write_text(path.read_text().replace('name = "door"', 'name = "gate"'))
    answer = operator.ask("reload", {}, "l-2")
    assert not answer["ok"]
    assert "'gate' is given twice" in answer["reason"]
    write_config(place, broker.port + 1, cameras=(("gate", "video.avi"),))
    answer = operator.ask("reload", {}, "l-3")
    assert answer["reason"].endswith("mqtt changed, which needs a restart")
    assert set(health(operator)["streams"]) == {"gate", "door"}

    write_config(place, broker.port, cameras=(("gate", "video.avi"),))
    device.process.send_signal(signal.SIGHUP)
    wait_until(lambda: set(health(operator)["streams"]) == {"gate"}, what="the reload by a signal")
    assert device.stop() == 0


def test_desired_configuration_is_applied_kept_and_reported(place, broker, operator, started):
    path = write_config(place, broker.port)
    device = started(path)

    def reported(version, refused=None):
        def fits(said):
            one = json.loads(said["cfg/reported"][-1]) if "cfg/reported" in said else {}
            reason = (one.get("refused") or {}).get("reason", "")
            return one.get("version") == version and (refused in reason if refused else not reason)

        operator.wait_for(fits, f"version {version} {refused}")
        return operator.last("cfg/reported")

    reported(0)
    toml = CAMERA.format(name="door", source="other.avi")
    operator.publish("cfg/desired", {"version": 3, "toml": toml}, retain=True)
    assert reported(3)["source"] == "desired"
    assert set(health(operator)["streams"]) == {"door"}

    operator.publish("cfg/desired", {"version": 2, "toml": toml})
    reported(3, "version 2 is older than 3")
    operator.publish("cfg/desired", {"version": 4, "toml": toml.replace("other.avi", "/etc/passwd")})
    reported(3, "must be a file in the folder")
    operator.publish("cfg/desired", {"version": 4, "toml": f'[mqtt]\nhost = "10.0.0.1"\n{toml}'})
    reported(3, "mqtt must be as in the device's own file")
    operator.publish("cfg/desired", {"version": 4, "toml": toml.replace("./blob", "./none")})
    reported(3, "no bundle at")
    operator.publish("cfg/desired", {"version": 4, "toml": toml.replace("other", "none")})
    reported(3, "nothing would run")
    assert set(health(operator)["streams"]) == {"door"}
    assert device.stop() == 0

    device = started(path)
    assert reported(3)["source"] == "desired"
    assert set(health(operator)["streams"]) == {"door"}
    assert device.stop() == 0

    path.write_text(path.read_text() + "# by hand\n")
    device = started(path)
    reported(0)
    assert set(health(operator)["streams"]) == {"gate"}
    assert device.stop() == 0


def test_a_strict_device_takes_no_configuration_from_afar(place, broker, operator, started):
    """Neither one that is on the broker, nor one that an earlier run has stored, which stays as it is; other commands work."""
    (place / "state").mkdir()
    path = write_config(place, broker.port)
    toml = CAMERA.format(name="gate", source="other.avi")
    stored = {"version": 1, "toml": toml, "base_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (place / "state" / "desired.json").write_text(json.dumps(stored))
    operator.publish("cfg/desired", {"version": 3, "toml": toml}, retain=True)
    device = started(path, "--strict")
    operator.wait_for(
        lambda said: any(b'"refused":{' in one for one in said.get("cfg/reported", ())), "a refusal"
    )
    said = "this device's configuration is read-only (--strict)"
    told = operator.last("cfg/reported")
    assert (told["refused"]["version"], told["refused"]["reason"]) == (3, said)
    assert not operator.ask("configure", {"version": 4, "toml": toml}, "c-1")["ok"]
    assert operator.ask("snapshot", {"camera": "gate"}, "s-1")["ok"]
    assert device.stop() == 0
    assert json.loads((place / "state" / "desired.json").read_text()) == stored
    outside = {each.name for each in place.iterdir()} - {"broker"}
    assert outside == {"blob", "device.toml", "other.avi", "state", "video.avi"}
