"""What counts as delivered at QoS 0, without a broker: the order of writing, fences, loss and end."""

from types import SimpleNamespace

import pytest
from sparkplug_edge import Edge

from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.sparkplug.transport import FENCE, SparkplugTransport
from edgeai.sinks.transport import NOTHING, Progress, TransportError


class Wire:
    """Stands for the base class: what it was given, and what its polls will say."""

    def __init__(self, monkeypatch):
        self.sent = []
        self.link = SimpleNamespace(
            refused=[], max_qos=2, client=SimpleNamespace(unsubscribe=self.unsubscribe, on_unsubscribe=None)
        )
        self.progress = []
        self.closed = 0
        monkeypatch.setattr(MqttTransport, "publish", lambda _, message: self.sent.append(message.seq))
        monkeypatch.setattr(MqttTransport, "poll", lambda _, timeout_s: self.poll())
        monkeypatch.setattr(MqttTransport, "connect", lambda _: None)
        monkeypatch.setattr(MqttTransport, "close", lambda _: setattr(self, "closed", self.closed + 1))
        monkeypatch.setattr(MqttTransport, "_linked", lambda _: self.link)

    def unsubscribe(self, topic):
        assert topic == FENCE
        self.sent.append("fence")
        return 0, 1000 + self.sent.count("fence")

    def answer(self, mid):
        self.link.client.on_unsubscribe(None, None, mid, [], None)

    def poll(self):
        step = self.progress.pop(0) if self.progress else NOTHING
        if isinstance(step, Exception):
            raise step
        return step


@pytest.fixture
def edge(tmp_path):
    edge = Edge(tmp_path, primary_host="scada")
    edge.connect()
    edge.state(True)
    return edge


@pytest.fixture
def wire(monkeypatch):
    return Wire(monkeypatch)


@pytest.fixture
def transport(edge, wire):
    transport = SparkplugTransport(MqttSettings(host="h"), client_id="c", session=edge.session)
    transport.connect()
    return transport


def message(seq, qos=0):
    return Message(seq, "spBv1.0/plant/DDATA/cam/gate", b"{}", qos, False, "event", "gate", 0.0, 0.0)


def test_written_is_not_delivered_and_the_fence_s_answer_is(transport, wire):
    transport.publish(message(1))
    transport.publish(message(2))
    wire.progress = [Progress((1, 2))]
    assert transport.poll(0) == NOTHING
    assert wire.sent == [1, 2, "fence"]
    transport.publish(message(3))
    assert transport.poll(0) == NOTHING, "one fence at a time"
    wire.answer(77)
    assert transport.poll(0) == NOTHING, "another's answer"
    wire.answer(1001)
    wire.progress = [Progress((3,))]
    assert transport.poll(0) == Progress((1, 2))
    assert wire.sent == [1, 2, "fence", 3, "fence"]
    wire.answer(1002)
    assert transport.poll(0) == Progress((3,))
    assert transport._written == set()


def test_qos_1_has_its_own_acknowledgement(transport, wire):
    transport.publish(message(1, qos=1))
    wire.progress = [Progress((1,))]
    assert transport.poll(0) == Progress((1,))
    assert wire.sent == [1]


def test_a_broker_without_qos_1_is_fenced_too(transport, wire):
    wire.link.max_qos = 0
    transport.publish(message(1, qos=1))
    wire.progress = [Progress((1,))]
    assert transport.poll(0) == NOTHING
    assert "fence" in wire.sent


def test_what_was_refused_waits_for_no_fence(transport, wire, monkeypatch):
    monkeypatch.setattr(
        MqttTransport, "publish", lambda _, one: wire.link.refused.append((one.seq, "too large"))
    )
    transport.publish(message(1))
    wire.progress = [Progress((), ((1, "too large"),))]
    assert transport.poll(0) == Progress((), ((1, "too large"),))
    assert wire.sent == []


def test_after_a_loss_nothing_is_left_over(transport, wire):
    transport.publish(message(1))
    transport.poll(0)
    transport.publish(message(2))
    transport.abort()
    wire.answer(1001)
    assert transport.poll(0) == NOTHING


def test_an_answer_that_came_with_the_end_is_told_before_the_end(transport, wire):
    transport.publish(message(1))
    transport.poll(0)
    wire.answer(1001)
    wire.progress = [TransportError("lost"), TransportError("lost")]
    assert transport.poll(0) == Progress((1,))
    with pytest.raises(TransportError, match="lost"):
        transport.poll(0)


def test_nothing_goes_out_before_the_births(transport, edge, wire):
    edge.connect()
    assert not transport.ready
    with pytest.raises(TransportError, match="waiting for the primary host"):
        transport.publish(message(1))
    assert wire.sent == []
    edge.state(True)
    assert transport.ready


def test_when_the_primary_host_goes_the_connection_ends_in_order(transport, edge, wire):
    transport.publish(message(1))
    transport.poll(0)
    wire.answer(1001)
    edge.state(False, 2)
    assert not transport.ready
    with pytest.raises(TransportError, match="the primary host 'scada' is offline"):
        transport.poll(0)
    assert wire.closed == 1
