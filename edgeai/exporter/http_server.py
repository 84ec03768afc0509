"""A small HTTP server that no client can make expensive: one thread, few connections, each for a short time."""

from __future__ import annotations

import contextlib
import io
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final

from edgeai.errors import ConfigError

log = logging.getLogger("edgeai")

MAX_CONNECTIONS: Final = 64
MAX_HEAD_BYTES: Final = 8 << 10
HEAD_S: Final = 5.0
"""How long a request may take to come in."""
ANSWER_S: Final = 30.0
"""How long its answer may take to be fetched."""
LINGER_S: Final = 1.0
ACCEPTS_PER_S: Final = 100.0
ACCEPTS_AT_ONCE: Final = 256.0
_BACKLOG: Final = 64
_RETRY_S: Final = 0.5  # after an accept that failed, for want of file descriptors for example
_JOIN_S: Final = 2.0
_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """body: UTF-8 text of content_type. gzipped: the same compressed, where there is such a thing."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    gzipped: bytes = b""


Pages = Callable[[str], Reply | None]
"""Gives what is at a path, quickly; None for what is not there."""


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    due_s: float
    received: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None
    over: bool = False
    """The answer was sent; what still comes in is thrown away, lest the kernel take the answer back with a reset."""


def open_socket(host: str, port: int) -> socket.socket:
    """Bound and listening. Raises ConfigError where the address is none of this machine, or is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"metrics.host {host!r} is no address: {error}",
            next_step='such as "127.0.0.1", "::1" or "0.0.0.0"',
        ) from None
    try:
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"metrics: cannot listen on {host} port {port}: {error.strerror or error}",
            next_step="choose another metrics.port, or end what listens there",
        ) from None


class BoundedServer:
    """Answers GET and HEAD from `pages`, one request a connection, on a thread of its own.

    A client that sends nothing, or a byte at a time, is cut off after HEAD_S; where there are MAX_CONNECTIONS, the oldest
    goes for the newest, so that idle ones keep nobody out; new ones are taken at ACCEPTS_PER_S, so that no flood of them
    takes the processor from what matters.
    """

    def __init__(self, listener: socket.socket, pages: Pages, *, name: str) -> None:
        """listener: bound and listening; this closes it."""
        self._listener = listener
        self._listener.setblocking(False)
        self._pages = pages
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}  # the oldest first
        self._accepts, self._accepts_at_s = ACCEPTS_AT_ONCE, time.monotonic()
        self._listening = False
        self._pause_until_s = 0.0
        self._waker, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._stop = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End, cutting off who is still fetching. Safe to call twice."""
        self._stop = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _serve(self) -> None:
        try:
            while not self._stop:
                now_s = time.monotonic()
                self._listen(now_s)
                for key, _ in self._selector.select(self._wait_s(now_s)):
                    if key.data is not None:
                        self._step(key.data)
                    elif key.fileobj is self._listener:
                        self._accept()
                self._cut_off(time.monotonic())
        except Exception:  # figures are no reason to end a run
            log.exception("the metrics' server ended by a fault of the program")
        finally:
            for connection in [*self._connections]:
                self._drop(connection)
            self._selector.close()
            for each in (self._listener, self._waker, self._woken):
                each.close()

    def _wait_s(self, now_s: float) -> float | None:
        """Until something is due."""
        due = [connection.due_s for connection in self._connections]
        if not self._listening:
            due.append(self._pause_until_s)
        return max(0.0, min(due) - now_s) if due else None

    def _listen(self, now_s: float) -> None:
        """Take connections, or leave them to the kernel's queue for a while."""
        gained = (now_s - self._accepts_at_s) * ACCEPTS_PER_S
        self._accepts, self._accepts_at_s = min(ACCEPTS_AT_ONCE, self._accepts + gained), now_s
        wanted = self._accepts >= 1 and now_s >= self._pause_until_s
        if wanted and not self._listening:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif not wanted and self._listening:
            self._selector.unregister(self._listener)
            self._pause_until_s = max(self._pause_until_s, now_s + 1 / ACCEPTS_PER_S)
        self._listening = wanted

    def _accept(self) -> None:
        try:
            opened, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._pause_until_s = time.monotonic() + _RETRY_S
            return
        self._accepts -= 1
        opened.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._drop(next(iter(self._connections)))
        connection = _Connection(opened, time.monotonic() + HEAD_S)
        self._connections[connection] = None
        self._selector.register(opened, selectors.EVENT_READ, connection)

    def _step(self, connection: _Connection) -> None:
        try:
            if connection.answer is None or connection.over:
                self._receive(connection)
            else:
                self._send(connection)
        except BlockingIOError:
            pass
        except OSError:  # it is gone
            self._drop(connection)

    def _receive(self, connection: _Connection) -> None:
        data = connection.socket.recv(_CHUNK)
        if not data:
            self._drop(connection)
            return
        if connection.over:
            return
        received = connection.received
        received += data
        if b"\r\n\r\n" not in received and b"\n\n" not in received and len(received) <= MAX_HEAD_BYTES:
            return
        connection.answer = memoryview(_Request(bytes(received), self._pages).answer())
        connection.due_s = time.monotonic() + ANSWER_S
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        if connection.answer is None:
            return
        sent = connection.socket.send(connection.answer[:_CHUNK])
        connection.answer = connection.answer[sent:]
        if not connection.answer:
            connection.over = True
            connection.due_s = time.monotonic() + LINGER_S
            connection.socket.shutdown(socket.SHUT_WR)
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _cut_off(self, now_s: float) -> None:
        for connection in [each for each in self._connections if now_s >= each.due_s]:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._selector.unregister(connection.socket)
            connection.socket.close()


class _Request(BaseHTTPRequestHandler):
    """The standard library's reading of a request, from memory and into memory."""

    def __init__(self, received: bytes, pages: Pages) -> None:
        # not the base's, which works on a socket until it is closed
        self.rfile = io.BytesIO(received[:MAX_HEAD_BYTES])
        self.wfile: io.BytesIO = io.BytesIO()
        self.requestline, self.request_version, self.command = "", "", ""
        self.close_connection = True
        self._cut = len(received) > MAX_HEAD_BYTES
        self._pages = pages

    def answer(self) -> bytes:
        """All of it, head and body."""
        try:
            self._answer()
        except Exception:  # of what the library does not foresee in a hostile request
            log.debug("a request for metrics could not be read", exc_info=True)
            return b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n"
        return bytes(self.wfile.getvalue())

    def _answer(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if self._cut:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self.parse_request():
            self._reply()

    def _reply(self) -> None:
        if self.command not in ("GET", "HEAD"):
            self._write(HTTPStatus.METHOD_NOT_ALLOWED, Reply(b"only GET and HEAD\n"), allow="GET, HEAD")
            return
        try:
            reply = self._pages(self.path.partition("?")[0])
        except Exception:
            log.exception("the figures cannot be told, by a fault of the program")
            self._write(HTTPStatus.INTERNAL_SERVER_ERROR, Reply(b"the figures cannot be told: see the log\n"))
            return
        if reply is None:
            self._write(HTTPStatus.NOT_FOUND, Reply(b"there are /metrics and /healthz\n"))
        else:
            self._write(HTTPStatus.OK, reply)

    def _write(self, status: HTTPStatus, reply: Reply, *, allow: str = "") -> None:
        body = reply.body
        self.send_response(status)
        if reply.gzipped and _takes_gzip(self.headers.get("Accept-Encoding", "")):
            body = reply.gzipped
            self.send_header("Content-Encoding", "gzip")
        if reply.gzipped:
            self.send_header("Vary", "Accept-Encoding")
        if allow:
            self.send_header("Allow", allow)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "edgeai"

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.split(","):
        coding, _, weight = each.replace(" ", "").partition(";")
        if coding.lower() == "gzip":
            return weight.lower().rstrip(".0") != "q="
    return False
