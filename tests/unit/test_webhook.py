import contextlib
import json
import logging
import ssl
import threading
import time

import pytest
from broker import free_port, wait_until
from certificates import make_certificates
from webhook_server import Receiver, verified

from edgeai.clock import FakeClock
from edgeai.errors import ConfigError
from edgeai.sinks import webhook
from edgeai.sinks.delivery.drain import Backoff
from edgeai.sinks.other_settings import WebhookSettings, check_sink_files, open_transport
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.payload import Envelope, compose_native
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import Progress, TransportBusyError, TransportError, TransportRefusedError
from edgeai.sinks.webhook import WebhookTransport
from edgeai.types import Event

ENVELOPE = Envelope("cam-001", "boot-1", synced=lambda: None)


@pytest.fixture
def receiver():
    with Receiver() as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def settings(receiver, **changes):
    url = receiver if isinstance(receiver, str) else receiver.url
    return WebhookSettings(**{"name": "hook", "kind": "webhook", "url": url} | changes)


def message(seq=1, payload=None, priority="event"):
    payload = json.dumps({"id": f"id-{seq}", "n": seq}).encode() if payload is None else payload
    return Message(seq, "edge/v1/t/s/d/event/gate", payload, 1, False, priority, "gate", 0.0, 0.0)


def opened(receiver, **changes):
    clock = changes.pop("clock", None)
    transport = WebhookTransport(settings(receiver, **changes), clock=clock)
    transport.connect()
    return transport


def fate(transport, *messages):
    """What becomes of messages, each poll short."""
    for one in messages:
        transport.publish(one)
    acked, refused = [], []
    while len(acked) + len(refused) < len(messages):
        progress = transport.poll(5.0)
        acked += progress.acked
        refused += progress.refused
    return acked, refused


def forwarding(receiver, folder, **changes):
    return StoreAndForward(
        WebhookTransport(settings(receiver, **changes)),
        Outbox(folder / "outbox.db"),
        compose=compose_native(TopicTree("t", "s", "cam-001"), ENVELOPE),
        backoff=Backoff(base_s=0.001, cap_s=0.002),
    )


def ticks(n):
    return [Event("tick", "gate", float(number), {"n": number}) for number in range(n)]


def test_a_message_is_one_post_with_its_id_topic_and_time(receiver):
    transport = opened(receiver, clock=FakeClock(wall_s=1_700_000_000.0))
    assert fate(transport, message(7)) == ([7], [])
    (request,) = receiver.requests
    assert request.path == "/hook?key=s3cret"
    assert request.body == b'{"id": "id-7", "n": 7}'
    wanted = {
        "Content-Type": "application/json",
        "Edgeai-Id": "id-7",
        "Edgeai-Topic": "edge/v1/t/s/d/event/gate",
        "Edgeai-Timestamp": "1700000000",
    }
    assert wanted.items() <= request.headers.items()
    assert "Edgeai-Signature" not in request.headers
    assert "Authorization" not in request.headers
    transport.close()


def test_the_connection_is_kept(receiver):
    transport = opened(receiver)
    for seq in range(1, 6):
        assert fate(transport, message(seq)) == ([seq], [])
    assert receiver.connections == 1
    transport.close()


def test_a_connection_that_the_server_closed_is_made_anew_without_a_word(receiver):
    def closing(request, handler):
        handler.close_connection = True
        return 204

    receiver.answer = closing
    transport = opened(receiver)
    for seq in range(1, 4):
        assert fate(transport, message(seq)) == ([seq], [])
    assert [one.events[0]["n"] for one in receiver.requests] == [1, 2, 3]
    transport.close()


def test_waiting_messages_share_a_request_where_batch_says_so(receiver):
    transport = opened(receiver, batch=3)
    assert transport.window == 3
    image = message(3, b"\xff\xd8\xff\xe0 picture \n", "image")
    assert fate(transport, message(1), message(2), image, message(4)) == ([1, 2, 3, 4], [])
    texts, picture, last = receiver.requests
    assert texts.headers["Content-Type"] == last.headers["Content-Type"] == "application/x-ndjson"
    assert [one["n"] for one in texts.events] == [1, 2]
    assert "Edgeai-Id" not in texts.headers
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert picture.body == image.payload
    assert picture.headers["Edgeai-Id"].startswith("sha256-")
    transport.close()


def test_signatures_hold_and_any_change_breaks_them(receiver, tmp_path, caplog):
    (tmp_path / "key").write_text("s3cr3t-kéy\n")
    (tmp_path / "token").write_text("tok3n\n")
    caplog.set_level(logging.DEBUG)
    transport = opened(receiver, secret_file=tmp_path / "key", bearer_token_file=tmp_path / "token", batch=2)
    fate(transport, message(1), message(2))
    fate(transport, message(3))
    for request in receiver.requests:
        assert verified(request, "s3cr3t-kéy")
        assert not verified(request, "another")
        assert request.headers["Authorization"] == "Bearer tok3n"
        for changed in ({"Edgeai-Timestamp": "1"}, {"Edgeai-Signature": "v1=" + "0" * 64}):
            assert not verified(
                type(request)(request.path, request.headers | changed, request.body), "s3cr3t-kéy"
            )
        assert not verified(type(request)(request.path, request.headers, request.body + b" "), "s3cr3t-kéy")
    shown = f"{caplog.text}{transport.name}{transport._keys!r}"
    assert not any(secret in shown for secret in ("s3cr3t", "tok3n", "s3cret"))
    transport.close()


def test_failures_lose_nothing_and_keep_the_order(receiver, tmp_path):
    failures = {3: 500, 4: 500, 9: 503, 15: 429, 20: 502}
    receiver.answer = lambda request, handler: failures.get(len(receiver.requests), 204)
    with forwarding(receiver, tmp_path) as sink:
        sent = ticks(30)
        sink.send_many(sent)
        assert sink.flush(20)
    assert [one["id"] for one in receiver.accepted] == [one.id for one in sent]
    assert len(receiver.requests) == 30 + len(failures)


def test_a_server_that_is_busy_for_long_changes_no_order(receiver, tmp_path):
    receiver.answer = lambda request, handler: 503 if len(receiver.requests) <= 20 else 204
    with forwarding(receiver, tmp_path) as sink:
        sent = ticks(10)
        sink.send_many(sent)
        assert sink.flush(20)
        assert sink.counters.refused == 0
    assert [one["id"] for one in receiver.accepted] == [one.id for one in sent]


def test_what_is_refused_lets_the_others_pass(receiver, tmp_path):
    receiver.answer = lambda request, handler: (
        400 if any(one["data"]["n"] == 3 for one in request.events) else 200
    )
    for batch in (1, 4):
        receiver.accepted.clear()
        with forwarding(receiver, tmp_path / str(batch), batch=batch) as sink:
            sink.send_many(ticks(10))
            wait_until(lambda: len(receiver.accepted) == 9 and sink.counters.pending == 1)
            assert sink.counters.refused == 1
        assert [one["data"]["n"] for one in receiver.accepted] == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_a_refusal_has_its_reason(receiver):
    receiver.answer = lambda request, handler: 422
    transport = opened(receiver)
    assert fate(transport, message(1)) == ([], [(1, "422 Unprocessable Entity")])
    transport.close()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "bearer_token_file"),
        (404, "url"),
        (410, "gone for good"),
        (302, "not followed"),
        (308, "not followed"),
    ],
)
def test_what_refuses_everything_is_not_asked_again_at_once(receiver, status, said):
    receiver.answer = lambda request, handler: (status, {"Location": "http://127.0.0.1:1/elsewhere"})
    clock = FakeClock()
    transport = opened(receiver, clock=clock)
    with pytest.raises(TransportRefusedError, match=said) as caught:
        fate(transport, message(1))
    assert caught.value.lasting
    with pytest.raises(TransportRefusedError, match=str(status)):
        transport.connect()
    clock.advance(webhook.ASK_REFUSER_S)
    transport.connect()
    assert len(receiver.requests) == 1
    transport.close()


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("30", 30.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("999999999", webhook.MAX_RETRY_AFTER_S),
        ("soon", 0.0),
        ("-5", 0.0),
    ],
)
def test_retry_after_is_heard_and_capped(receiver, header, wait_s):
    receiver.answer = lambda request, handler: (429, {"Retry-After": header})
    clock = FakeClock(wall_s=1_700_000_000.0)  # 22:13:20 of that day
    transport = opened(receiver, clock=clock)
    with pytest.raises(TransportBusyError, match=r"the server is busy \(429 Too Many Requests\)"):
        fate(transport, message(1))
    if wait_s:
        clock.advance(wait_s - 0.5)
        with pytest.raises(TransportBusyError, match="429"):
            transport.connect()
        clock.advance(0.5)
    transport.connect()
    transport.close()


def trickle(request, handler):
    """A byte now and then: no single read ever times out."""
    with contextlib.suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 10_000:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.02)


def silent(request, handler):
    handler.connection.settimeout(5)
    with contextlib.suppress(OSError):
        handler.rfile.read(1)


def cut(request, handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")


def torn(request, handler):
    handler.wfile.write(b"HTTP/1.1 20")


def babble(request, handler):
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 3)


def many_headers(request, handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n")


def nothing(request, handler):
    return None


@pytest.mark.parametrize("fault", [trickle, silent, cut, torn, babble, many_headers, nothing])
def test_a_broken_answer_is_a_lost_connection_and_no_acknowledgement(receiver, fault):
    receiver.answer = fault
    transport = opened(receiver, response_timeout_s=0.3)
    with pytest.raises(TransportError, match="answer"):
        fate(transport, message(1))
    receiver.answer = lambda request, handler: 204
    transport.connect()
    assert fate(transport, message(1)) == ([1], [])
    transport.close()


def test_an_endless_body_is_not_read(receiver):
    def endless(request, handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        try:
            for _ in range(1000):
                handler.wfile.write(b"x" * 99999)
        except OSError:
            pass

    receiver.answer = endless
    transport = opened(receiver)
    assert fate(transport, message(1)) == ([1], [])
    receiver.answer = lambda request, handler: 204
    assert fate(transport, message(2)) == (
        [2],
        [],
    )  # on a new connection: the old one has the rest of the body
    assert receiver.connections == 2
    transport.close()


def test_a_large_body_goes_whole_and_413_refuses_it(receiver):
    big = message(1, b'{"id":"x","data":"' + b"y" * 200_000 + b'"}')
    receiver.answer = lambda request, handler: 413
    transport = opened(receiver)
    assert fate(transport, big)[1][0][1].startswith("413")
    transport.close()


def test_waiting_for_a_slow_server_ends_on_wake(receiver):
    release = threading.Event()
    receiver.answer = lambda request, handler: 204 if release.wait(20) else 500
    transport = opened(receiver)
    transport.publish(message(1))
    transport.wake()
    assert transport.poll(60.0) == Progress()  # else it raises when the time for the answer is over
    release.set()
    acked = ()
    while not acked:
        acked = transport.poll(5.0).acked
    assert acked == (1,)
    transport.close()


def test_nobody_there():
    with pytest.raises(TransportError, match=r"cannot connect: .*refused"):
        opened(f"http://127.0.0.1:{free_port()}/")


@pytest.fixture
def tls_receiver(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    with Receiver(context=context) as server:
        yield server


def test_tls_with_an_authority_of_its_own_and_a_client_certificate(tls_receiver, certificates):
    tls = {
        "ca": certificates / "ca.pem",
        "certificate": certificates / "client.pem",
        "key": certificates / "client.key",
    }
    subjects = []

    def note(request, handler):
        subjects.append(handler.connection.getpeercert()["subject"])
        return 200

    tls_receiver.answer = note
    transport = opened(tls_receiver, tls=tls)
    assert transport.name == f"https://127.0.0.1:{tls_receiver.port}"
    for seq in (1, 2, 3):
        assert fate(transport, message(seq)) == ([seq], [])
    assert tls_receiver.connections == 1
    assert subjects[0] == ((("commonName", "client"),),)
    transport.close()


@pytest.mark.parametrize("ca", ["stranger.pem", None])
def test_a_server_of_another_authority_gets_nothing(tls_receiver, certificates, ca):
    with pytest.raises(TransportError, match=r"TLS failed: .*certificate"):
        opened(tls_receiver, tls={"ca": ca and certificates / ca})
    assert not tls_receiver.requests


def test_a_server_of_another_name_gets_nothing(tls_receiver, certificates):
    url = tls_receiver.url.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(TransportError, match=r"TLS failed|cannot connect"):
        opened(url, tls={"ca": certificates / "ca.pem"})


def test_files_are_checked_before_and_never_shown(receiver, tmp_path):
    check_sink_files(settings(receiver))
    with pytest.raises(
        ConfigError, match=r"sink hook: .*missing: No such file.*check secret_file of the sink"
    ):
        check_sink_files(settings(receiver, secret_file=tmp_path / "missing"))
    (tmp_path / "token").write_text("two words")
    with pytest.raises(ConfigError, match="spaces") as caught:
        check_sink_files(settings(receiver, bearer_token_file=tmp_path / "token"))
    assert "two words" not in str(caught.value)
    (tmp_path / "ca").write_text("no pem")
    with pytest.raises(ConfigError, match="check tls of the sink"):
        check_sink_files(settings("https://localhost/", tls={"ca": tmp_path / "ca"}))


def test_the_table_opens_it(receiver):
    transport = open_transport(settings(receiver))
    assert transport.name == f"http://127.0.0.1:{receiver.port}"
