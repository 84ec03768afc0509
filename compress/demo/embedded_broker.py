"""amqtt as a process: python -m compress.demo.embedded_broker PORT INNER_PORT. For machines without mosquitto.

amqtt keeps sessions in memory only, so a stop of the whole process would forget the subscriber. A gate of plain TCP
stands before it, through which the device comes: SIGUSR1 shuts it and cuts every connection, SIGUSR2 opens it again.
The subscriber connects to INNER_PORT, behind the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys


class _Gate:
    def __init__(self, port: int, inner_port: int) -> None:
        self._port = port
        self._inner_port = inner_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._join, "127.0.0.1", self._port)

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._inner_port)
        self._writers |= {writer, inner_writer}
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            self._writers -= {writer, inner_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def _serve(port: int, inner_port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{inner_port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    gate = _Gate(port, inner_port)
    await gate.open()
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps only weak references
    loop.add_signal_handler(signal.SIGUSR1, lambda: tasks.add(loop.create_task(gate.shut())))
    loop.add_signal_handler(signal.SIGUSR2, lambda: tasks.add(loop.create_task(gate.open())))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
