"""The MQTT transport against peers that are no broker, or a bad one; the real ones are in tests/system."""

import socket

import pydantic
import pytest
from fake_mqtt_server import connack, server
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import ConfigError, EdgeError
from edgeai.sinks import MqttSettings, open_reporting
from edgeai.sinks.mqtt import link as mqtt_link
from edgeai.sinks.mqtt.credentials import read_password, tls_context
from edgeai.sinks.mqtt.native_session import NativeSession
from edgeai.sinks.mqtt.settings import TlsSettings
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import Progress, TransportError, TransportRefusedError

TREE = TopicTree("t", "s", "d")


def transport_to(port, **changes):
    given_ = {"host": "127.0.0.1", "port": port, "connect_timeout_s": 0.3} | changes
    return MqttTransport(
        MqttSettings(**given_), client_id="edgeai-t-s-d", session=NativeSession(TREE, "boot-1")
    )


def test_nobody_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(TransportError, match=r"cannot connect: .*refused"):
        transport_to(port).connect()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 200])
def test_a_host_that_is_none_is_told(host):
    with pytest.raises(TransportError, match="cannot connect"):
        transport_to(1883, host=host).connect()


def test_a_peer_that_closes_at_once_is_told_after_both_versions():
    with server(lambda version: b"") as (port, versions):
        with pytest.raises(TransportError, match=r"closed the connection without an answer; .*set mqtt\.tls"):
            transport_to(port).connect()
        assert versions == [5, 4]


def test_a_peer_that_says_nothing_is_told():
    with server(lambda version: b"", hold=True) as (port, versions):
        with pytest.raises(TransportError, match=r"no answer to CONNECT within 0\.3 s"):
            transport_to(port).connect()
        assert versions == [5, 4]


def test_a_broker_that_refuses_version_5_is_not_asked_again():
    with server(lambda version: connack(1, 4) if version == 5 else connack(5, 4)) as (port, versions):
        transport = transport_to(port)
        for _ in range(2):
            with pytest.raises(TransportRefusedError, match="not authorised"):
                transport.connect()
        assert versions == [5, 4, 4]


def test_a_birth_that_is_never_acknowledged_is_told():
    with (
        server(lambda version: connack(0), hold=True) as (port, _),
        pytest.raises(TransportError, match="no acknowledgement of the birth"),
    ):
        transport_to(port).connect()


PUBACK_1 = bytes([0x40, 2, 0, 1])  # of the birth


def test_the_brokers_own_goodbye_is_told():
    with server(lambda version: connack(0), then=(PUBACK_1 + bytes([0xE0, 2, 0x8E, 0]),)) as (port, _):
        transport = transport_to(port)
        transport.connect()
        # paho 2.1 reads no reason from a packet without properties
        with pytest.raises(TransportError, match=r"our client id 'edgeai-t-s-d'|disconnected us: Normal"):
            transport.poll(5)


def sent(transport, seq=77):
    transport.publish(Message(seq, "t", b"x", 1, False, "event", "s", 0.0, 0.0))


def polled(transport):
    """What the next news is."""
    for _ in range(20):
        progress = transport.poll(5)
        if progress != Progress():
            return progress
    return progress


def test_acknowledgements_that_come_with_the_end_count():
    with server(lambda version: connack(0), then=(PUBACK_1, bytes([0x40, 2, 0, 2]))) as (port, _):
        transport = transport_to(port, ack_barrier=False)
        transport.connect()
        sent(transport)
        assert polled(transport).acked == (77,)
        with pytest.raises(TransportError, match="connection lost"):
            transport.poll(5)


PUBACK_2 = bytes([0x40, 2, 0, 2])
UNSUBACK_3 = bytes([0xB0, 4, 0, 3, 0, 0x11])  # "no subscription existed"


def test_an_acknowledgement_counts_when_the_broker_has_answered_what_came_after_it():
    with server(lambda version: connack(0), then=(PUBACK_1, PUBACK_2, UNSUBACK_3), hold=True) as (port, _):
        transport = transport_to(port)
        transport.connect()
        sent(transport)
        assert polled(transport).acked == (77,)
    with server(lambda version: connack(0), then=(PUBACK_1, PUBACK_2)) as (port, _):
        transport = transport_to(port)
        transport.connect()
        sent(transport)
        with pytest.raises(
            TransportError, match="connection lost"
        ):  # so it is sent again on the next connection
            polled(transport)


def test_a_broker_that_answers_no_barrier_loses_it_and_nothing_else(monkeypatch, caplog):
    monkeypatch.setattr(mqtt_link, "BARRIER_TIMEOUT_S", 0.05)
    with server(lambda version: connack(0), then=(PUBACK_1, PUBACK_2), hold=True) as (port, _):
        transport = transport_to(port)
        transport.connect()
        sent(transport)
        progress = Progress()
        while not progress.acked:
            progress = transport.poll(0.02)
        assert progress.acked == (77,)
    assert "answers no UNSUBSCRIBE" in caplog.text


@settings(max_examples=60, deadline=None)
@given(answer=st.binary(max_size=60), accept=st.booleans())
def test_whatever_a_peer_says_only_our_errors_come_out(answer, accept):
    with (
        server(lambda version: (connack(0) if accept else b"") + answer) as (port, _),
        pytest.raises(TransportError),
    ):
        transport = transport_to(port, connect_timeout_s=0.1)
        transport.connect()
        for _ in range(10):
            transport.poll(0.05)


def test_unconnected_it_says_so_and_closing_is_safe():
    transport = transport_to(1883)
    with pytest.raises(TransportError, match="not connected"):
        transport.poll(0)
    transport.wake()
    transport.abort()
    transport.close()
    transport.close()


# ---- settings and secrets ----


def test_the_port_follows_tls():
    assert MqttSettings(host="h").port == 1883
    assert MqttSettings(host="h", tls={}).port == 8883
    assert MqttSettings(host="h", tls={}, port=1884).port == 1884


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""}, {"host": "mqtt://h"}, {"host": "h h"}, {"port": 0}, {"port": 70000}, {"tenant": "a/b"}, {"site": "#"},
        {"device": "+"}, {"device": ""}, {"password_file": "p"}, {"tls": {"certificate": "c"}}, {"tls": {"insecure": True}},
        {"password": "secret"}, {"in_flight": 0}, {"keepalive_s": 0}, {"connect_timeout_s": float("inf")}, {"username": ""},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        MqttSettings(**({"host": "h"} | wrong))


def test_settings_are_frozen():
    with pytest.raises(pydantic.ValidationError):
        MqttSettings(host="h").host = "other"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no first line"),
        (b"\nsecond", "no first line"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 5000, "more than 4096"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_told_without_its_content(tmp_path, content, problem):
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(TransportRefusedError, match=problem):
        read_password(file)
    with pytest.raises(TransportRefusedError, match="No such file"):
        read_password(tmp_path / "absent")
    with pytest.raises(TransportRefusedError, match="Is a directory"):
        read_password(tmp_path)


def test_the_password_is_the_first_line(tmp_path):
    (tmp_path / "p").write_bytes("gehäim \r\nsecond".encode())
    assert read_password(tmp_path / "p") == "gehäim "


def test_tls_files_that_cannot_be_used_are_told(tmp_path):
    (tmp_path / "bad.pem").write_text("not a certificate")
    for tls in (
        TlsSettings(ca=tmp_path / "absent.pem"),
        TlsSettings(ca=tmp_path / "bad.pem"),
        TlsSettings(certificate=tmp_path / "bad.pem", key=tmp_path / "bad.pem"),
    ):
        with pytest.raises(TransportRefusedError, match=r"TLS files cannot be used .*\.pem"):
            tls_context(tls)


def test_missing_files_are_a_config_error_before_anything_starts(tmp_path):
    settings_ = MqttSettings(host="h", username="u", password_file=tmp_path / "absent")
    with pytest.raises(ConfigError, match="absent: No such file"):
        open_reporting(settings_, tmp_path / "o.db")
    settings_ = MqttSettings(host="h", tls={"ca": tmp_path / "absent.pem"})
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        open_reporting(settings_, tmp_path / "o.db")


def test_a_device_name_that_is_no_topic_level_is_told(tmp_path):
    with pytest.raises(EdgeError, match="device"):
        open_reporting(MqttSettings(host="h"), tmp_path / "o.db", device="a/b")


def test_the_settings_name_the_device_else_the_caller_else_the_host(tmp_path):
    def topic(settings_, **given_):
        return (
            open_reporting(settings_, tmp_path / "o.db", **given_)
            ._destinations[0]
            .transport._session.will()
            .topic.split("/")[-2]
        )

    assert topic(MqttSettings(host="h", device="mine"), device="theirs") == "mine"
    assert topic(MqttSettings(host="h"), device="theirs") == "theirs"
    assert topic(MqttSettings(host="h")) == socket.gethostname()
