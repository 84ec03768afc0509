"""A receiver of webhooks for tests: the standard library's server in a thread, with answers that a test chooses."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.body.splitlines()]


class Receiver:
    """requests: all that came whole, in order. connections: how many were accepted.

    answer: asked for each request; a status, or (status, headers), or None where it writes to handler.wfile itself.
    """

    def __init__(self, *, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.accepted: list[dict] = []
        """Events of requests that were answered 2xx."""
        self.connections = 0
        self.answer: Callable[[Request, BaseHTTPRequestHandler], object] = lambda request, handler: 204
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def setup(self) -> None:
                super().setup()
                with receiver._lock:
                    receiver.connections += 1
                    receiver._open.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, dict(self.headers), body)
                with receiver._lock:
                    receiver.requests.append(request)
                chosen = receiver.answer(request, self)
                if chosen is None:
                    self.close_connection = True
                    return
                status, headers = chosen if isinstance(chosen, tuple) else (chosen, {})
                if 200 <= status < 300:
                    with receiver._lock:
                        receiver.accepted += request.events if body[:1] == b"{" else []
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", "2")
                self.end_headers()
                if status != 204:
                    self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        if context is not None:
            # the handshake in the connection's own thread, not in the one that accepts
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}/hook?key=s3cret"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:  # as the end of a process does
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def verified(request: Request, key: str) -> bool:
    """What a receiver does with a signature, written apart from what makes it."""
    version, _, given = request.headers["Edgeai-Signature"].partition("=")
    stamp = request.headers["Edgeai-Timestamp"]
    signed = stamp.encode("ascii") + b"." + request.body
    wanted = hmac.HMAC(key.encode(), signed, digestmod=hashlib.sha256).digest()
    return version == "v1" and stamp.isdigit() and hmac.compare_digest(bytes.fromhex(given), wanted)
