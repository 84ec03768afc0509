"""Whom a device trusts: authorities, names, dates and pins, against real TLS peers; and WebSocket, plain and in TLS."""

import re
import socket
import ssl
import threading

import pytest
from broker import Mosquitto, Subscriber, free_port, wait_until
from certificates import Authority, pin_by_openssl
from reporter import Reporter

from edgeai.sinks import MqttSettings
from edgeai.sinks.mqtt.credentials import tls_context
from edgeai.sinks.mqtt.settings import TlsSettings
from edgeai.sinks.transport import TransportError, TransportRefusedError
from edgeai.types import Event

pytestmark = pytest.mark.system

HERE = "DNS:localhost,IP:127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A root, an intermediate and what they signed for a broker: good, of another name, expired; a stranger's root."""
    folder = tmp_path_factory.mktemp("certificates")
    root = Authority(folder, "root")
    middle = Authority(folder, "middle", parent=root)
    middle.sign("good", names=HERE)
    root.sign("elsewhere", names="DNS:broker.elsewhere")
    root.sign("expired", names=HERE, days=-1)
    Authority(folder, "stranger").sign("strange", names=HERE)
    (folder / "chain.pem").write_text((folder / "good.pem").read_text() + (folder / "middle.pem").read_text())
    return folder


class TlsPeer:
    """Does the handshake with a certificate and keeps the first bytes that come after it."""

    def __init__(self, folder, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / certificate, folder / key)
        self._listener = context.wrap_socket(
            socket.create_server(("127.0.0.1", 0)), server_side=True, do_handshake_on_connect=False
        )
        self.port = self._listener.getsockname()[1]
        self.got = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.settimeout(5)
                    peer.do_handshake()
                    self.got.append(peer.recv(4096))
                except OSError as error:
                    self.got.append(type(error).__name__.encode())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def attempt(port, folder_, tls, host="localhost", **changes):
    settings = MqttSettings(host=host, port=port, tls=tls, connect_timeout_s=2, **changes)
    Reporter(settings, folder_).transport.connect()


def is_connect(raw):
    return raw[:1] == b"\x10" and b"MQTT" in raw[:12]


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("elsewhere.pem", "elsewhere.key", r"TLS failed: .*(Hostname mismatch|localhost)"),
        ("expired.pem", "expired.key", r"TLS failed: .*expired"),
        ("strange.pem", "strange.key", r"TLS failed: .*(issuer|self-signed|verify)"),
        ("good.pem", "good.key", r"TLS failed: .*issuer"),
    ],
    ids=["another name", "expired", "a stranger's", "its intermediate is missing"],
)
def test_a_certificate_that_is_not_the_brokers_is_told_and_gets_no_word_of_ours(
    tmp_path, folder, certificate, key, told
):
    with TlsPeer(folder, certificate, key) as peer:
        with pytest.raises(TransportError, match=told):
            attempt(peer.port, tmp_path, {"ca": folder / "root.pem"})
        wait_until(lambda: bool(peer.got))
    assert not any(is_connect(one) for one in peer.got), peer.got


def test_a_name_that_is_the_certificates_is_taken_and_connect_is_sent(tmp_path, folder):
    with TlsPeer(folder, "chain.pem", "good.key") as peer:
        with pytest.raises(TransportError, match="without an answer"):
            attempt(peer.port, tmp_path, {"ca": folder / "root.pem"})
        wait_until(lambda: len(peer.got) == 2, what="both versions")
    assert all(is_connect(one) for one in peer.got)


@pytest.mark.parametrize("websockets", [False, True], ids=["tcp", "websockets"])
def test_a_wrong_pin_ends_it_before_any_byte_of_ours(tmp_path, folder, websockets):
    secret = tmp_path / "password"
    secret.write_text("tell-nobody\n")
    changes = {"username": "cam", "password_file": secret} | (
        {"transport": "websockets"} if websockets else {}
    )
    with TlsPeer(folder, "chain.pem", "good.key") as peer:
        with pytest.raises(TransportRefusedError, match="public key is not the pinned one") as caught:
            attempt(peer.port, tmp_path, {"ca": folder / "root.pem", "pin_sha256": ["00" * 32]}, **changes)
        wait_until(lambda: bool(peer.got))
    assert pin_by_openssl(folder / "good.pem") in str(caught.value), "the pin that was seen"
    assert "mqtt.tls.pin_sha256" in str(caught.value)
    assert caught.value.lasting
    assert peer.got in ([b""], [b"ConnectionResetError"], [b"SSLEOFError"]), peer.got


@pytest.mark.parametrize("pinned", ["good.pem", "middle.pem", "root.pem"])
def test_a_pin_of_any_certificate_of_the_chain_is_taken(tmp_path, folder, pinned):
    pins = ["11" * 32, pin_by_openssl(folder / pinned)]
    with TlsPeer(folder, "chain.pem", "good.key") as peer:
        with pytest.raises(TransportError, match="without an answer"):
            attempt(peer.port, tmp_path, {"ca": folder / "root.pem", "pin_sha256": pins})
        wait_until(lambda: bool(peer.got))
    assert is_connect(peer.got[0])


def test_a_certificate_that_the_peer_sends_and_nobody_verified_is_no_pin(tmp_path, folder):
    """A thief with any certificate of the same authority can send the pinned one along; it is not part of the chain."""
    loose = tmp_path / "loose.pem"
    loose.write_text((folder / "elsewhere.pem").read_text() + (folder / "good.pem").read_text())
    with TlsPeer(folder, loose, "elsewhere.key") as peer:
        context = tls_context(
            TlsSettings(ca=folder / "root.pem", pin_sha256=[pin_by_openssl(folder / "good.pem")])
        )
        with (
            socket.create_connection(("127.0.0.1", peer.port)) as plain,
            pytest.raises(TransportRefusedError, match="not the pinned one"),
        ):
            context.wrap_socket(plain, server_hostname="broker.elsewhere")


def test_with_an_authority_of_ours_the_systems_are_not_trusted(folder, monkeypatch):
    """The system's store is made to hold the stranger, who then is trusted without `ca` and not with it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "stranger.pem"))
    with TlsPeer(folder, "strange.pem", "strange.key") as peer:

        def handshake(tls):
            with socket.create_connection(("127.0.0.1", peer.port)) as plain:
                tls_context(tls).wrap_socket(plain, server_hostname="localhost").close()

        handshake(TlsSettings())
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(TlsSettings(ca=folder / "root.pem"))
    assert tls_context(TlsSettings(ca=folder / "root.pem")).cert_store_stats()["x509"] == 1


def test_nothing_older_than_tls_1_2(folder):
    context = tls_context(TlsSettings(ca=folder / "root.pem"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_no_secret_is_shown_anywhere(tmp_path, folder, caplog):
    caplog.set_level("DEBUG")
    key = "\n".join((folder / "good.key").read_text().split("\n")[1:-2])
    secret = tmp_path / "password"
    secret.write_text("tell-nobody\n")
    settings = MqttSettings(
        host="localhost", port=free_port(), username="cam", password_file=secret,
        tls={"ca": folder / "root.pem", "certificate": folder / "good.pem", "key": folder / "good.key"},
    )  # fmt: skip
    with TlsPeer(folder, "chain.pem", "good.key") as peer:
        settings = settings.model_copy(update={"port": peer.port})
        with Reporter(settings, tmp_path) as reporter:
            wait_until(lambda: len(peer.got) >= 2)
            transport = reporter.transport
            shown = f"{settings!r}{settings.model_dump_json()}{transport!r}{vars(transport)!r}{reporter.sink.counters!r}"
    assert any(b"tell-nobody" in one for one in peer.got), "it was sent, to the right one"
    told = caplog.text + shown
    assert "tell-nobody" not in told
    assert key not in told
    assert key.split("\n")[0] not in told


# ---- WebSocket ----


def websocket_broker(folder_, folder, *, tls):
    ports = {"plain": free_port(), "ws": free_port()}
    lines = [f"listener {ports['ws']} 127.0.0.1", "protocol websockets", "allow_anonymous true"]
    if tls:
        lines += [
            f"cafile {folder / 'root.pem'}",
            f"certfile {folder / 'chain.pem'}",
            f"keyfile {folder / 'good.key'}",
        ]
    # mosquitto 2 sends its Receive Maximum of 20 on either
    return Mosquitto(folder_, config=("allow_anonymous true", *lines), port=ports["plain"]), ports["ws"]


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_all_arrives_through_a_websocket_in_both_directions(tmp_path, folder, tls):
    broker, port = websocket_broker(tmp_path / "broker", folder, tls=tls)
    settings = MqttSettings(
        host="localhost", port=port, transport="websockets", tls={"ca": folder / "root.pem"} if tls else None
    )
    sizes = [10, 100, 65_400, 65_536, 200_000, 130, 250_000, 1] * 6
    with (
        broker,
        Subscriber(broker.port) as subscriber,
        Reporter(settings, tmp_path, filters=("cmd/+",)) as reporter,
    ):
        wait_until(lambda: reporter.sink.counters.connected)
        reporter.sink.send_many(
            [Event("tick", "gate", 0.0, {"n": n, "x": "x" * size}) for n, size in enumerate(sizes)]
        )
        # mosquitto 2.0.11 itself stops amid its frames where more than some 100 kB wait for a WebSocket client, with empty
        # socket buffers on both sides and whatever client (paho's own too); so downwards it is less
        for number, size in enumerate((1, 3_000, 9_000, 10) * 5):
            subscriber._client.publish(
                "edge/v1/default/default/cam-001/cmd/do", b"%d " % number + b"y" * size, qos=1
            )
        assert reporter.sink.flush(30)
        assert subscriber.wait_for(
            lambda messages: sum("/event/" in topic for topic, *_ in messages) >= len(sizes)
        )
        wait_until(lambda: len(reporter.heard) == 20, what="the commands")
        assert [int(one.payload.split()[0]) for one in reporter.heard] == list(range(20))
        assert {len(one.payload) for one in reporter.heard[2::4]} <= {9_002, 9_003}
        assert reporter.sink.counters.connections == 1
        assert reporter.transport.name == f"{'wss' if tls else 'ws'}://localhost:{port}/mqtt"
    assert subscriber.messages[-1][0].endswith("/state") or "/cmd/" in subscriber.messages[-1][0]


def test_a_websocket_to_what_is_none_is_told(tmp_path, folder):
    broker, port = websocket_broker(tmp_path / "broker", folder, tls=False)
    with broker:
        for wrong in (broker.port, port):
            settings = MqttSettings(
                host="localhost",
                port=wrong,
                transport="websockets" if wrong == broker.port else "tcp",
                connect_timeout_s=1,
            )
            with pytest.raises(TransportError) as caught:
                Reporter(settings, tmp_path).transport.connect()
            assert re.search(
                r"during the WebSocket handshake; check mqtt\.transport|without an answer|within",
                str(caught.value),
            ), caught.value


def test_the_port_follows_the_transport():
    assert MqttSettings(host="h", transport="websockets").port == 80
    assert MqttSettings(host="h", transport="websockets", tls={}).port == 443
    assert MqttSettings(host="h", transport="websockets", port=9001).port == 9001


@pytest.mark.parametrize("path", ["", "mqtt", "/a b", "/a\r\nX: y", "/ä", "/#"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ValueError, match="ws_path"):
        MqttSettings(host="h", transport="websockets", ws_path=path)
