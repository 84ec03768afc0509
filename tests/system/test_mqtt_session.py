"""What a connection says and hears, on a real mosquitto: birth and greetings, commands, answers, sessions, expiries."""

import json

import paho.mqtt.client as paho
import pytest
from broker import Mosquitto, Subscriber, amqtt_broker, wait_until
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from reporter import Reporter

from edgeai.sinks import MqttSettings
from edgeai.sinks.mqtt.inbox import MAX_INBOUND_BYTES
from edgeai.sinks.mqtt.session import Announcement, Session
from edgeai.types import Event

pytestmark = pytest.mark.system

ROOT = "edge/v1/default/default/cam-001"


@pytest.fixture
def mosquitto(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def operator(mosquitto):
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def settings_to(broker, **changes):
    return MqttSettings(host="127.0.0.1", port=broker.port, **changes)


def say(operator, topic, payload, **more):
    operator.publish(topic, payload, qos=1, **more).wait_for_publish(10)


def up(reporter):
    wait_until(lambda: reporter.sink.counters.connected, what="connecting")


def test_a_command_is_heard_and_its_answer_comes_on_the_same_connection(tmp_path, mosquitto, operator):
    def answer(message):
        return [Announcement(f"{ROOT}/ack/1", message.payload.upper(), retain=False)]

    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = "answers/here"
    properties.CorrelationData = b"\x00\x01"
    with (
        Subscriber(mosquitto.port) as subscriber,
        Reporter(settings_to(mosquitto), tmp_path, answer=answer) as reporter,
    ):
        up(reporter)
        say(operator, f"{ROOT}/cmd/snapshot", b"please", properties=properties)
        assert subscriber.wait_for(lambda messages: (f"{ROOT}/ack/1", b"PLEASE", False) in messages)
        (one,) = reporter.heard
        assert (one.topic, one.payload, one.retained) == (f"{ROOT}/cmd/snapshot", b"please", False)
        assert (one.response_topic, one.correlation) == ("answers/here", b"\x00\x01")
        assert reporter.transport.inbox.counters.received == 1


def test_commands_sent_while_away_are_heard_at_the_return_and_answered_after_the_birth(
    tmp_path, mosquitto, operator
):
    def answer(message):
        return [Announcement(f"{ROOT}/ack/{message.payload.decode()}", b"done", retain=False)]

    first = Reporter(settings_to(mosquitto), tmp_path, answer=answer)
    with first:
        up(first)
    for number in range(
        60
    ):  # more than mosquitto's window, so some come before SUBACK and some after the birth
        say(operator, f"{ROOT}/cmd/do", str(number))
    with (
        Subscriber(mosquitto.port) as subscriber,
        Reporter(settings_to(mosquitto), tmp_path, answer=answer) as again,
    ):
        assert subscriber.wait_for(lambda messages: sum("/ack/" in topic for topic, *_ in messages) == 60)
        assert [one.payload for one in again.heard] == [str(number).encode() for number in range(60)]
        live = [topic for topic, _, retained in subscriber.messages if not retained and "/cmd/" not in topic]
        assert live[0] == f"{ROOT}/state"
        assert live[1:] == [f"{ROOT}/ack/{number}" for number in range(60)]
        assert again.sink.counters.connections == 1


@pytest.mark.parametrize(("session_expiry_s", "heard"), [(0, []), (86400, [b"1"])])
def test_the_session_lives_as_long_as_the_settings_say(
    tmp_path, mosquitto, operator, session_expiry_s, heard
):
    settings = settings_to(mosquitto, session_expiry_s=session_expiry_s)
    with Reporter(settings, tmp_path) as reporter:
        up(reporter)
    say(operator, f"{ROOT}/cmd/do", "1")
    with Reporter(settings, tmp_path) as reporter:
        up(reporter)
        say(operator, f"{ROOT}/cmd/do", "2")
        wait_until(lambda: bool(reporter.heard) and reporter.heard[-1].payload == b"2")
        assert [one.payload for one in reporter.heard[:-1]] == heard


@pytest.mark.parametrize("expiry_s", [None, 4000])
def test_the_message_expiry_is_sent(tmp_path, mosquitto, expiry_s):
    got = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    ready = []
    client.on_connect = lambda *_: client.subscribe(f"{ROOT}/event/#", 1)
    client.on_subscribe = lambda *_: ready.append(1)
    client.on_message = lambda _, data, message: got.append(message)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    wait_until(lambda: bool(ready))
    with Reporter(settings_to(mosquitto, message_expiry_s=expiry_s), tmp_path) as reporter:
        reporter.sink.send(Event("tick", "gate", 0.0))
        wait_until(lambda: bool(got))
    client.disconnect()
    client.loop_stop()
    left_s = getattr(got[0].properties, "MessageExpiryInterval", None)
    assert left_s is None if expiry_s is None else expiry_s - 60 < left_s <= expiry_s


def test_a_payload_too_large_is_dropped_and_counted_and_the_rest_goes_on(
    tmp_path, mosquitto, operator, caplog
):
    with Reporter(settings_to(mosquitto), tmp_path) as reporter:
        up(reporter)
        for size in (MAX_INBOUND_BYTES + 1, MAX_INBOUND_BYTES + 2, 2 << 20, MAX_INBOUND_BYTES):
            say(operator, f"{ROOT}/cmd/do", b"x" * size)
        wait_until(lambda: bool(reporter.heard), what="the one that fits")
        assert [len(one.payload) for one in reporter.heard] == [MAX_INBOUND_BYTES]
        # the third is above what we told the broker of, so that it never reached us
        assert reporter.transport.inbox.counters.oversized == 2
        assert reporter.sink.counters.connections == 1
    assert caplog.text.count("bytes dropped") == 1


def test_a_handler_that_fails_ends_nothing_and_is_logged_once(tmp_path, mosquitto, operator, caplog):
    def answer(message):
        if message.payload == b"bad":
            raise KeyError("a fault of ours")
        return [Announcement("no/+/topic", b""), Announcement(f"{ROOT}/ack/1", b"fine", retain=False)]

    with (
        Subscriber(mosquitto.port) as subscriber,
        Reporter(settings_to(mosquitto), tmp_path, answer=answer) as reporter,
    ):
        up(reporter)
        for text in ("bad", "bad", "good"):
            say(operator, f"{ROOT}/cmd/do", text)
        assert subscriber.wait_for(lambda messages: (f"{ROOT}/ack/1", b"fine", False) in messages)
        assert reporter.transport.inbox.counters.faults == 3, "two messages and an answer on no topic"
        assert reporter.sink.counters.connections == 1
    assert caplog.text.count("a handler of") == 1


def test_greetings_follow_the_birth_however_small_the_brokers_window(tmp_path):
    def greetings():
        return [Announcement(f"homeassistant/{number}", b"{}") for number in range(50)]

    config = ("allow_anonymous true", "max_inflight_messages 1")
    with (
        Mosquitto(tmp_path / "broker", config=config) as broker,
        Subscriber(broker.port, "#") as subscriber,
        Reporter(settings_to(broker), tmp_path, greetings=greetings) as reporter,
    ):
        events = [Event("tick", "gate", float(number)) for number in range(20)]
        reporter.sink.send_many(events)
        assert reporter.sink.flush(20)
        assert reporter.transport.window == 2, "one in the broker's window, one behind the barrier"
        assert subscriber.wait_for(lambda messages: len(messages) == 71)
        topics = [topic for topic, *_ in subscriber.messages]
        assert topics[:51] == [f"{ROOT}/state", *(f"homeassistant/{number}" for number in range(50))]
        assert reporter.sink.counters.connections == 1


def test_answers_and_events_together_stay_within_the_brokers_window(tmp_path):
    def answer(message):
        return [Announcement(f"{ROOT}/ack/{message.payload.decode()}", b"", retain=False)] * 3

    config = ("allow_anonymous true", "max_inflight_messages 2")
    with (
        Mosquitto(tmp_path / "broker", config=config) as broker,
        Subscriber(broker.port) as subscriber,
        Reporter(settings_to(broker), tmp_path, answer=answer) as reporter,
    ):
        up(reporter)
        operator = paho.Client(CallbackAPIVersion.VERSION2)
        operator.connect("127.0.0.1", broker.port)
        operator.loop_start()
        reporter.sink.send_many([Event("tick", "gate", float(number)) for number in range(200)])
        for number in range(40):
            operator.publish(f"{ROOT}/cmd/do", str(number), qos=1)
        assert subscriber.wait_for(
            lambda messages: sum("/ack/" in topic or "/event/" in topic for topic, *_ in messages) == 320
        )
        operator.disconnect()
        operator.loop_stop()
        assert reporter.sink.counters.connections == 1, "mosquitto hangs up at one message too many"


def test_two_devices_with_one_client_id_are_told_what_they_may_be(tmp_path, mosquitto, caplog):
    settings = settings_to(mosquitto, client_id="same")
    with (
        Reporter(settings, tmp_path, device="one"),
        Reporter(settings, tmp_path, device="two"),
    ):
        wait_until(lambda: "another client may have our client id 'same'" in caplog.text)


class Numbered(Session):
    """Counts connections, as Sparkplug's sequence does."""

    def __init__(self):
        self.connections = 0

    def will(self):
        self.connections += 1
        return Announcement("numbered/will", str(self.connections).encode(), retain=False)

    def birth(self):
        return [Announcement("numbered/birth", str(self.connections).encode(), qos=0, retain=False)]

    def outgoing(self, message):
        if b'"bad"' in message.payload:
            raise ValueError("no words for it")
        return f"{self.connections} {json.loads(message.payload)['data']['n']}".encode()


def test_a_session_words_its_messages_at_publishing_and_wills_differ(tmp_path, mosquitto, caplog):
    with (
        Subscriber(mosquitto.port, "#") as subscriber,
        Reporter(settings_to(mosquitto), tmp_path, session=lambda _: Numbered()) as reporter,
    ):
        up(reporter)
        reporter.sink.send_many([Event("tick", "gate", 0.0, {"n": n}) for n in (1, "bad", 2)])
        wait_until(lambda: reporter.sink.counters.acked == 2 and reporter.sink.counters.refused == 1)
        assert [payload for topic, payload, _ in subscriber.messages if "/event/" in topic] == [
            b"1 1",
            b"1 2",
        ]
        other = paho.Client(CallbackAPIVersion.VERSION2, client_id="edgeai-cam-001", protocol=paho.MQTTv5)
        other.connect("127.0.0.1", mosquitto.port)
        other.loop_start()
        assert subscriber.wait_for(lambda messages: ("numbered/will", b"1", False) in messages)
        other.disconnect()
        other.loop_stop()
        assert subscriber.wait_for(lambda messages: ("numbered/birth", b"2", False) in messages)
    assert "cannot be put into words" in caplog.text


def test_the_older_version_hears_commands_too(tmp_path):
    with amqtt_broker() as port:
        with Reporter(
            MqttSettings(host="127.0.0.1", port=port, connect_timeout_s=2),
            tmp_path,
            filters=("cmd/+", "cfg/desired"),
        ) as reporter:
            wait_until(lambda: reporter.sink.counters.connected)
            operator = paho.Client(CallbackAPIVersion.VERSION2)
            operator.connect("127.0.0.1", port)
            operator.loop_start()
            say(operator, f"{ROOT}/cmd/do", "1")
            say(operator, f"{ROOT}/cfg/desired", "{}")
            wait_until(lambda: len(reporter.heard) == 2)
            operator.disconnect()
            operator.loop_stop()
        assert reporter.transport.protocol == "3.1.1"
        assert {one.topic for one in reporter.heard} == {f"{ROOT}/cmd/do", f"{ROOT}/cfg/desired"}
