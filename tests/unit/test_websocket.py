"""The WebSocket under MQTT against a peer written here from RFC 6455, honest and hostile; mosquitto's is in tests/system."""

import base64
import contextlib
import hashlib
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.sinks.mqtt.websocket import WebSocket, WebSocketProtocolError, _frame
from edgeai.sinks.transport import TransportError, TransportRefusedError


def answer_to(request, *, accept=None, protocol="mqtt", status="101 Switching Protocols"):
    key = next(line[19:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
    digest = hashlib.sha1(
        (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode(), usedforsecurity=False
    ).digest()
    accept = accept or base64.b64encode(digest).decode()
    lines = [
        f"HTTP/1.1 {status}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    lines += [f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []
    return "\r\n".join([*lines, "", ""]).encode()


def opened(more=b"", **how):
    """A WebSocket after its handshake, and the peer's end. `more` comes with the handshake's answer."""
    ours, theirs = socket.socketpair()
    requests = []

    def serve():
        requests.append(theirs.recv(4096))
        theirs.sendall(answer_to(requests[0], **how) + more)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        ws = WebSocket(ours, host="broker.example", port=8080, path="/mqtt?x=1", timeout_s=5)
    finally:
        thread.join(5)
    ws.setblocking(False)
    return ws, theirs, requests[0]


def from_server(payload, opcode=2, *, first=0x80):
    size = len(payload)
    if size < 126:
        head = bytes([first | opcode, size])
    elif size < 65536:
        head = bytes([first | opcode, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first | opcode, 127]) + size.to_bytes(8, "big")
    return head + payload


def frames_from_client(raw):
    """[(opcode, payload)] of a whole stream, unmasked byte by byte; every frame must be masked and final."""
    frames = []
    while raw:
        assert raw[0] & 0xF0 == 0x80
        assert raw[1] & 0x80, "RFC 6455, section 5.1: a client masks"
        size, at = raw[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(raw[2 : 2 + width], "big"), 2 + width
        key, body = raw[at : at + 4], raw[at + 4 : at + 4 + size]
        assert len(body) == size
        frames.append((raw[0] & 0x0F, bytes(byte ^ key[n % 4] for n, byte in enumerate(body))))
        raw = raw[at + 4 + size :]
    return frames


def read_all(ws, size):
    got = b""
    while len(got) < size:
        with contextlib.suppress(BlockingIOError):
            piece = ws.recv(size - len(got))
            if not piece:
                break
            got += piece
    return got


def test_the_handshake_asks_for_mqtt():
    _, _, request = opened()
    text = request.decode()
    assert text.startswith("GET /mqtt?x=1 HTTP/1.1\r\nHost: broker.example:8080\r\n")
    assert "Sec-WebSocket-Protocol: mqtt\r\n" in text
    assert text.endswith("\r\n\r\n")


def test_what_comes_with_the_handshake_is_not_lost():
    ws, _, _ = opened(more=from_server(b"hello"))
    assert ws.pending() == 5
    assert ws.recv(2) == b"he"
    assert ws.recv(9) == b"llo"
    assert ws.pending() == 0


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ({"status": "404 Not Found"}, TransportRefusedError, r"HTTP status 404 .*mqtt\.ws_path"),
        ({"status": "503 Busy"}, TransportError, "HTTP status 503"),
        ({"status": "no number"}, TransportError, "HTTP status 0"),
        ({"accept": "wrong"}, TransportError, "not one to our question"),
        ({"protocol": "chat"}, TransportError, "does not carry MQTT"),
    ],
)
def test_a_handshake_that_fails_is_told(how, kind, text):
    with pytest.raises(kind, match=text):
        opened(**how)


def test_a_server_that_names_no_protocol_is_taken():
    opened(protocol="")


@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n", b"HTTP/" + b"x" * 20_000, b"", None])
def test_a_peer_that_is_no_web_server_is_told(said):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if said is not None:
            theirs.sendall(said)
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises((TransportError, OSError)):
            WebSocket(ours, host="h", port=80, path="/", timeout_s=0.1)


@settings(max_examples=50, deadline=None)
@given(
    payloads=st.lists(st.binary(max_size=300) | st.just(b"x" * 70_000), max_size=5),
    chunk=st.integers(1, 5000),
    pings=st.booleans(),
)
def test_any_chunking_gives_the_same_bytes(payloads, chunk, pings):
    ws, theirs, _ = opened()
    with theirs, contextlib.closing(ws):
        stream = b"".join((from_server(b"p", 9) if pings else b"") + from_server(one) for one in payloads)
        wanted = b"".join(payloads)
        sender = threading.Thread(
            target=lambda: [theirs.sendall(stream[at : at + chunk]) for at in range(0, len(stream), chunk)]
        )
        sender.start()
        assert read_all(ws, len(wanted)) == wanted
        sender.join(10)


@settings(max_examples=50, deadline=None)
@given(
    payloads=st.lists(st.binary(min_size=1, max_size=300) | st.just(b"y" * 200_000), min_size=1, max_size=4)
)
def test_what_is_sent_arrives_masked_whole_and_in_order(payloads):
    ws, theirs, _ = opened()
    with theirs, contextlib.closing(ws):
        got = bytearray()

        def take():
            while data := theirs.recv(65536):
                got.extend(data)

        reader = threading.Thread(target=take)
        reader.start()
        for one in payloads:
            left = one
            while left:
                with contextlib.suppress(BlockingIOError):
                    left = left[ws.send(left) :]
        ws._sock.shutdown(socket.SHUT_WR)
        reader.join(10)
        assert b"".join(body for _, body in frames_from_client(bytes(got))) == b"".join(payloads)


def test_a_ping_amid_a_frame_that_is_half_sent_is_answered_after_it():
    ws, theirs, _ = opened()
    ws._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    payload = b"z" * 60_000
    with pytest.raises(BlockingIOError):  # the peer does not read yet
        ws.send(payload)
    theirs.sendall(from_server(b"are you there", 9))
    with pytest.raises(BlockingIOError):
        ws.recv(1)
    got, sent = b"", 0
    theirs.settimeout(0.05)
    while sent == 0 or ws._frame:
        with contextlib.suppress(TimeoutError):
            got += theirs.recv(65536)
        with contextlib.suppress(BlockingIOError):
            sent = sent or ws.send(payload)
    ws.close()
    with contextlib.suppress(TimeoutError):
        while data := theirs.recv(65536):
            got += data
    assert frames_from_client(got) == [(2, payload), (0xA, b"are you there")]


def test_a_close_frame_ends_it_after_what_came_before():
    ws, theirs, _ = opened()
    theirs.sendall(from_server(b"last") + from_server(b"\x03\xe8", 8))
    assert ws.recv(100) == b"last"
    assert ws.pending()
    assert ws.recv(100) == b""


@pytest.mark.parametrize(
    "raw",
    [
        _frame(2, b"masked"),
        from_server(b"x", 2, first=0xC0),
        from_server(b"text", 1),
        from_server(b"x" * 126, 9),
        from_server(b"x", 9, first=0),
        from_server(b"", 11),
    ],
    ids=["masked", "reserved bits", "text", "long ping", "ping in parts", "unknown"],
)
def test_what_the_standard_forbids_ends_it(raw):
    ws, theirs, _ = opened()
    theirs.sendall(raw)
    with pytest.raises(WebSocketProtocolError):
        ws.recv(1)


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(min_size=1, max_size=200))
def test_any_bytes_are_taken_or_refused(raw):
    ws, theirs, _ = opened()
    with theirs, contextlib.closing(ws):
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(BlockingIOError, WebSocketProtocolError):
            while ws.recv(64):
                pass
