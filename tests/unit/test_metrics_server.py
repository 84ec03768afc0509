"""The exporter's HTTP server against clients that are odd, slow, rude or many."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest
from broker import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.exporter import http_server
from edgeai.exporter.http_server import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    BoundedServer,
    Reply,
    _Request,
    open_socket,
)

WAIT_S = 30


def pages(path):
    return {"/metrics": Reply(b"m" * 100, gzipped=b"z"), "/large": Reply(b"x" * (8 << 20))}.get(path)


@pytest.fixture
def port():
    listener = open_socket("127.0.0.1", 0)
    number = listener.getsockname()[1]
    server = BoundedServer(listener, pages, name="metrics test")
    server.start()
    yield number
    server.close()
    assert not server._thread.is_alive()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), WAIT_S)


def read_all(client):
    found = b""
    while data := client.recv(1 << 16):
        found += data
    return found


def ask(port, request):
    with connect(port) as client:
        client.sendall(request)
        return read_all(client)


def is_well(port):
    return ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"\r\n\r\n" + b"m" * 100)


@pytest.mark.parametrize(
    ("request_", "begins"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET /metrics?name[]=x HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET /metrics HTTP/1.1\nHost: x\n\n", b"HTTP/1.0 200 "),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET /metrics\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.0 404 "),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", b"HTTP/1.0 404 "),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.0 405 "),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.0 405 "),
        (b"GET\r\n\r\n", b"HTTP/1.0 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.0 400 "),
        (b"GET /metrics HTTP/9.9\r\n\r\n", b"HTTP/1.0 505 "),
        (b"GET /metrics HTTP/x\r\n\r\n", b"HTTP/1.0 400 "),
        (b"GET /metrics HTTP/1.1\r\nbroken header\r\n\r\n", b"HTTP/1.0 200 "),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"HTTP/1.0 431 "),
        (b"GET /" + b"x" * (2 * MAX_HEAD_BYTES), b"HTTP/1.0 431 "),
        (b"\r\n\r\n", b""),
    ],
    ids=range(17),
)
def test_every_request_has_its_answer(port, request_, begins):
    answer = ask(port, request_)
    assert answer.startswith(begins) and bool(begins) == bool(answer), answer[:200]
    assert b"Traceback" not in answer and b"Python" not in answer
    assert is_well(port)


def test_head_has_no_body_and_says_its_length(port):
    answer = ask(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 100" in answer and answer.endswith(b"\r\n\r\n")


def test_what_is_not_get_or_head_hears_what_is(port):
    assert b"\r\nAllow: GET, HEAD\r\n" in ask(port, b"PUT /metrics HTTP/1.1\r\n\r\n")


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"GET ", b"GET /metrics HTTP/1.1\r\n", b"HEAD /metrics "])
)
def test_whatever_comes_is_answered_or_not_and_nothing_raises(noise, begin):
    answer = _Request(begin + noise + b"\r\n\r\n", pages).answer()
    assert answer == b"" or answer.startswith(b"HTTP/1.0 ")


def test_a_byte_at_a_time_is_cut_off(monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_S", 0.4)
    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = BoundedServer(listener, pages, name="metrics test")
    server.start()
    try:
        with connect(port) as client:
            began_s = time.monotonic()
            client.settimeout(0.05)
            cut_off = False
            while not cut_off and time.monotonic() - began_s < WAIT_S:
                try:
                    client.sendall(b"x")  # each of which is less than 0.4 s after the one before
                    cut_off = not client.recv(1)
                except TimeoutError:
                    pass
                except OSError:
                    cut_off = True
            assert cut_off
        assert is_well(port)
    finally:
        server.close()


def test_who_does_not_fetch_its_answer_keeps_nobody_out(port):
    hogs = [connect(port) for _ in range(5)]
    for each in hogs:
        each.sendall(b"GET /large HTTP/1.1\r\n\r\n")
    assert all(is_well(port) for _ in range(5))
    # and it is whole for whom fetches it in the end
    assert len(read_all(hogs[0])) > 8 << 20
    for each in hogs:
        each.close()


def test_idle_ones_keep_nobody_out(port):
    idle = [connect(port) for _ in range(3 * MAX_CONNECTIONS)]
    assert is_well(port)
    # the oldest went, the newest are still there
    idle[0].settimeout(WAIT_S)
    assert idle[0].recv(1) == b""
    idle[-1].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert read_all(idle[-1]).endswith(b"m" * 100)
    for each in idle:
        each.close()


def test_who_hangs_up_rudely_costs_nothing(port):
    for _ in range(50):
        client = connect(port)
        client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # a reset
    assert is_well(port)


def test_many_connections_are_taken_no_faster_than_they_may(monkeypatch):
    monkeypatch.setattr(http_server, "ACCEPTS_AT_ONCE", 10.0)
    monkeypatch.setattr(http_server, "ACCEPTS_PER_S", 20.0)
    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = BoundedServer(listener, pages, name="metrics test")
    server.start()
    try:
        began_s = time.monotonic()
        assert all(is_well(port) for _ in range(30))
        assert time.monotonic() - began_s >= (30 - 10 - 1) / 20
    finally:
        server.close()


def test_an_accept_that_fails_is_tried_again(port, monkeypatch):
    fail = [3]
    real = socket.socket.accept

    def accept(self):
        if fail[0]:
            fail[0] -= 1
            raise OSError(24, "Too many open files")
        return real(self)

    monkeypatch.setattr(http_server, "_RETRY_S", 0.05)
    monkeypatch.setattr(socket.socket, "accept", accept)
    assert is_well(port) and not fail[0]


def test_pages_that_fail_are_a_500_and_the_server_lives():
    answers = [RuntimeError("a fault"), Reply(b"ok")]

    def page(path):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    listener = open_socket("127.0.0.1", 0)
    server = BoundedServer(listener, page, name="metrics test")
    server.start()
    port = listener.getsockname()[1]
    try:
        assert ask(port, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 500 ")
        assert ask(port, b"GET /metrics HTTP/1.1\r\n\r\n").endswith(b"ok")
    finally:
        server.close()


def test_closing_ends_who_waits(port):
    listener = open_socket("127.0.0.1", 0)
    server = BoundedServer(listener, pages, name="metrics closing")
    server.start()
    with connect(listener.getsockname()[1]) as client:
        wait_until(lambda: bool(server._connections))
        server.close()
        client.settimeout(WAIT_S)
        assert client.recv(1) == b""
    assert "metrics closing" not in {each.name for each in threading.enumerate()}
