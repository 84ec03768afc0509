"""Reporting to real brokers: mosquitto that stops, dies, freezes, refuses and speaks TLS, and amqtt, which is older."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from broker import Mosquitto, Subscriber, amqtt_broker, free_port, wait_until
from paho.mqtt.enums import CallbackAPIVersion

from edgeai.sinks import MqttSettings, open_reporting
from edgeai.sinks.delivery import drain
from edgeai.types import Event

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]
STREAMS = ("gate", "door", "yard")


@pytest.fixture
def mosquitto(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def reporting(broker, folder, **changes):
    settings = MqttSettings(
        host="127.0.0.1", port=broker if isinstance(broker, int) else broker.port, **changes
    )
    return open_reporting(settings, folder / "outbox.db", device="cam-001")


def events(n, start=0):
    return [
        Event("tick", STREAMS[number % 3], float(number), {"n": number}) for number in range(start, start + n)
    ]


def arrived(messages):
    """Envelopes of events in order of first arrival, repetitions by id removed."""
    found = (json.loads(payload) for topic, payload, _ in messages if "/event/" in topic)
    return list({one["id"]: one for one in found}.values())


def assert_all_arrived(subscriber, sent):
    assert subscriber.wait_for(lambda messages: len(arrived(messages)) >= len(sent)), len(
        arrived(subscriber.messages)
    )
    found = arrived(subscriber.messages)
    assert {one["id"] for one in found} == {one.id for one in sent}
    by_stream = defaultdict(list)
    for one in found:
        by_stream[one["stream"]].append(one["seq"])
    assert all(seqs == sorted(seqs) for seqs in by_stream.values())


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_200_events_across_a_broker_that_goes_and_comes(tmp_path, how):
    sent = events(200)
    with (
        Mosquitto(tmp_path / "broker", durable=how == "kill") as broker,
        Subscriber(broker.port) as subscriber,
    ):
        with reporting(broker, tmp_path) as sink:
            for event in sent[:80]:
                sink.send(event)
            assert subscriber.wait_for(lambda messages: len(arrived(messages)) >= 40)
            if how == "stop":
                broker.stop()
            else:
                # what mosquitto has acknowledged, and neither passed on nor written down when it is killed, it loses: no
                # client can help that. So it is quiet before, and then killed with events under way that it never answers.
                assert sink.flush(20)
                assert subscriber.wait_for(lambda messages: len(arrived(messages)) >= 80)
                broker.freeze()
            for event in sent[80:120]:
                sink.send(event)
            if how == "kill":
                assert not sink.flush(0.2), "they are under way"
                broker.kill()
            wait_until(lambda: not sink.counters.connected, what="noticing the loss")
            for event in sent[120:160]:
                sink.send(event)
            assert not sink.flush(0)
            broker.start()
            for event in sent[160:]:
                sink.send(event)
            assert sink.flush(20)
            assert sink.counters.connections == 2
        assert_all_arrived(subscriber, sent)


def test_a_broker_that_is_down_at_the_start_is_a_warning(tmp_path, caplog):
    port = free_port()
    sent = events(10)
    with reporting(port, tmp_path) as sink:
        sink.send_many(sent)
        wait_until(lambda: "cannot connect" in sink.counters.problem)
        with Mosquitto(tmp_path / "broker", port=port) as broker, Subscriber(broker.port) as subscriber:
            # what the device publishes before the subscriber is there, it gets nothing of
            sink.send_many(later := events(5, start=10))
            assert sink.flush(20)
            assert subscriber.wait_for(
                lambda messages: {one.id for one in later} <= {one["id"] for one in arrived(messages)}
            )
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "events wait in the outbox" in warnings[0]
    assert "connected again" in warnings[1]


def test_a_broker_that_freezes_is_left_and_found_again(tmp_path, mosquitto, monkeypatch):
    monkeypatch.setattr(drain, "ACK_TIMEOUT_S", 0.5)
    sent = events(60)
    with (
        Subscriber(mosquitto.port) as subscriber,
        reporting(mosquitto, tmp_path, connect_timeout_s=1) as sink,
    ):
        sink.send_many(sent[:20])
        assert sink.flush(10)
        mosquitto.freeze()
        sink.send_many(sent[20:40])
        wait_until(lambda: not sink.counters.connected, what="noticing the silence")
        mosquitto.thaw()
        sink.send_many(sent[40:])
        assert sink.flush(30)
        assert_all_arrived(subscriber, sent)


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


REPORTER = """
import sys
from edgeai.sinks import MqttSettings, open_reporting
with open_reporting(MqttSettings(host="127.0.0.1", port=int(sys.argv[1])), sys.argv[2], device="cam-001") as sink:
    while not sink.counters.connected:
        pass
    print("ready", flush=True)
    sys.stdin.read() or __import__("time").sleep(600)
"""


def states(messages):
    return [json.loads(payload) for topic, payload, _ in messages if topic.endswith("/state")]


def test_the_last_will_tells_of_a_kill_and_a_restart_is_another_boot(tmp_path, mosquitto):
    with Subscriber(mosquitto.port) as subscriber:
        process = child(REPORTER, mosquitto.port, tmp_path / "outbox.db")
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert subscriber.wait_for(lambda messages: len(states(messages)) >= 2)
        online, offline = states(subscriber.messages)
        assert (online["state"], offline["state"]) == ("online", "offline")
        assert online["boot_id"] == offline["boot_id"]
    with Subscriber(mosquitto.port) as late:
        assert late.wait_for(lambda messages: bool(messages))
        topic, payload, retained = late.messages[0]
        assert (topic, json.loads(payload), retained) == (
            "edge/v1/default/default/cam-001/state",
            offline,
            True,
        )
        with reporting(mosquitto, tmp_path):
            assert late.wait_for(lambda messages: states(messages)[-1]["state"] == "online")
            assert states(late.messages)[-1]["boot_id"] != offline["boot_id"]
        assert late.wait_for(lambda messages: states(messages)[-1]["state"] == "offline")


def test_mosquitto_speaks_5_and_amqtt_the_older_version(tmp_path, mosquitto):
    with reporting(mosquitto, tmp_path / "m") as sink:
        wait_until(lambda: sink.counters.connected)
        assert sink._destinations[0].transport.protocol == "5"
        # twice mosquitto's Receive Maximum: half of them behind the barrier
        assert sink._destinations[0].transport.window == 40
    sent = events(40)
    with (
        amqtt_broker() as port,
        Subscriber(port) as subscriber,
        reporting(port, tmp_path / "a", connect_timeout_s=2) as sink,
    ):
        sink.send_many(sent)
        assert sink.flush(20)
        assert sink._destinations[0].transport.protocol == "3.1.1"
        assert_all_arrived(subscriber, sent)


# ---- credentials and permissions ----


@pytest.fixture
def guarded(tmp_path):
    """A broker with a user "cam" and an ACL that lets it write its state and the stream "gate" only."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    passwords = tmp_path / "passwords"
    subprocess.run([program, "-b", "-c", str(passwords), "cam", "right-secret"], check=True)
    acl = tmp_path / "acl"
    root = "edge/v1/default/default/cam-001"
    acl.write_text(f"user cam\ntopic write {root}/state\ntopic write {root}/event/gate\n")
    config = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    for file in (passwords, acl):
        file.chmod(0o600)
    with Mosquitto(tmp_path / "broker", config=config) as broker:
        yield broker


def secret(folder, text):
    file = folder / f"{text}.txt"
    file.write_text(text + "\n")
    return file


def test_a_wrong_password_tells_so_and_the_right_one_mends_it_while_running(tmp_path, guarded, caplog):
    caplog.set_level("DEBUG")
    file = secret(tmp_path, "wrong-secret")
    with reporting(guarded, tmp_path, username="cam", password_file=file) as sink:
        sink.send(Event("tick", "gate", 0.0))
        wait_until(lambda: "refused us" in sink.counters.problem)
        assert "wrong user name or password" in sink.counters.problem
        wait_until(lambda: "mqtt.password_file" in caplog.text, what="the log line")  # of another thread
        file.write_text("right-secret\n")
        assert sink.flush(20)
        shown = f"{sink!r}{sink.counters!r}{sink._destinations[0].transport._settings!r}{vars(sink._destinations[0].transport)!r}"
    assert "-secret" not in (caplog.text + shown).replace("wrong-secret.txt", "")


def test_no_password_at_all_is_told(tmp_path, guarded):
    with reporting(guarded, tmp_path) as sink:
        wait_until(lambda: "not authorised" in sink.counters.problem)


def test_a_topic_that_the_acl_denies_is_told_and_blocks_no_other(tmp_path, guarded, caplog):
    with reporting(guarded, tmp_path, username="cam", password_file=secret(tmp_path, "right-secret")) as sink:
        sink.send_many([Event("tick", stream, 0.0) for stream in ("gate", "door", "gate")])
        wait_until(lambda: sink.counters.acked == 2 and sink.counters.refused == 1)
        assert sink.counters.pending == 1
        assert sink.counters.connected
    assert "refused message 2: Not authorized; it is kept" in caplog.text


def test_a_message_larger_than_the_broker_takes_is_told_and_blocks_no_other(tmp_path, caplog):
    config = ("allow_anonymous true", "max_packet_size 2000")
    with Mosquitto(tmp_path / "broker", config=config) as broker, reporting(broker, tmp_path) as sink:
        sink.send_many([Event("tick", "gate", 0.0, {"x": "x" * size}) for size in (1, 5000, 1)])
        wait_until(lambda: sink.counters.acked == 2 and sink.counters.refused >= 1)
        assert sink.counters.pending == 1
        assert sink.counters.connections == 1
    assert "larger than the broker takes (2000 bytes)" in caplog.text


def test_another_client_with_our_id_throws_us_out_and_costs_nothing(tmp_path, mosquitto, caplog):
    with Subscriber(mosquitto.port) as subscriber, reporting(mosquitto, tmp_path, client_id="same") as sink:
        wait_until(lambda: sink.counters.connected)
        other = paho.Client(CallbackAPIVersion.VERSION2, client_id="same", protocol=paho.MQTTv5)
        other.connect("127.0.0.1", mosquitto.port)
        other.loop_start()
        wait_until(lambda: "connection lost" in caplog.text)
        sink.send_many(sent := events(30))
        other.disconnect()
        other.loop_stop()
        assert sink.flush(10)
        assert_all_arrived(subscriber, sent)


# ---- TLS ----


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a broker on localhost and a device, all fresh, and a stranger's authority."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN=test {name}",
        )  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("broker", "device"):
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.pem", "-extfile", "names",
        )  # fmt: skip
    return folder


@pytest.fixture
def tls_mosquitto(tmp_path, certificates):
    config = (
        "allow_anonymous true",
        f"cafile {certificates / 'ca.pem'}",
        f"certfile {certificates / 'broker.pem'}",
        f"keyfile {certificates / 'broker.key'}",
        "require_certificate true",
    )
    with Mosquitto(tmp_path / "broker", config=config) as broker:
        yield broker


def mutual(certificates, **changes):
    files = {"ca": "ca.pem", "certificate": "device.pem", "key": "device.key"} | changes
    return {kind: certificates / name for kind, name in files.items() if name}


def test_mutual_tls_carries_everything(tmp_path, certificates, tls_mosquitto):
    with reporting(tls_mosquitto, tmp_path, tls=mutual(certificates)) as sink:
        sink.send_many([Event("tick", "gate", float(n), {"x": "x" * 20_000}) for n in range(60)])
        assert sink.flush(20)
        assert sink._destinations[0].transport.name.startswith("mqtts://")
        assert sink.counters.connections == 1


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"ca": "stranger.pem"}, r"TLS failed: .*certificate"),
        ({"certificate": None, "key": None}, r"TLS|lost|closed the connection"),
        (None, r"set mqtt\.tls"),
    ],
    ids=["a stranger's authority", "no certificate of ours", "no TLS at all"],
)
def test_what_is_wrong_with_tls_is_told(tmp_path, certificates, tls_mosquitto, files, told, caplog):
    tls = None if files is None else mutual(certificates, **files)
    with reporting(tls_mosquitto, tmp_path, tls=tls) as sink:
        sink.send(Event("tick", "gate", 0.0))
        wait_until(lambda: sink.counters.problem != "")
        assert not sink.flush(0.2)
    assert re.search(told, caplog.text), caplog.text
