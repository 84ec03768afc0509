"""`edgeai mqtt watch` as a process at a real mosquitto: what a device sends is seen, and the broker may go and come."""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from blob_bundle import write_blob_bundle, write_walk
from broker import Mosquitto, amqtt_broker, free_port, wait_until
from certificates import make_certificates

from edgeai.sinks import MqttSettings, open_reporting
from edgeai.types import Event

pytestmark = pytest.mark.system

LIMIT_S = 60


class Watching:
    """The command with --json; lines: what it said so far, parsed."""

    def __init__(self, *options):
        self.lines = []
        self.errors = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeai", "mqtt", "watch", "--json", *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a test run in the background has Ctrl-C ignored, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def _read_errors(self):
        for line in self._process.stderr:
            self.errors += line

    def end(self):
        """Ctrl-C where it still runs; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self):
        code = self._process.wait(LIMIT_S)
        for reader in self._readers:
            reader.join(LIMIT_S)
        assert "Traceback" not in self.errors
        return code

    @property
    def events(self):
        return [line for line in self.lines if "event" in line]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(LIMIT_S)


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path / "broker") as made:
        yield made


def reporting(port, folder, **changes):
    return open_reporting(
        MqttSettings(host="127.0.0.1", port=port, **changes), folder / "outbox.db", device="cam"
    )


def wait_for_watcher(watching, sink):
    """The watcher is subscribed when it sees what is sent again and again."""

    def seen():
        sink.send(Event("ready", "gate", 0.0))
        return bool(watching.events)

    wait_until(seen, what="the first event at the watcher")


def test_events_of_a_device_and_the_end_by_count(broker, tmp_path):
    with (
        reporting(broker.port, tmp_path) as sink,
        Watching("--port", broker.port, "--type", "tick", "--count", 20) as watching,
    ):
        number = 0
        while watching._process.poll() is None:
            sink.send(Event("tick", "gate", 0.0, {"n": (number := number + 1)}))
            sink.flush(5)
        assert watching.wait() == 0
    *found, last = watching.lines
    numbers = [one["event"]["data"]["n"] for one in found]
    assert numbers == list(range(numbers[0], numbers[0] + 20))
    assert not any(one["marks"] for one in found)
    (stream,) = last["summary"]["streams"]
    assert (stream["device"], stream["stream"], stream["events"], stream["duplicates"]) == (
        "cam",
        "gate",
        20,
        0,
    )
    (device,) = last["summary"]["devices"]
    assert device["unseen"] == 0


def test_the_broker_goes_and_comes_back(tmp_path):
    with (
        Mosquitto(tmp_path / "broker", durable=True) as broker,
        reporting(broker.port, tmp_path) as sink,
        Watching("--port", broker.port) as watching,
    ):
        wait_for_watcher(watching, sink)
        broker.kill()
        wait_until(lambda: "waiting for the broker" in watching.errors)
        broker.start()
        wait_until(lambda: "connected again" in watching.errors)
        sink.send(Event("after", "gate", 0.0))
        wait_until(lambda: any(one["type"] == "after" for one in watching.events))
        assert watching.end() == 130
    assert "summary" in watching.lines[-1]


def test_hostile_messages_are_lines(broker, tmp_path):
    import paho.mqtt.publish as publish

    with reporting(broker.port, tmp_path) as sink, Watching("--port", broker.port) as watching:
        wait_for_watcher(watching, sink)
        root = "edge/v1/default/default/evil"
        payloads = {
            f"{root}/event/gate": b"\x1b[2J\xff not json",
            f"{root}/batch/gate/gzip": gzip.compress(b"x" * (9 << 20)),
            f"{root}/state": b"[" * 100_000,
            f"{root}/image/gate": b"",
            f"{root}/x/y/z": b"\x00",
            f"{root}/cmd/snapshot": b'{"a": NaN}',
        }
        publish.multiple(
            [(topic, payload, 1, False) for topic, payload in payloads.items()], port=broker.port
        )
        wait_until(lambda: sum(one["device"] == "evil" for one in watching.lines) == len(payloads))
        assert watching.end() == 130
    assert sum("problem" in one for one in watching.lines) == 4


def test_pictures_are_saved_under_safe_names(broker, tmp_path):
    import paho.mqtt.publish as publish

    folder = tmp_path / "pictures"
    options = ("--port", broker.port, "--class", "image", "--save-images", folder, "--count", 1)
    with Watching(*options) as watching:
        while watching._process.poll() is None:
            publish.single("edge/v1/t/s/../image/a b\u202e", b"\xff\xd8\xff picture", port=broker.port)
        assert watching.wait() == 0
    (file,) = folder.iterdir()
    assert file.name.startswith("__a_b__2")
    assert file.read_bytes() == b"\xff\xd8\xff picture"
    assert watching.lines[0]["saved"] == file.name


def test_an_older_broker(tmp_path):
    with (
        amqtt_broker() as port,
        reporting(port, tmp_path) as sink,
        Watching("--port", port, "--seconds", 60) as watching,
    ):
        wait_for_watcher(watching, sink)
        assert watching.end() == 130


def test_tls_and_credentials_from_a_configuration(tmp_path):
    folder = make_certificates(tmp_path)
    lines = (
        f"cafile {folder}/ca.pem",
        f"certfile {folder}/server.pem",
        f"keyfile {folder}/server.key",
        "require_certificate true",
    )
    with Mosquitto(tmp_path / "broker", config=(*lines, "allow_anonymous true")) as broker:
        write_blob_bundle(tmp_path / "blob")
        write_walk(tmp_path / "video.avi")
        config = tmp_path / "device.toml"
        config.write_text(
            f"""\
[mqtt]
host = "localhost"
port = {broker.port}
[mqtt.tls]
ca = "ca.pem"
certificate = "client.pem"
key = "client.key"
[[cameras]]
name = "gate"
source = "video.avi"
model = "./blob"
"""
        )
        tls = {"ca": folder / "ca.pem", "certificate": folder / "client.pem", "key": folder / "client.key"}
        with reporting(broker.port, tmp_path, tls=tls) as sink, Watching("--config", config) as watching:
            wait_for_watcher(watching, sink)
            assert watching.end() == 130
        stranger = ("--host", "localhost", "--port", broker.port, "--ca", folder / "stranger.pem")
        with Watching(*stranger) as watching:
            assert watching.wait() == 1
        assert "TLS failed" in watching.errors
        assert len(watching.errors.splitlines()) == 1


def test_websockets_from_a_configuration(tmp_path):
    port = free_port()
    lines = ("allow_anonymous true", f"listener {port} 127.0.0.1", "protocol websockets")
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "video.avi")
    config = tmp_path / "device.toml"
    config.write_text(
        f"""\
[mqtt]
host = "127.0.0.1"
port = {port}
transport = "websockets"
[[cameras]]
name = "gate"
source = "video.avi"
model = "./blob"
"""
    )
    with (
        Mosquitto(tmp_path / "broker", config=lines) as broker,
        reporting(broker.port, tmp_path) as sink,
        Watching("--config", config) as watching,
    ):
        wait_for_watcher(watching, sink)
        assert watching.end() == 130


def test_wrong_passwords_end_it_and_are_not_shown(tmp_path):
    config = ("allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    (tmp_path / "passwords").write_text("")
    (tmp_path / "password").write_text("s3cret\n")
    with Mosquitto(tmp_path / "broker", config=config) as broker:
        options = ("--port", broker.port, "--username", "me", "--password-file", tmp_path / "password")
        with Watching(*options) as watching:
            assert watching.wait() == 1
    assert "refused us: not authorised" in watching.errors
    assert "s3cret" not in watching.errors


def test_fewer_than_counted_within_the_time(broker):
    with Watching("--port", broker.port, "--seconds", 0.5, "--count", 3) as watching:
        assert watching.wait() == 1
    with Watching("--port", broker.port, "--seconds", 0.5) as watching:
        assert watching.wait() == 0
    assert [list(line) for line in watching.lines] == [["summary"]]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--class", "evnt"), 2, "did you mean 'event'"),
        (("--topic", "a/#/b"), 2, "no MQTT filter"),
        (("--device", "a/b"), 2, "--device 'a/b'"),
        (("--host", "mqtt://x"), 2, "without mqtt://"),
        (("--password-file", "x"), 2, "needs username"),
        (("--port", str(free_port())), 1, "cannot connect: Connection refused"),
    ],
)
def test_wrong_options_are_one_line(options, code, said):
    with Watching(*options) as watching:
        assert watching.wait() == code
    assert said in watching.errors
    assert len(watching.errors.splitlines()) == 1


def test_a_reader_that_goes_away_ends_it_well(broker, tmp_path):
    with reporting(broker.port, tmp_path) as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeai", "mqtt", "watch", "--port", str(broker.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.set_blocking(process.stdout.fileno(), False)

        def read():
            sink.send(Event("tick", "gate", 0.0))
            with contextlib.suppress(BlockingIOError):
                return process.stdout.read()

        wait_until(lambda: b"tick" in (read() or b""))
        process.stdout.close()
        while process.poll() is None:
            sink.send(Event("tick", "gate", 0.0))
            sink.flush(5)
    assert process.returncode == 0
    assert process.stderr.read() == b""
