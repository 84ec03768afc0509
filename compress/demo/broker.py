"""A real broker for the demo: mosquitto where it is installed, else the embedded amqtt; and how to stop it for a while."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

from compress.demo.ports import answers, free_port
from edgeai.errors import EdgeError

READY_S = 20.0


class DemoBroker:
    """A broker process on a free loopback port. `stop` and `start` may follow each other; sessions survive them."""

    def __init__(self, work: Path) -> None:
        paths = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        self._mosquitto = shutil.which("mosquitto", path=paths)
        self.port = free_port()
        # where the subscriber connects: the embedded broker's outage is its gate's, and only the device feels it
        self.subscriber_port = self.port if self._mosquitto else free_port()
        self._work = work / "broker"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return "mosquitto" if self._mosquitto else "amqtt (embedded; mosquitto is not installed)"

    def start(self) -> None:
        """Raises EdgeError where it does not answer."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR2)
            self._wait(self._process)
            return
        self._work.mkdir(parents=True, exist_ok=True)
        log = (self._work / "broker.log").open("ab")
        self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait(self._process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and process.poll() is None:
            if answers(self.port):
                return
            time.sleep(0.05)
        raise EdgeError(f"the broker {self.name} did not start", next_step=f"see {self._work / 'broker.log'}")

    def stop(self) -> None:
        """Cut every connection and accept none; sessions are kept (mosquitto writes them down and ends)."""
        if self._process is not None and not self._mosquitto:
            self._process.send_signal(signal.SIGUSR1)
        else:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        if not self._mosquitto:
            return [
                sys.executable,
                "-m",
                "compress.demo.embedded_broker",
                str(self.port),
                str(self.subscriber_port),
            ]
        config = self._work / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence true"]
        lines += [f"persistence_location {self._work}/", "max_queued_messages 100000"]
        if os.geteuid() == 0:
            lines.append("user root")
        config.write_text("\n".join(lines) + "\n")
        return [self._mosquitto, "-c", str(config)]

    def __enter__(self) -> DemoBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._end()


class Subscriber:
    """A process of its own that prints what arrives; `ids` are the events it has seen so far."""

    def __init__(self, port: int, work: Path) -> None:
        self._log = work / "received.jsonl"
        self._log.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "compress.demo.subscriber",
            str(port),
            "edge/v1/+/+/+/event/#",
            str(self._log),
        ]
        self._process = subprocess.Popen(command, stdout=sys.stderr, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_S
        while not self._log.is_file():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise EdgeError("the subscriber did not start", next_step="run the demo again")
            time.sleep(0.05)

    def received(self) -> list[dict[str, Any]]:
        import json

        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def ids(self) -> set[str]:
        return {message["id"] for message in self.received()}

    def wait_for(self, ids: set[str], *, timeout_s: float) -> bool:
        """True as soon as all `ids` have arrived."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if ids <= self.ids():
                return True
            time.sleep(0.1)
        return False

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
