"""Every CONNACK code of the table, in both versions of the protocol, and every DISCONNECT that means more than "gone"."""

import pytest
from fake_mqtt_server import connack, server

from edgeai.sinks import MqttSettings
from edgeai.sinks.mqtt.native_session import NativeSession
from edgeai.sinks.mqtt.refusals import REFUSALS, UNSUPPORTED_PROTOCOL
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import TransportError, TransportRefusedError


def transport_to(port):
    settings = MqttSettings(host="127.0.0.1", port=port, connect_timeout_s=0.5)
    return MqttTransport(
        settings, client_id="gate-1", session=NativeSession(TopicTree("t", "s", "d"), "boot")
    )


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refusal_is_told_as_what_it_is(code):
    text, next_step, lasting = REFUSALS[code]
    with (
        server(lambda version: connack(code)) as (port, versions),
        pytest.raises(TransportRefusedError, match="refused us") as caught,
    ):
        transport_to(port).connect()
    assert str(caught.value) == f"the broker refused us: {text} (CONNACK {code})" + (
        f"; {next_step}" if next_step else ""
    )
    assert caught.value.lasting == lasting
    assert versions == [5], "another version of the protocol would mend nothing"


def test_the_table_has_every_code_of_the_standard():
    # MQTT 5.0, table 3-1, without 0 (success), 132 (unsupported version, which is asked again in 3.1.1) and 153 (payload
    # format of a will invalid: we claim none, and paho takes the packet for malformed)
    standard = {*range(128, 139), 140, 144, 149, 151, *range(154, 158), 159} - {132}
    assert set(REFUSALS) == standard


def test_a_code_of_no_table_is_told_by_its_number():
    with (
        server(lambda version: connack(0xEE)) as (port, _),
        pytest.raises(TransportError, match=r"238|connection lost|without an answer"),
    ):
        transport_to(port).connect()


@pytest.mark.parametrize(
    ("older", "same_as"), [(2, 133), (3, 136), (4, 134), (5, 135)], ids=lambda code: str(code)
)
def test_refusals_of_3_1_1_are_told_alike(older, same_as):
    text, _, lasting = REFUSALS[same_as]
    with (
        server(lambda version: connack(1, 4) if version == 5 else connack(older, 4)) as (port, versions),
        pytest.raises(TransportRefusedError, match="refused us") as caught,
    ):
        transport_to(port).connect()
    assert text in str(caught.value)
    assert caught.value.lasting == lasting
    assert versions == [5, 4]


@pytest.mark.parametrize("answer", [connack(UNSUPPORTED_PROTOCOL), connack(1, 4)])
def test_a_broker_that_refuses_both_versions_is_told(answer):
    with (
        server(lambda version: answer if version == 5 else connack(1, 4)) as (port, versions),
        # paho hangs up at that answer to 3.1.1 by itself and does not tell it
        pytest.raises(TransportError, match="without an answer"),
    ):
        transport_to(port).connect()
    assert versions == [5, 4]


PUBACK_1 = bytes([0x40, 2, 0, 1])  # of the birth


@pytest.mark.parametrize(
    ("code", "text", "lasting"),
    [
        (0x8E, r"another client connected with our client id 'gate-1' .*its own mqtt\.client_id", True),
        (0x87, "not authorised any more", True),
        (0x9C, "use another server", True),
        (0x9D, "the server has moved", True),
        (0x8B, r"Server shutting down \(139\)", False),
        (0x93, r"Receive maximum exceeded \(147\)", False),
    ],
)
def test_the_brokers_goodbye_is_told_as_what_it_is(code, text, lasting):
    with server(lambda version: connack(0), then=(PUBACK_1 + bytes([0xE0, 2, code, 0]),)) as (port, _):
        transport = transport_to(port)
        transport.connect()
        with pytest.raises(TransportError, match=text) as caught:
            transport.poll(5)
    assert getattr(caught.value, "lasting", False) == lasting


def test_connections_that_end_soon_again_and_again_are_given_a_likely_cause():
    with server(lambda version: connack(0), then=(PUBACK_1,)) as (port, _):
        transport = transport_to(port)
        said = []
        for _ in range(4):
            transport.connect()
            with pytest.raises(TransportError) as caught:
                transport.poll(5)
            said.append(str(caught.value))
    assert said[:2] == ["connection lost"] * 2
    assert all("another client may have our client id 'gate-1'" in one for one in said[2:])
