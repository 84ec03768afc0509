"""The broker of `firmware_configs/mosquitto` as written: certificates, durability, optional blocks, limits."""

import json
import random
import re
import shutil
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
from broker import free_port, wait_until
from impersonation import SITE, Probe
from paho.mqtt.enums import CallbackAPIVersion
from reporter import Reporter
from shipped_broker import CONFIG, DATA, PORT, SHIPPED, ShippedBroker, readme_commands

from edgeai.types import Event

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def broker():
    with ShippedBroker() as broker:
        yield broker


def uncommented(*starts):
    """Pairs that take the '#' from the optional lines that begin so."""
    return tuple((f"\n#{start}", f"\n{start}") for start in starts)


def test_what_is_to_change_is_what_the_files_say():
    conf, acl = ((SHIPPED / name).read_text() for name in ("mosquitto.conf", "acl"))
    assert f"Yours to change, here: the port {PORT} and the folders {CONFIG} and {DATA}" in conf
    active = [line for line in conf.splitlines() if line and line[0] != "#"]
    places = [line for line in active if "/" in line]
    assert all(CONFIG in line or DATA in line for line in places), places
    lines = [line for line in acl.splitlines() if re.match(r"(topic|pattern) write edge/", line)]
    assert len(lines) == 14
    assert all(line.split(" ")[2].startswith("edge/v1/acme/s1/") for line in lines), (
        "tenant and site are pinned"
    )
    assert not [line for line in lines if line.endswith("#")], "a device's own cmd would be among them"
    for chapter in ("Apply", "Undo"):
        assert "mosquitto.conf.before-edgeai" in readme_commands(chapter)


def test_a_devices_certificate_cannot_pose_as_the_broker(broker):
    def fits(name, purpose):
        files = [broker.certificates / "ca.pem", broker.certificates / f"{name}.pem"]
        return not subprocess.run(
            ["openssl", "verify", "-purpose", purpose, "-CAfile", *files], capture_output=True, check=False
        ).returncode

    assert fits("broker", "sslserver")
    assert fits("gate-1", "sslclient")
    assert not fits("gate-1", "sslserver")
    assert not fits("broker", "sslclient")
    assert (broker.certificates / "gate-1.key").stat().st_mode & 0o077 == 0


def test_a_message_above_the_limit_is_told_and_blocks_no_other(broker, tmp_path):
    with Reporter(broker.settings("gate-1"), tmp_path, device="gate-1") as reporter:
        wait_until(lambda: reporter.sink.counters.connected)
        assert reporter.transport.window == 200
        assert reporter.transport._link.max_packet_bytes == 1_048_576


def test_a_topic_that_no_line_allows_is_told_as_refused(broker, tmp_path, caplog):
    with Reporter(broker.settings("gate-2", site="s2"), tmp_path, device="gate-2") as reporter:
        reporter.sink.send(Event("tick", "gate", 0.0))
        wait_until(lambda: reporter.sink.counters.refused == 1)
        assert reporter.sink.counters.pending == 1
    assert "announcement on 'edge/v1/acme/s2/gate-2/state': Not authorized" in caplog.text


# ---- durability ----


def test_retained_messages_outlive_a_kill(tmp_path):
    with ShippedBroker() as broker:
        with Probe(broker, "gate-1") as device:
            for number in range(100):
                device.hand_over(f"{SITE}/gate-1/event/{number}", b"kept", retain=True)
            device.settle()
            device.publish(
                "one/more", b""
            )  # its answer comes from a later turn than the save of the hundredth
            broker.kill()
        broker.start()
        with Probe(broker, "observer") as observer:
            observer.subscribe(f"{SITE}/#")
            wait_until(lambda: sum(payload == b"kept" for _, payload in observer.heard) == 100)


@pytest.mark.parametrize("reader", ["connected", "away"])
def test_1000_events_across_a_kill_amid_them(tmp_path, reader):
    sent = [Event("tick", "gate", float(number)) for number in range(1000)]
    with ShippedBroker() as broker:
        first = Probe(broker, "dashboard", newer=False, clean=False)
        first.subscribe(f"{SITE}/+/event/+")
        if reader == "away":
            first.close()
        with Reporter(broker.settings("gate-1"), tmp_path, device="gate-1") as reporter:

            def put():
                for start in range(0, len(sent), 10):
                    reporter.sink.send_many(sent[start : start + 10])
                    time.sleep(0.01)  # so that the kill comes amid them, wherever it comes

            putting = threading.Thread(target=put)
            putting.start()
            few = random.randrange(100, 900)
            wait_until(lambda: reporter.sink.counters.sent >= few)
            broker.kill()
            broker.start()
            putting.join()
            assert reporter.sink.flush(60)
        first.close()
        with Probe(broker, "dashboard", newer=False, clean=False) as again:
            again.subscribe(f"{SITE}/+/event/+")

            def arrived():
                return {json.loads(payload)["id"] for _, payload in first.heard + again.heard}

            wait_until(lambda: arrived() >= {one.id for one in sent}, what="all thousand")


# ---- what is optional ----


def test_a_device_that_is_locked_out_says_and_hears_nothing(tmp_path):
    with (
        ShippedBroker() as broker,
        Probe(broker, "observer") as observer,
        Probe(broker, "operator") as operator,
    ):
        observer.subscribe("#")
        with Probe(broker, "gate-2") as stolen:
            stolen.subscribe(f"{SITE}/gate-2/cmd/+")
            stolen.publish(f"{SITE}/gate-2/event/gate", b"before")
            broker.acl.write_text(
                broker.acl.read_text().replace("#user gate-2\n#topic deny #", "user gate-2\ntopic deny #")
            )
            broker.reload()
            stolen.publish(f"{SITE}/gate-2/event/gate", b"after")
            operator.publish(f"{SITE}/gate-2/cmd/do", b"order")
            stolen.publish("fence/denied", b"")
            assert stolen.heard == []
        observer.publish("fence/denied", b"")
        assert (f"{SITE}/gate-2/event/gate", b"before") in observer.heard
        assert not any(payload == b"after" for _, payload in observer.heard)


DIALECTS = {
    # who: what it may say, and what it may not
    "gate-1-frigate": (
        ("frigate/gate-1/available", "frigate/gate-1/events", "frigate/gate-1/yard/person", "frigate/gate-1/yard/person/active",
         "frigate/gate-1/yard/detect/state", "frigate/gate-1/yard/person/snapshot", "frigate/gate-1/mic/audio/yes"),
        ("frigate/available", "frigate/gate-1/yard/detect/set", "frigate/gate-2/events", f"{SITE}/gate-1/event/gate"),
    ),
    "gate-1-sparkplug": (
        ("spBv1.0/acme/NBIRTH/gate-1", "spBv1.0/acme/NDEATH/gate-1", "spBv1.0/acme/DDATA/gate-1/gate"),
        ("spBv1.0/acme/NCMD/gate-1", "spBv1.0/acme/NDATA/gate-2", "spBv1.0/STATE/scada", f"{SITE}/gate-1/state"),
    ),
    "gate-1": (
        ("hermes/hotword/x/detected", "hermes/asr/textCaptured", "hermes/intent/lights", f"{SITE}/gate-1/state"),
        ("hermes/tts/say", "frigate/gate-1/events", f"{SITE}/gate-1/cmd/do"),
    ),
}  # fmt: skip


def test_the_optional_dialects_are_pinned_to_their_device():
    change = uncommented(
        "user gate-1-frigate", "topic write frigate", "topic read frigate", "user gate-1-sparkplug",
        "topic write spBv1.0", "topic read spBv1.0", "user gate-1\n", "topic write hermes",
    )  # fmt: skip
    with (
        ShippedBroker(clients=("observer", *DIALECTS), change=change) as broker,
        Probe(broker, "observer") as observer,
    ):
        observer.subscribe("#")
        for who, (right, wrong) in DIALECTS.items():
            with Probe(broker, who) as probe:
                for topic in (*right, *wrong):
                    probe.publish(topic, who.encode())
            observer.publish("fence/denied", b"")
            said = {topic for topic, payload in observer.heard if payload == who.encode()}
            assert said == set(right), who


def test_the_optional_plain_listener_needs_a_password_and_leaves_tls_as_it_is(tmp_path):
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    port = free_port()
    change = (
        ("#listener 1883 127.0.0.1", f"listener {port} 127.0.0.1"),
        ("#use_username_as_clientid", "use_username_as_clientid"),
        ("#password_file", "password_file"),
    )
    broker = ShippedBroker(change=change)
    passwords = broker.config / "passwords"
    subprocess.run([program, "-b", "-c", str(passwords), "dashboard", "right"], check=True)
    broker.own(passwords)
    with broker, Reporter(broker.settings("gate-1"), tmp_path, device="gate-1") as reporter:
        answers = {}
        for password in ("right", "wrong", None):
            client = paho.Client(CallbackAPIVersion.VERSION2, client_id="any", protocol=paho.MQTTv5)
            if password:
                client.username_pw_set("dashboard", password)
            client.on_connect = lambda c, d, f, reason, p, password=password: answers.update(
                {password: reason.is_failure}
            )
            client.connect("127.0.0.1", port)
            client.loop_start()
            wait_until(lambda password=password: password in answers)
            client.disconnect()
            client.loop_stop()
        assert answers == {"right": False, "wrong": True, None: True}
        reporter.sink.send(Event("tick", "gate", 0.0))
        assert reporter.sink.flush(10)
