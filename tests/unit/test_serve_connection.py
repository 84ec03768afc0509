"""Connections that never become requests: closed after a while, and not more than so many at once."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from blob_bundle import write_blob_bundle

from edgeai.serve import server
from edgeai.serve.model import ServedModel
from edgeai.serve.settings import ServeSettings


@pytest.fixture
def talk(tmp_path):
    """talk(clients): run `clients(connect)` beside a server in this thread; what it gives back."""

    def talk(clients, **options):
        settings = ServeSettings(port=0, **options)
        opened = server.open_socket(settings)
        host, port = opened.getsockname()
        model = ServedModel(write_blob_bundle(tmp_path / "blob"), settings)

        async def both():
            started = asyncio.Event()
            running = asyncio.ensure_future(server._serve([model], settings, opened, started.set))
            await started.wait()
            try:
                return await clients(lambda: asyncio.open_connection(host, port))
            finally:
                signal.raise_signal(signal.SIGTERM)
                await running

        try:
            return asyncio.run(both())
        finally:
            model.close()

    return talk


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n",
    ],
)
def test_a_connection_without_a_whole_request_is_closed(talk, monkeypatch, sent):
    monkeypatch.setattr(server, "HEAD_S", 0.05)

    async def slow(connect):
        reader, writer = await connect()
        writer.write(sent)
        first = await reader.readuntil(b"}") if b"nowhere" in sent else b""
        writer.write(b"x" if sent else b"")  # a little more, and never the rest
        rest = await reader.read()
        writer.close()
        return first, rest

    first, rest = talk(slow)
    assert rest == b""
    assert first.startswith(b"HTTP/1.1 404") or not first


def test_a_slow_answer_is_no_reason_to_close(talk, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S", 0.05)

    async def slow_body(connect):
        reader, writer = await connect()
        writer.write(
            b"POST /v1/models/blob/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 9\r\n\r\nhalf"
        )
        reply = await reader.readuntil(b"}")
        writer.close()
        return reply

    assert talk(slow_body, body_s=0.3).startswith(b"HTTP/1.1 408")


def test_so_many_connections_and_no_more(talk, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)

    async def crowd(connect):
        held = [await connect() for _ in range(2)]
        reader, writer = await connect()
        reply = await reader.read()
        for _, each in [*held, (reader, writer)]:
            each.close()
        return reply

    head, _, body = talk(crowd).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert json.loads(body)["error"] == "too many connections"
