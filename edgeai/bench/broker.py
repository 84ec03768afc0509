"""A broker for as long as something is measured, and a subscriber that is another process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgeai.bench.alone import last_line, python_command
from edgeai.errors import EdgeError, SinkError

READY_S: Final = 15.0
TOPIC: Final = "edge/v1/#"


@dataclass(frozen=True, slots=True)
class OpenBroker:
    """name: what it is, for the table's title."""

    name: str
    host: str
    port: int


@contextlib.contextmanager
def open_broker(folder: Path) -> Iterator[OpenBroker]:
    """A mosquitto on a free port of this machine, else amqtt in a process of its own. Raises EdgeError where neither is here."""
    # Debian keeps it where a user's PATH does not look
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    port = _free_port()
    if program is not None:
        name, command = "mosquitto", [program, "-c", str(_mosquitto_config(folder, port))]
    elif _has_amqtt():
        name, command = "amqtt", python_command("edgeai.bench.broker", "broker", str(port))
    else:
        raise EdgeError(
            "there is no broker to measure against",
            next_step="`sudo apt-get install -y mosquitto`, or pip install 'edgeai[broker]'",
        )
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(name, port, process)
        yield OpenBroker(name, "127.0.0.1", port)
    finally:
        _end(process)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message of an event. lag_s: from the event's own time, which is that of its frame's capture, to its arrival; both
    on the machine's monotonic clock, which processes share.
    """

    type: str
    stream: str
    priority: str
    lag_s: float


class Subscriber:
    """A process that takes all events of a broker's devices, and notes when each came. `arrivals` ends it."""

    def __init__(self, broker: OpenBroker) -> None:
        self._process = subprocess.Popen(
            python_command("edgeai.bench.broker", "subscriber", broker.host, str(broker.port)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        """Until it has subscribed. Raises SinkError where that fails."""
        if self._process.stdout is None or not self._process.stdout.readline():
            said = self._process.stderr.read() if self._process.stderr is not None else ""
            raise SinkError(f"the subscriber did not start: {last_line(said.splitlines())}")

    def arrivals(self) -> list[Arrival]:
        """What came until now. Raises SinkError where it broke."""
        said, errors = self._process.communicate(timeout=READY_S)
        if self._process.returncode:
            raise SinkError(f"the subscriber broke: {last_line(errors.splitlines())}")
        return [Arrival(*row) for row in json.loads(said.splitlines()[-1])]

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *raised: object) -> None:
        _end(self._process)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The two other processes: `broker PORT`, `subscriber HOST PORT`."""
    role, *rest = sys.argv[1:] if arguments is None else arguments
    if role == "broker":
        asyncio.run(_embedded_broker(int(rest[0])))
    else:
        _subscribe(rest[0], int(rest[1]))
    return 0


def _subscribe(host: str, port: int) -> None:
    """Says "ready", and at the end of standard input all arrivals as JSON."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    came: list[tuple[float, bytes]] = []

    def take(client: Any, data: Any, message: paho.MQTTMessage) -> None:
        came.append((time.monotonic(), bytes(message.payload)))

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = take
    client.on_connect = lambda client, *rest: client.subscribe(TOPIC, qos=1)
    client.on_subscribe = lambda *rest: print("ready", flush=True)
    client.connect(host, port)
    client.loop_start()
    sys.stdin.read()
    client.disconnect()
    client.loop_stop()
    print(json.dumps([row for arrived_s, payload in came for row in _rows(arrived_s, payload)]), flush=True)


def _rows(arrived_s: float, payload: bytes) -> Iterator[list[Any]]:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told = json.loads(payload)
        yield [told["type"], told["stream"], told["priority"], arrived_s - told["monotonic_s"]]


async def _embedded_broker(port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


def _mosquitto_config(folder: Path, port: int) -> Path:
    config = folder / "mosquitto.conf"
    # Nagle's algorithm would hold a message to the subscriber back for 40 ms where another went before it: that is the way
    # from the broker, not to it
    lines = (
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "max_queued_messages 100000",
        "set_tcp_nodelay true",
    )
    config.write_text("\n".join(lines) + "\n")
    return config


def _has_amqtt() -> bool:
    import importlib.util

    return importlib.util.find_spec("amqtt") is not None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SinkError(f"{name} did not listen on port {port} within {READY_S:g} s")


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(READY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
