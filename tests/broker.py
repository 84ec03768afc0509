"""Real brokers for tests: Debian's mosquitto as a process on a free loopback port, and amqtt in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

_READY_S = 15.0


def find_mosquitto() -> str | None:
    """Debian keeps it in /usr/sbin, which is not on every user's PATH."""
    return shutil.which(
        "mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], bool], *, timeout_s: float = 20.0, what: str = "the condition") -> None:
    """Ask every 10 ms; pytest.fail after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.01)


class Mosquitto:
    """mosquitto with a folder, a port and a configuration that outlive stop and start.

    config: lines beside listener and persistence. durable: it writes its whole database after each change, so
    that what it acknowledged a moment ago survives a kill -9; not what it acknowledges that very moment.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: tuple[str, ...] = ("allow_anonymous true",),
        durable: bool = False,
        port: int = 0,
    ) -> None:
        program = find_mosquitto()
        if program is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        self._program = program
        self.port = port or free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "mosquitto.conf"
        self.log = folder / "mosquitto.log"
        user = (
            ("user root",) if os.geteuid() == 0 else ()
        )  # else it drops to a user who cannot read the folder
        lines = (
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            *(("autosave_on_changes true", "autosave_interval 1") if durable else ()),
            # not 0 for "unlimited": mosquitto 2.0.11 then hangs up at each message that its ACL denies
            "max_queued_messages 100000",
            f"log_dest file {self.log}",
            *user,
            *config,
        )
        self.config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Mosquitto:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for_port(self.port, self._process)
        return self

    def stop(self) -> None:
        """Orderly: it saves what it keeps."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """The connection stays and nothing answers: a black hole."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextlib.contextmanager
def amqtt_broker() -> Iterator[int]:
    """amqtt, which speaks MQTT 3.1.1 only; yields its port."""
    pytest.importorskip("amqtt")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _AMQTT, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_port(port, process)
        yield port
    finally:
        process.kill()
        process.wait(10)


class Subscriber:
    """A client of its own that keeps what arrives, with a session that outlives the broker.

    messages: (topic, payload, retained) in order of arrival.
    """

    def __init__(self, port: int, topic: str = "edge/v1/#", *, protocol: int = paho.MQTTv311) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._topic = topic
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"test-{os.urandom(6).hex()}",
            clean_session=False,
            protocol=protocol,
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, data, flags, reason, properties: client.subscribe(
            self._topic, qos=1
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._ready.wait(_READY_S):
            pytest.fail("no SUBACK")

    def _take(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        with self._news:
            self.messages.append((message.topic, message.payload, message.retain))
            self._news.notify_all()

    def wait_for(
        self, enough: Callable[[list[tuple[str, bytes, bool]]], bool], *, timeout_s: float = 20.0
    ) -> bool:
        """Wait until `enough(messages)`; False after `timeout_s`."""
        with self._news:
            return self._news.wait_for(lambda: enough(self.messages), timeout_s)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            pytest.fail(f"the broker ended with code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail("the broker did not listen")
