"""The life of an edge node on its connections: will, births, sequence, history, commands, the primary host, bdSeq."""

import json
import logging
import subprocess
import sys

import pytest
import sparkplug_host as host
from sparkplug_edge import DCMD, NCMD, REBIRTH, STATE, Edge

from edgeai.sinks import sparkplug
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.sparkplug import wire
from edgeai.sinks.sparkplug.birth_counter import BirthCounter
from edgeai.sinks.sparkplug.datatypes import SparkplugError
from edgeai.sinks.transport import TransportError


@pytest.fixture
def edge(tmp_path):
    return Edge(tmp_path)


def test_will_and_births(edge):
    will = edge.connect()
    assert (will.topic, will.qos, will.retain) == ("spBv1.0/plant/NDEATH/cam", 1, False)
    assert host.decode(will.payload)["metrics"][0]["value"] == ("long", 0)
    assert edge.node.log == ["NBIRTH", "DBIRTH", "DBIRTH"]
    assert edge.node.faults == []
    assert edge.node.bd_seq == 0
    assert edge.node.live["hall", "Keyword/count"] == 0
    assert edge.node.live["gate", "Rules/door/in"] is None
    assert edge.session.ready
    edge.node.take(will.topic, will.payload)
    assert not edge.node.online


def test_births_are_qos_0_and_not_retained(edge):
    edge.session.will()
    assert {(one.qos, one.retain) for one in edge.session.birth()} == {(0, False)}


def test_subscriptions(tmp_path):
    session = Edge(tmp_path, primary_host="scada").session
    found = [(one.topic_filter, one.qos) for one in session.subscriptions]
    assert found == [(NCMD, 1), ("spBv1.0/plant/DCMD/cam/+", 1), (STATE, 1)]


def test_data_after_the_birth_is_live_and_goes_by_alias_alone(edge):
    edge.connect()
    edge.put()
    raw = edge.session.outgoing(edge.waiting[0])
    (metric,) = host.decode(raw)["metrics"]
    assert metric.keys() == {"alias", "timestamp", "value"}
    edge.node.take(edge.waiting[0].topic, raw)
    assert edge.node.live["gate", "Rules/door/in"] == 1
    assert edge.node.faults == []


def test_what_was_put_before_the_birth_is_history_and_the_birth_has_the_newest(edge):
    for _ in range(3):
        edge.put()
    edge.connect()
    assert edge.node.live["gate", "Rules/door/in"] == 3
    edge.send(2)
    edge.put()
    edge.send(2)
    assert edge.node.values("Rules/door/in", history=True) == [1, 2, 3]
    assert edge.node.live["gate", "Rules/door/in"] == 4
    assert edge.node.faults == []


def test_a_rebirth_makes_history_of_what_waits(edge):
    edge.connect()
    edge.put()
    edge.put()
    edge.send()
    assert [one.topic for one in edge.hear(NCMD, REBIRTH)] == [
        "spBv1.0/plant/NBIRTH/cam",
        "spBv1.0/plant/DBIRTH/cam/gate",
        "spBv1.0/plant/DBIRTH/cam/hall",
    ]
    edge.send()
    assert edge.node.values("Rules/door/in", history=True) == [2]
    assert edge.node.births == [0, 0], "the same bdSeq on the same connection"
    assert edge.node.faults == []


def test_two_changes_stored_in_the_wrong_order_do_not_go_back_in_time(edge):
    edge.connect()
    edge.put()
    edge.put()
    edge.waiting.reverse()
    edge.send(2)
    assert edge.node.live["gate", "Rules/door/in"] == 2
    assert edge.node.values("Rules/door/in", history=True) == [1]
    assert edge.node.faults == []


def test_the_sequence_wraps_after_255_and_begins_anew_on_each_connection(edge):
    edge.connect()
    for _ in range(600):
        edge.put()
        edge.send()
    assert edge.node.seq == (2 + 600) % 256
    edge.connect()
    assert edge.node.seq == 2
    assert edge.node.births == [0, 1]
    assert edge.node.faults == []


def test_an_orderly_end_is_a_death(edge):
    assert edge.session.farewell() == (), "nobody was born"
    edge.connect()
    (death,) = edge.say(edge.session.farewell())
    assert (death.qos, death.retain) == (1, False)
    assert not edge.node.online
    assert edge.session.farewell() == ()
    with pytest.raises(TransportError):
        edge.session.outgoing(Message(1, "t", b"{}", 0, False, "event", "gate", 0.0, 0.0))


def test_another_process_s_messages_are_history(tmp_path):
    old = Edge(tmp_path)
    old.put()
    new = Edge(tmp_path)
    new.connect()
    new.put(5)
    new.waiting[:0] = old.waiting
    new.send(2)
    assert new.node.values("Rules/door/in", history=True) == [1]
    assert new.node.live["gate", "Rules/door/in"] == 5
    assert new.node.faults == []


def test_what_an_earlier_configuration_knew_goes_by_name_as_history(edge):
    metric = {"name": "Rules/gone/in", "type": "Int64", "value": 3, "timestamp_ms": 9}
    payload = json.dumps({"run": "x", "change": 1, "device": "gate", "metrics": [metric]}).encode()
    edge.connect()
    raw = edge.session.outgoing(
        Message(1, "spBv1.0/plant/DDATA/cam/gate", payload, 0, False, "event", "", 0.0, 0.0)
    )
    assert host.decode(raw)["metrics"] == [
        {"name": "Rules/gone/in", "timestamp": 9, "datatype": 4, "is_historical": 1, "value": ("long", 3)}
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"run": 1, "change": "x", "metrics": []}',
        b'{"run": "a", "change": 1, "metrics": [{"name": "n", "type": "Int64", "value": "x", "timestamp_ms": 1}]}',
        b'{"run": "a", "change": 1, "metrics": [{"name": "n", "type": "Map", "value": 1, "timestamp_ms": 1}]}',
        b'{"run": "a", "change": 1, "metrics": [{"name": "\\ud800", "type": "Int64", "value": 1, "timestamp_ms": 1}]}',
        b'{"run": "a", "change": 1, "metrics": [{"name": "n", "type": "Int64", "value": 1, "timestamp_ms": -1}]}',
    ],
)
def test_a_stored_message_that_cannot_be_read_keeps_the_sequence(edge, payload, caplog):
    edge.connect()
    message = Message(7, "spBv1.0/plant/DDATA/cam/gate", payload, 0, False, "event", "gate", 0.0, 0.0)
    edge.node.take(message.topic, edge.session.outgoing(message))
    edge.put()
    edge.send()
    assert edge.node.faults == []
    assert "stored message 7 cannot be read" in caplog.text


def test_commands_that_we_do_not_know_are_ignored_with_a_line(edge, caplog):
    edge.connect()
    for topic, payload, more in [
        (NCMD, host.command(("Node Control/Reboot", True)), {}),
        (NCMD, host.command(("Node Control/Rebirth", False)), {}),
        (NCMD, b"\xff\xff", {}),
        (NCMD, REBIRTH, {"retained": True}),
        (DCMD, host.command(("Rules/door/in", True)), {}),
    ]:
        assert edge.hear(topic, payload, **more) == ()
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 5
    assert "metric 'Node Control/Reboot' takes no command" in lines[0]
    assert edge.node.faults == []


def test_two_requests_in_one_command_are_one_rebirth(edge):
    edge.connect()
    command = host.command(("x", True), ("Node Control/Rebirth", True), ("Node Control/Rebirth", True))
    assert len(edge.hear(NCMD, command)) == 3


def test_a_flood_of_requests_is_answered_ten_times_and_then_once_a_second(edge, caplog):
    edge.connect()
    assert sum(bool(edge.hear(NCMD, REBIRTH)) for _ in range(1000)) == 10
    edge.clock.advance(2.5)
    assert sum(bool(edge.hear(NCMD, REBIRTH)) for _ in range(1000)) == 2
    for _ in range(1000):
        edge.hear(NCMD, b"\xff")
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 10
    assert edge.node.faults == []


class TestPrimaryHost:
    @pytest.fixture
    def edge(self, tmp_path):
        return Edge(tmp_path, primary_host="scada")

    def test_nothing_before_it_is_online(self, edge):
        edge.connect()
        assert edge.node.log == []
        assert not edge.session.ready
        edge.put()
        with pytest.raises(TransportError, match="waiting for the primary host 'scada' to be online"):
            edge.send()
        assert edge.hear(NCMD, REBIRTH) == ()
        edge.state(False)
        assert not edge.session.ended
        edge.state(True)
        assert edge.node.log == ["NBIRTH", "DBIRTH", "DBIRTH"]
        edge.send()
        assert edge.node.values("Rules/door/in", history=True) == [1]
        assert edge.state(True, 2) == (), "one birth is enough"

    def test_its_state_may_come_before_our_birth(self, edge):
        edge.session.will()
        assert edge.state(True) == ()
        edge.say(edge.session.birth())
        assert len(edge.node.log) == 3

    def test_when_it_goes_we_die_and_connect_anew(self, edge):
        edge.connect()
        edge.state(True, 100)
        assert edge.state(False, 99) == (), "older than what is known"
        assert not edge.session.ended
        (death,) = edge.state(False, 100)
        assert death.topic.split("/")[2] == "NDEATH"
        assert not edge.node.online
        assert edge.session.ended == "the primary host 'scada' is offline"
        with pytest.raises(TransportError, match="is offline"):
            edge.put()
            edge.send()
        assert edge.state(True, 101) == (), "not on this connection any more"
        assert edge.session.farewell() == ()
        edge.connect()
        assert (edge.session.ended, edge.session.ready) == ("", False)
        edge.state(True, 101)
        assert edge.node.births == [0, 1]
        assert edge.node.faults == []

    @pytest.mark.parametrize(
        "payload",
        [
            b"ONLINE",
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"online": true}',
            b'{"online": 1, "timestamp": 1}',
            b'{"online": true, "timestamp": true}',
            b'{"online": true, "timestamp": NaN}',
            b'{"online": true, "timestamp": "1"}',
            b"[" * 4000,
            b" " * 5000,
        ],
    )
    def test_what_is_no_state_changes_nothing(self, edge, payload, caplog):
        edge.connect()
        assert edge.hear(STATE, payload) == ()
        assert not edge.session.ready
        assert "ignored 'spBv1.0/STATE/scada'" in caplog.text


def test_without_protobuf_it_is_said_before_anything_is_connected(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    wire.payload_class.cache_clear()
    with pytest.raises(
        SparkplugError, match=r"protobuf, which is not installed; pip install 'edgeai\[sparkplug\]'"
    ):
        Edge(tmp_path)


def test_the_settings_alone_are_light():
    code = "import sys, edgeai.sinks.sparkplug; sys.exit('edgeai.sinks.mqtt.transport' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'SparkplugHost'"):
        sparkplug.SparkplugHost  # noqa: B018


class TestBirthCounter:
    def test_it_goes_on_after_a_restart_and_wraps(self, tmp_path):
        path = tmp_path / "state" / "bd"
        first = BirthCounter(path)
        assert [first.value, first.advance()] == [-1, 0]
        for expected in (1, 2):
            first.prove()
            assert first.advance() == expected
        assert BirthCounter(path).advance() == 3
        path.write_text("255\n")
        assert BirthCounter(path).advance() == 0

    def test_a_long_outage_does_not_write_at_each_attempt(self, tmp_path, monkeypatch):
        path = tmp_path / "bd"
        writes = []
        real = BirthCounter._write
        monkeypatch.setattr(BirthCounter, "_write", lambda self: (writes.append(self.value), real(self)))
        counter = BirthCounter(path)
        for _ in range(100):
            counter.advance()
        assert writes == [0]
        counter.prove()
        assert (writes, path.read_text()) == ([0, 99], "99\n")
        counter.advance()
        assert writes == [0, 99, 100]

    @pytest.mark.parametrize("content", [b"", b"256", b"-1", b"x" * 999, b"\xff\xff", b"1 2", "٣".encode()])
    def test_a_file_that_holds_no_number(self, tmp_path, content, caplog):
        path = tmp_path / "bd"
        path.write_bytes(content)
        counter = BirthCounter(path)
        assert counter.advance() == 0
        assert "no number from 0 to 255" in caplog.text
        counter.prove()
        assert BirthCounter(path).advance() == 1

    def test_a_folder_that_cannot_be_written_is_told_once(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        counter = BirthCounter(tmp_path / "file" / "bd")
        for expected in range(5):
            assert counter.advance() == expected
            counter.prove()
        assert len(caplog.records) == 1
        assert caplog.records[0].levelno == logging.WARNING
