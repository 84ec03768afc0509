"""What is heard: who takes it, what is too large, what handlers break, what the broker refuses."""

import logging

import pytest
from fake_mqtt_server import connack, server
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessage

from edgeai.sinks import MqttSettings
from edgeai.sinks.mqtt.inbox import MAX_INBOUND_BYTES, Inbox
from edgeai.sinks.mqtt.session import Announcement, Session, Subscription
from edgeai.sinks.mqtt.transport import MqttTransport


def message(topic, payload=b"", retain=False):
    one = MQTTMessage(topic=topic if isinstance(topic, bytes) else topic.encode())
    one.payload, one.retain = payload, retain
    return one


def test_every_subscription_that_fits_takes_it():
    took = []
    inbox = Inbox("broker")
    inbox.listen(
        [
            Subscription("d/cmd/+", lambda one: took.append(("cmd", one.topic)) or ()),
            Subscription("d/#", lambda one: took.append(("all", one.topic)) or [Announcement("d/ack", b"")]),
        ]
    )
    assert inbox.take(message("d/cmd/x")) == [Announcement("d/ack", b"")]
    assert took == [("cmd", "d/cmd/x"), ("all", "d/cmd/x")]
    assert inbox.take(message("e/cmd/x")) == []
    assert inbox.take(message("$SYS/x")) == []
    assert (inbox.counters.received, inbox.counters.unexpected) == (1, 2)


@pytest.mark.parametrize("topic", [b"\xff\xfe", b""])
def test_a_topic_that_is_no_text_is_counted(topic):
    inbox = Inbox("broker")
    inbox.listen([Subscription("#", lambda one: ())])
    assert inbox.take(message(topic)) == []
    assert inbox.counters.unexpected == 1


def test_what_is_too_large_is_told_once():
    inbox = Inbox("broker")
    heard = []
    inbox.listen([Subscription("#", lambda one: heard.append(one) or ())])
    for _ in range(5):
        inbox.take(message("t", bytes(MAX_INBOUND_BYTES + 1)))
    inbox.take(message("t", bytes(MAX_INBOUND_BYTES), retain=True))
    assert inbox.counters.oversized == 5
    assert [(len(one.payload), one.retained) for one in heard] == [(MAX_INBOUND_BYTES, True)]


def test_a_flood_of_faults_is_no_flood_of_lines(caplog):
    def fails(one):
        raise {b"k": KeyError, b"v": ValueError}[one.payload]("x")

    inbox = Inbox("broker")
    inbox.listen([Subscription("#", fails)])
    for _ in range(1000):
        inbox.take(message("t", b"k"))
        inbox.take(message("t", b"v"))
    for number in range(1000):
        inbox.fault(f"ack/{number}", "Not authorized")
    assert inbox.counters.faults == 3000
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 2
    assert len(caplog.records) <= 200


@given(
    topic=st.binary(max_size=20),
    payload=st.binary(max_size=50),
    topic_filter=st.text(min_size=1, max_size=10),
)
def test_whatever_comes_nothing_is_raised(topic, payload, topic_filter):
    inbox = Inbox("broker")
    inbox.listen([Subscription(topic_filter, lambda one: 1 / 0)])
    assert inbox.take(message(topic, payload)) == []


class Listening(Session):
    subscriptions = (Subscription("a/+", lambda one: ()), Subscription("b/+", lambda one: ()))


def test_a_refused_subscription_is_told_once_and_ends_nothing(caplog):
    suback = bytes([0x90, 5, 0, 1, 0, 0x87, 1])  # the first is not authorised, the second granted
    with server(lambda version: connack(0), then=(suback,), hold=True) as (port, _):
        settings = MqttSettings(host="127.0.0.1", port=port, connect_timeout_s=1)
        transport = MqttTransport(settings, client_id="x", session=Listening())
        for _ in range(3):
            transport.connect()
    assert transport.inbox.refused == {"a/+": "Not authorized"}
    assert caplog.text.count("subscription to 'a/+' refused: Not authorized") == 1


def test_a_subscription_that_is_never_answered_is_told():
    with server(lambda version: connack(0), hold=True) as (port, _):
        settings = MqttSettings(host="127.0.0.1", port=port, connect_timeout_s=0.2)
        with pytest.raises(Exception, match="no answer to SUBSCRIBE within"):
            MqttTransport(settings, client_id="x", session=Listening()).connect()


def test_a_fault_of_a_session_is_told_as_one_and_not_raised(caplog):
    class Broken(Session):
        def will(self):
            raise KeyError("no will")

    transport = MqttTransport(MqttSettings(host="127.0.0.1"), client_id="x", session=Broken())
    with pytest.raises(Exception, match="unexpected KeyError") as caught:
        transport.connect()
    assert type(caught.value).__name__ == "TransportError"
