"""A TCP link that fails on demand: a proxy in a thread of its own, between a publisher and its broker."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
import types
from collections.abc import Coroutine
from typing import Any, Final, Literal

Mode = Literal["pass", "cut", "black hole", "accept then close", "deaf"]
"""pass: bytes go through, at the link's rate and delay.
cut: connections are reset, new ones refused.
black hole: connections are accepted, and what they send vanishes without a word.
accept then close: connections are accepted and reset at once.
deaf: what the publisher sends arrives, what the broker answers vanishes.
"""

_CHUNK: Final = 4096
_BUFFER_BYTES: Final = 8192  # of the proxy's sockets: a thin link has no megabytes in between
_RESET: Final = struct.pack("ii", 1, 0)


class Link:
    """Listens on a free loopback port and connects each caller to `target_port`. Use inside `with`.

    rate_bytes_s: the most that goes through in each direction, None for no limit; delay_s: one way.
    """

    def __init__(
        self,
        target_port: int,
        *,
        mode: Mode = "pass",
        rate_bytes_s: float | None = None,
        delay_s: float = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        self._target_port = target_port
        self.mode: Mode = mode
        self.rate_bytes_s = rate_bytes_s
        self.delay_s = delay_s
        self.accepted = 0
        self._rng = rng or random.Random()
        self._ports = _bound(0)
        self.port = int(self._ports.getsockname()[1])
        self._server: asyncio.AbstractServer | None = None
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)

    def set(self, mode: Mode) -> None:
        """Change the link, for connections that are there too; back when it is so.

        A connection that lost bytes stays silent for good: a stream with a hole is no TCP, and a firewall that has
        forgotten a connection sends no reset either.
        """
        self._do(self._set(mode))

    def half_open(self) -> None:
        """The broker's end of each connection closes and the publisher's stays, silent; new connections pass."""

        async def close() -> None:
            for pair in self._pairs:
                pair.half_open()

        self._do(close())

    def __enter__(self) -> Link:
        self._thread.start()
        self._do(self._set(self.mode))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _set(self, mode: Mode) -> None:
        self.mode = mode
        if mode in ("cut", "accept then close"):
            await self._reset_all()
        if mode == "cut":
            if self._server is not None:
                self._server.close()
                self._server = None
                # bound and not listening: callers are refused, and nobody else is given the port meanwhile
                self._ports = _bound(self.port)
        elif self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=self._ports, limit=_CHUNK)

    async def _close(self) -> None:
        await self._reset_all()
        if self._server is not None:
            self._server.close()
        self._ports.close()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _reset_all(self) -> None:
        for pair in self._pairs:
            pair.reset()
        self._pairs.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pair = _Pair(self, reader, writer)
        self._pairs.add(pair)
        try:
            if self.mode == "accept then close":
                await asyncio.sleep(self._rng.uniform(0, 0.05))
                pair.reset()
            else:
                await pair.run(self._target_port)
        except OSError:
            pair.reset()
        except asyncio.CancelledError:  # the link itself ends; asyncio's streams would log it
            pair.reset()
        finally:
            self._pairs.discard(pair)


class _Pair:
    """One connection through the link."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._link = link
        self._near = (reader, writer)
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._there = self._back = True  # whether bytes still go through, each way

    async def run(self, target_port: int) -> None:
        if self._link.mode == "black hole":
            await self._swallow(self._near[0])  # the broker never hears of it
            return
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        far.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", target_port))
        except OSError:
            far.close()
            raise
        self._far = await asyncio.open_connection(sock=far, limit=_CHUNK)
        for _, writer in (self._near, self._far):
            writer.transport.set_write_buffer_limits(high=_CHUNK)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = asyncio.ensure_future(self._carry(self._near[0], self._far[1], answers=False))
        back = asyncio.ensure_future(self._carry(self._far[0], self._near[1], answers=True))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            if not self._there and not there.done():
                await there  # the publisher's end stays open
        finally:
            there.cancel()
            back.cancel()
            for _, writer in (self._near, self._far):
                writer.close()

    def reset(self) -> None:
        """RST, at whatever byte the stream is."""
        for end in (self._near, self._far):
            if end is not None:
                sock = end[1].get_extra_info("socket")
                if sock is not None:
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end[1].transport.abort()

    def half_open(self) -> None:
        if self._far is not None:
            self._there = self._back = False
            self._far[1].transport.abort()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(_CHUNK):
            pass

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        """One direction. What is late waits in a queue, so that a delay takes nothing from the rate."""
        loop, link = asyncio.get_running_loop(), self._link
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        delivery = asyncio.ensure_future(self._deliver(queue, writer))
        free_at_s = loop.time()
        try:
            while chunk := await reader.read(_CHUNK if link.rate_bytes_s is None else 256):
                if link.mode == "black hole":
                    self._there = self._back = False
                elif link.mode == "deaf":
                    self._back = False
                if not (self._back if answers else self._there):
                    continue
                if link.rate_bytes_s is not None:
                    free_at_s = max(free_at_s, loop.time()) + len(chunk) / link.rate_bytes_s
                    await asyncio.sleep(free_at_s - loop.time())
                await queue.put((loop.time() + link.delay_s, chunk))
            await queue.join()
        except OSError:
            pass
        finally:
            delivery.cancel()

    async def _deliver(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, chunk = await queue.get()
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            with contextlib.suppress(OSError):
                if not writer.is_closing():
                    writer.write(chunk)
                    await writer.drain()
            queue.task_done()


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)  # those it accepts have it too
    sock.bind(("127.0.0.1", port))
    return sock
