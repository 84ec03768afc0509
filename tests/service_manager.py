"""A stand-in for systemd: starts what a unit says, hears sd_notify, kills what is silent, starts again what ended.

It reads the unit that we ship, so that what is tested is what runs. What it knows is what the unit uses, after
systemd.service(5) and sd_notify(3): Type=notify, Restart=always, RestartSec, RestartPreventExitStatus, WatchdogSec,
TimeoutStartSec with EXTEND_TIMEOUT_USEC, TimeoutStopSec, NotifyAccess=main.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

UNIT = Path(__file__).resolve().parents[1] / "firmware_configs" / "systemd" / "edgeai.service"
_POLL_S = 0.02


def read_unit(path: Path = UNIT) -> dict[str, str]:
    """Keys of all sections; of one that is given often, the last."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@dataclass
class Start:
    """One process. Times on time.monotonic; status as subprocess has it; words: what it told, without signs of life."""

    pid: int
    began_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    status: int | None = None
    pings: int = 0
    words: list[str] = field(default_factory=list)
    killed_for: str = ""


class ServiceManager:
    """`with` starts the service and stops it at the end. settings: in place of the unit's."""

    def __init__(self, command: list[str], *, folder: Path, log: Path, **settings: str) -> None:
        unit = {**read_unit(), **settings}
        self._prevented = {int(code) for code in unit["RestartPreventExitStatus"].split()}
        assert unit["Type"] == "notify" and unit["Restart"] == "always" and unit["NotifyAccess"] == "main"
        self._restart_s, self._watchdog_s = float(unit["RestartSec"]), float(unit["WatchdogSec"])
        self._start_s, self._stop_s = float(unit["TimeoutStartSec"]), float(unit["TimeoutStopSec"])
        self._command, self._folder, self._log = command, folder, log
        self.starts: list[Start] = []
        self.given_up = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> ServiceManager:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(self._stop_s + 10)

    def wait_for(self, true, *, timeout_s: float = 90.0):
        """`true` is given the starts so far; what it answered at last."""
        deadline_s = time.monotonic() + timeout_s
        while not (answer := true(self.starts)):
            log = self._log.read_text() if self._log.exists() else ""
            assert time.monotonic() < deadline_s, f"{self.starts}\n{log[-4000:]}"
            time.sleep(_POLL_S)
        return answer

    def wait_ready(self, number: int, *, timeout_s: float = 90.0) -> Start:
        """The process of that number, from 1, once it said READY=1."""
        self.wait_for(
            lambda starts: len(starts) >= number and starts[number - 1].ready_s, timeout_s=timeout_s
        )
        return self.starts[number - 1]

    def reload(self) -> None:
        os.kill(self.starts[-1].pid, signal.SIGHUP)

    def _serve(self) -> None:
        path = self._folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, self._log.open("ab") as log:
            ear.bind(str(path))
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ear.settimeout(_POLL_S)
            while not self._stopping.is_set():
                self._live(ear, log, str(path))
                if self.starts[-1].status in self._prevented:
                    self.given_up = True
                    return
                self._stopping.wait(self._restart_s)

    def _live(self, ear: socket.socket, log, path: str) -> None:
        """One process, from its start to its end."""
        env = {**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6))}
        env.pop("WATCHDOG_PID", None)
        began_s = time.monotonic()
        process = subprocess.Popen(self._command, cwd=self._folder, env=env, stdout=log, stderr=log)
        start = Start(process.pid, began_s)
        self.starts.append(start)
        deadline_s, asked = began_s + self._start_s, False
        while process.poll() is None:
            if self._stopping.is_set() and not asked:
                asked, deadline_s = True, time.monotonic() + self._stop_s
                process.terminate()
            for word in self._hear(ear, start.pid):
                key, _, value = word.partition("=")
                now_s = time.monotonic()
                if key == "WATCHDOG":
                    start.pings += 1
                else:
                    start.words.append(word)
                if key == "READY" and start.ready_s is None:
                    start.ready_s = now_s
                if key == "EXTEND_TIMEOUT_USEC" and start.ready_s is None:
                    deadline_s = max(deadline_s, now_s + int(value) / 1e6)
                if key in ("READY", "WATCHDOG") and not asked:
                    deadline_s = now_s + self._watchdog_s
                if key == "STOPPING":
                    asked, deadline_s = True, now_s + self._stop_s
            if time.monotonic() > deadline_s and not start.killed_for:
                start.killed_for = "stop" if asked else "silence" if start.ready_s else "start"
                process.send_signal(signal.SIGKILL if asked else signal.SIGABRT)
                process.send_signal(signal.SIGCONT)  # one that is stopped shall hear it
        start.ended_s, start.status = time.monotonic(), process.returncode

    @staticmethod
    def _hear(ear: socket.socket, pid: int) -> list[str]:
        with contextlib.suppress(TimeoutError):
            said, ancillary, _, _ = ear.recvmsg(65536, socket.CMSG_SPACE(struct.calcsize("3i")))
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    sender = struct.unpack("3i", data)[0]
                    return said.decode().split("\n") if sender == pid else []
        return []
