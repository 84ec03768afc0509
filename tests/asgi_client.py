"""Requests to an ASGI application without a socket: what the body's parts are, and when the client goes away, is the test's to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from edgeai.serve.app import build_app
from edgeai.serve.guard import Health
from edgeai.serve.model import ServedModel
from edgeai.serve.settings import ServeSettings


@contextmanager
def app_of(*bundles, **settings):
    """The application that serves these bundles."""
    chosen = ServeSettings(**settings)
    models = [ServedModel(bundle, chosen) for bundle in bundles]
    try:
        yield build_app(models, chosen, Health())
    finally:
        for model in models:
            model.close()


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes

    def json(self):
        assert self.headers["content-type"] == "application/json", self.body
        return json.loads(self.body)


async def send_request(
    app,
    method: str,
    path: str,
    *,
    body: bytes | Iterable[bytes] = b"",
    headers: dict | None = None,
    unfinished: bool = False,
    leave: asyncio.Event | None = None,
) -> Reply:
    """unfinished: more of the body is promised and never comes. leave: the client goes away when it is set."""
    parts = [body] if isinstance(body, bytes) else list(body)
    messages = [
        {"type": "http.request", "body": part, "more_body": unfinished or number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    gone = leave or asyncio.Event()
    sent = []

    async def receive():
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    given = {"host": "127.0.0.1:8080", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in given.items() if value],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    await app(scope, receive, send)
    start, *rest = sent
    names = {key.decode(): value.decode() for key, value in start["headers"]}
    return Reply(start["status"], names, b"".join(part.get("body", b"") for part in rest))


def request(app, method: str, path: str, **options) -> Reply:
    return asyncio.run(send_request(app, method, path, **options))


def png_claiming(width: int, height: int) -> bytes:
    """The bytes of a tiny PNG whose header says that it is of another size."""
    import cv2
    import numpy as np

    data = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)
