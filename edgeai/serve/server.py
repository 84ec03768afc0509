"""The server itself: its socket, its limits on connections, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from types import FrameType
from typing import Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeai.errors import EdgeError, UsageError
from edgeai.serve.app import build_app
from edgeai.serve.faults import JSON_TYPE, error_body
from edgeai.serve.guard import Health
from edgeai.serve.model import ServedModel
from edgeai.serve.settings import ServeSettings

MAX_HEAD_BYTES: Final = 16 << 10
HEAD_S: Final = 15.0
"""How long a request's head may take, and an idle connection before its first request."""
MAX_CONNECTIONS: Final = 256
GRACE_S: Final = 5
"""How long after the longest request a stop waits for answers that nobody fetches."""


def open_socket(settings: ServeSettings) -> socket.socket:
    """A bound socket; connections wait in it until the server runs. Raises UsageError, EdgeError where it is taken."""
    where = f"{settings.host} port {settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {settings.host!r} is no address of this machine: {error}") from None
    try:
        opened = socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        raise EdgeError(
            f"cannot listen on {where}: {error.strerror or error}",
            next_step="choose another --port or --host",
        ) from None
    # connections inherit it; asyncio sets it only where a socket names its protocol, and without it head and body of
    # an answer wait 40 ms for each other (Nagle against delayed acknowledgement)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def url_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    models: Sequence[ServedModel], settings: ServeSettings, opened: socket.socket, ready: Callable[[], None]
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then those that were taken are answered, and no more are taken.

    ready: called once requests are answered. A second Ctrl-C ends it at once.
    """
    asyncio.run(_serve(models, settings, opened, ready))


async def _serve(
    models: Sequence[ServedModel], settings: ServeSettings, opened: socket.socket, ready: Callable[[], None]
) -> None:
    health = Health()
    config = uvicorn.Config(
        build_app(models, settings, health),
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # the guard tells of faults, in one line
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_graceful_shutdown=round(settings.body_s + settings.deadline_s) + GRACE_S,
    )
    config.load()
    await _Server(config, health, ready).serve(sockets=[opened])


class _Server(uvicorn.Server):
    """uvicorn's, with signals that end the server and not the process."""

    def __init__(self, config: uvicorn.Config, health: Health, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._health = health
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._health.stopping = True
        super().handle_exit(sig, frame)


class _Connection(H11Protocol):
    """uvicorn's connection, closed where a request's head does not come in, its own faults told as JSON."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._end(503, "too many connections", "try again later")
        else:
            self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_head_timer()
        elif self._head_timer is None:
            # the beginning of a head, or the rest of a body that was refused: neither may take for ever
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        # after an answer that did not wait for the whole body, there is nothing more to say
        unanswered = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        self._end(400 if unanswered else None, msg, "send HTTP/1.1")

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self, status: int | None, message: str, next_step: str) -> None:
        if status is not None:
            body = error_body(message, next_step)
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {JSON_TYPE}\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
