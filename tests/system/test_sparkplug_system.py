"""Sparkplug B over real mosquitto: our edge node and an independent host application."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from broker import Mosquitto, Subscriber, amqtt_broker, free_port, wait_until
from sparkplug_host import HostApplication, command

from edgeai.sinks import MqttSettings
from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.mqtt.native_session import NativeSession
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.payload import Envelope, compose_native
from edgeai.sinks.sparkplug import SparkplugComposer, SparkplugSession, SparkplugSettings, SparkplugTransport
from edgeai.sinks.store_and_forward import Destination, StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.types import DEVICE_STREAM, Event

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]
FACTS = DeviceFacts(
    "cam-001",
    (
        StreamFacts(
            "gate", "camera", ("person", "car"), (RuleFacts("door", "line", directions=("in", "out")),)
        ),
        StreamFacts("hall", "microphone"),
    ),
    board="Orin Nano 8GB",
    version="1.2.3",
)
IN = "Rules/door/in"


@pytest.fixture
def mosquitto(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def scada(native, folder, **settings):
    sparkplug = SparkplugSettings(group_id="plant", **settings)
    composer = SparkplugComposer(sparkplug, FACTS)
    session = SparkplugSession(composer, state_folder=folder)
    own = sparkplug.broker(native, edge_node_id="cam-001")
    transport = SparkplugTransport(own, client_id=own.client_id, session=session)
    return Destination(transport, composer, name="sparkplug")


def reporting(port, folder, **settings):
    only = scada(MqttSettings(host="127.0.0.1", port=port), folder, **settings)
    return StoreAndForward(only.transport, Outbox(folder / "sparkplug.db"), compose=only.compose)


def crossing(n):
    return Event("line_crossed", "gate", float(n), {"rule": "door", "totals": {"in": n, "out": 0}})


def test_births_data_and_an_orderly_death(tmp_path, mosquitto):
    with HostApplication(mosquitto.port, "plant", "cam-001") as host:
        with reporting(mosquitto.port, tmp_path) as sink:
            assert host.wait_for(lambda node: node.born == {"", "gate", "hall"})
            assert host.node.live["", "Properties/Hardware Model"] == "Orin Nano 8GB"
            assert host.node.live["gate", IN] is None
            for n in range(1, 301):
                sink.send(crossing(n))
            sink.send(Event("keyword", "hall", 1.0, {"keyword": "lumen", "score": 0.9}))
            sink.send(
                Event(
                    "health",
                    DEVICE_STREAM,
                    0.0,
                    {"cpu_percent": 12.4, "outbox": {"on_disk": True}},
                    "telemetry",
                )
            )
            assert sink.flush(20)
            assert host.wait_for(lambda node: node.live["", "Outbox/on_disk"] is True)
        assert host.wait_for(lambda node: not node.online)
    node = host.node
    assert node.faults == []
    assert node.values(IN) == list(range(1, 301))
    assert node.live["hall", "Keyword/last"] == "lumen"
    assert node.live["", "Health/cpu_percent"] == 12.0
    assert node.log[:3] == ["NBIRTH", "DBIRTH", "DBIRTH"]
    assert (node.births, node.deaths, node.log[-1]) == ([0], [0], "NDEATH")
    assert {qos for kind, qos in host.qos if kind != "NDEATH"} == {0}


def test_a_host_that_comes_late_asks_for_births(tmp_path, mosquitto):
    with reporting(mosquitto.port, tmp_path) as sink:
        sink.send(crossing(1))
        assert sink.flush(20)
        with HostApplication(mosquitto.port, "plant", "cam-001") as host:
            host.command("DCMD", command(("Rules/door/in", True)), device="gate")
            host.command("NCMD", b"\xff\xff")
            host.ask_rebirth()
            assert host.wait_for(lambda node: node.born == {"", "gate", "hall"})
            assert host.node.live["gate", IN] == 1
            sink.send(crossing(2))
            assert host.wait_for(lambda node: node.live["gate", IN] == 2)
            assert host.node.history == []
            assert host.node.births == [0]
            assert host.node.faults == []
            assert sink.counters.connections == 1


class Cable:
    """A TCP connection to the broker that can be cut for a while."""

    def __init__(self, port):
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ends = []
        self._swallowing = False
        self._whole = threading.Event()
        self._whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self):
        """From now on what either end writes is read and goes nowhere."""
        self._swallowing = True

    def cut(self):
        self._whole.clear()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def mend(self):
        self._swallowing = False
        self._whole.set()

    def close(self):
        self.cut()
        self._server.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                if not self._whole.is_set():
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if not self._swallowing:
                    other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("qos", [0, 1])
def test_what_happened_during_an_outage_arrives_as_history(tmp_path, mosquitto, qos):
    cable = Cable(mosquitto.port)
    with (
        contextlib.closing(cable),
        HostApplication(mosquitto.port, "plant", "cam-001") as host,
        reporting(cable.port, tmp_path, qos=qos) as sink,
    ):
        assert host.wait_for(lambda node: len(node.born) == 3)
        for n in range(1, 51):
            sink.send(crossing(n))
        assert sink.flush(20)
        cable.cut()
        assert host.wait_for(lambda node: not node.online)
        for n in range(51, 101):
            sink.send(crossing(n))
        assert not sink.flush(0)
        cable.mend()
        assert sink.flush(20)
        for n in range(101, 151):
            sink.send(crossing(n))
        assert host.wait_for(lambda node: node.live["gate", IN] == 150)
        node = host.node
        assert node.faults == []
        assert node.values(IN, history=True) == list(range(51, 101))
        assert node.values(IN) == list(range(1, 151))
        assert {qos for kind, qos in host.qos if kind == "DDATA"} == {qos}
        assert node.births[0] == 0
        assert node.births[1] > 0
        assert node.deaths == [0]


@pytest.mark.parametrize("qos", [0, 1])
def test_what_a_broken_connection_swallowed_is_sent_again(tmp_path, mosquitto, qos):
    """Written is not read: at QoS 0 it is the fence that tells, at QoS 1 the acknowledgement."""
    cable = Cable(mosquitto.port)
    with (
        contextlib.closing(cable),
        HostApplication(mosquitto.port, "plant", "cam-001") as host,
        reporting(cable.port, tmp_path, qos=qos) as sink,
    ):
        assert host.wait_for(lambda node: len(node.born) == 3)
        cable.swallow()
        for n in range(1, 5):
            sink.send(crossing(n))
        wait_until(lambda: sink.counters.sent == 4, what="writing")
        assert not sink.flush(0.1)
        cable.cut()
        cable.mend()
        assert sink.flush(20)
        assert host.wait_for(lambda node: node.values(IN, history=True) == list(range(1, 5)))
        assert host.node.live["gate", IN] == 4
        assert host.node.faults == []


def test_a_broker_of_mqtt_3_1_1(tmp_path):
    with (
        amqtt_broker() as port,
        HostApplication(port, "plant", "cam-001") as host,
        reporting(port, tmp_path) as sink,
    ):
        assert host.wait_for(lambda node: len(node.born) == 3)
        for n in range(1, 101):
            sink.send(crossing(n))
        assert sink.flush(20)
        assert host.wait_for(lambda node: node.values(IN) == list(range(1, 101)))
        assert host.node.faults == []


def test_what_an_earlier_process_left_arrives_as_history(tmp_path, mosquitto):
    with reporting(free_port(), tmp_path) as sink:
        sink.send(crossing(7))
        sink.send(crossing(8))
    with (
        HostApplication(mosquitto.port, "plant", "cam-001") as host,
        reporting(mosquitto.port, tmp_path) as sink,
    ):
        assert sink.flush(20)
        assert host.wait_for(lambda node: node.values(IN, history=True) == [7, 8])
        assert host.node.live["gate", IN] is None, "history moves no current value"
        assert host.node.faults == []


def test_a_frozen_broker_loses_no_point(tmp_path, mosquitto, monkeypatch):
    """At QoS 0 what was written is not what was read: only fences tell."""
    monkeypatch.setattr("edgeai.sinks.delivery.drain.ACK_TIMEOUT_S", 0.5)
    with (
        HostApplication(mosquitto.port, "plant", "cam-001") as host,
        reporting(mosquitto.port, tmp_path) as sink,
    ):
        assert host.wait_for(lambda node: len(node.born) == 3)
        mosquitto.freeze()
        for n in range(1, 101):
            sink.send(crossing(n))
        assert not sink.flush(0.3), "written, and not read"
        wait_until(lambda: not sink.counters.connected, what="noticing the silence")
        mosquitto.thaw()
        assert sink.flush(30)
        assert host.wait_for(lambda node: set(node.values(IN)) >= set(range(1, 101)) and node.online)
        assert host.node.live["gate", IN] == 100
        assert host.node.faults == []


ACL = """
topic readwrite spBv1.0/#
pattern write spBv1.0/plant/NBIRTH/%u
pattern write spBv1.0/plant/NDATA/%u
pattern write spBv1.0/plant/NDEATH/%u
pattern write spBv1.0/plant/DBIRTH/%u/+
pattern write spBv1.0/plant/DDATA/%u/+
pattern read spBv1.0/plant/NCMD/%u
pattern read spBv1.0/plant/DCMD/%u/+
pattern read spBv1.0/STATE/scada
"""


def test_these_acl_lines_are_enough_and_another_device_cannot_speak_for_it(tmp_path):
    """The first line is the host's, which is anonymous here."""
    acl = tmp_path / "acl"
    acl.write_text(ACL)
    acl.chmod(0o600)
    config = ("allow_anonymous true", f"acl_file {acl}")
    with (
        Mosquitto(tmp_path / "broker", config=config) as broker,
        HostApplication(broker.port, "plant", "cam-001", primary="scada") as host,
    ):
        (tmp_path / "thief").mkdir()
        thief = {"username": "cam-002", "client_id": "thief", "primary_host": "scada"}
        with reporting(broker.port, tmp_path / "thief", **thief) as sink:
            sink.send(crossing(1000))
            assert sink.flush(20), "at QoS 0 nobody tells"
            assert host.node.log == []
        with reporting(broker.port, tmp_path, username="cam-001", primary_host="scada") as sink:
            assert host.wait_for(lambda node: len(node.born) == 3)
            sink.send(crossing(1))
            assert host.wait_for(lambda node: node.live["gate", IN] == 1)
            host.ask_rebirth()
            assert host.wait_for(lambda node: node.births == [0, 0])
        assert host.wait_for(lambda node: not node.online)
        assert host.node.faults == []


def test_one_outbox_for_the_native_tree_and_for_scada(tmp_path, mosquitto):
    native = MqttSettings(host="127.0.0.1", port=mosquitto.port)
    topics = TopicTree("acme", "s1", "cam-001")
    with (
        HostApplication(mosquitto.port, "plant", "cam-001") as host,
        Subscriber(mosquitto.port) as subscriber,
        StoreAndForward(
            MqttTransport(native, client_id="cam-001", session=NativeSession(topics, "boot")),
            Outbox(tmp_path / "outbox.db"),
            compose=compose_native(topics, Envelope("cam-001", "boot")),
            also=(scada(native, tmp_path),),
        ) as sink,
    ):
        assert host.wait_for(lambda node: len(node.born) == 3)
        for n in range(1, 101):
            sink.send(crossing(n))
        assert sink.flush(20)
        assert host.wait_for(lambda node: node.values(IN) == list(range(1, 101)))
        assert subscriber.wait_for(
            lambda messages: sum("/event/" in topic for topic, _, _ in messages) == 100
        )
        assert host.node.faults == []


REPORTER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_sparkplug_system as system
with system.reporting(int(sys.argv[1]), Path(sys.argv[2])) as sink:
    n = 0
    print("ready", flush=True)
    for line in sys.stdin:
        n += 1
        sink.send(system.crossing(n))
        sink.flush(10)
        print("sent", flush=True)
"""


def test_kill_9_is_a_death_with_the_birth_s_number_and_the_next_birth_has_the_next(tmp_path, mosquitto):
    with HostApplication(mosquitto.port, "plant", "cam-001") as host:
        for run in range(3):
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    REPORTER,
                    str(mosquitto.port),
                    str(tmp_path),
                    str(Path(__file__).parent),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])},
            )
            try:
                assert host.wait_for(
                    lambda node, run=run: node.online and node.births == list(range(run + 1))
                )
                process.stdin.write(b"go\n")
                process.stdin.flush()
                assert host.wait_for(lambda node: node.live.get(("gate", IN)) == 1)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
            assert host.wait_for(lambda node: not node.online)
            assert host.node.deaths == list(range(run + 1))
        assert host.node.faults == []


def test_nothing_is_published_before_the_primary_host_is_online(tmp_path, mosquitto):
    with reporting(mosquitto.port, tmp_path, primary_host="scada") as sink:
        sink.send(crossing(1))
        wait_until(lambda: sink.counters.connected, what="connecting")
        cpu_s = time.process_time()
        assert not sink.flush(1.5)
        assert time.process_time() - cpu_s < 1.0, "it waits, and does not spin"
        assert (sink.counters.connections, sink.counters.sent) == (1, 0)
        with HostApplication(mosquitto.port, "plant", "cam-001", primary="scada") as host:
            assert host.wait_for(lambda node: len(node.born) == 3)
            assert sink.flush(20)
            assert host.wait_for(lambda node: node.values(IN, history=True) == [1])
            host.tell_state(False, later_ms=-10)
            sink.send(crossing(2))
            assert host.wait_for(lambda node: node.live["gate", IN] == 2), "older news change nothing"
            host.tell_state(False, later_ms=20)
            assert host.wait_for(lambda node: not node.online)
            assert host.node.deaths == host.node.births
            sink.send(crossing(3))
            wait_until(lambda: sink.counters.connections >= 2, what="a new connection")
            assert not sink.flush(0.5)
            host.tell_state(True, later_ms=20)
            assert host.wait_for(lambda node: len(node.births) == 2 and len(node.born) == 3)
            assert host.wait_for(lambda node: node.live["gate", IN] == 3)
            assert sink.flush(20)
            assert host.wait_for(lambda node: node.values(IN, history=True) == [1, 3])
            assert host.node.faults == []
            assert host.node.births[1] == host.node.births[0] + 1
