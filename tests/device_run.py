"""`edgeai run` as a child process whose events are read from its standard output as they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class DeviceRun:
    """`with` starts it and ends it in order. events: what was read so far; logs: its standard error, when it has ended.

    command: in the place of `python -m edgeai run`, with the configuration's path added.
    """

    def __init__(
        self, config: str, folder: Path, *, command: list[str] | None = None, **environment: str
    ) -> None:
        self.path = folder / "device.toml"
        self.path.write_text(config)
        self.command = [*(command or [sys.executable, "-m", "edgeai", "run"]), str(self.path)]
        self.environment = {**os.environ, "EDGEAI_CACHE": str(folder / "cache"), **environment}
        self.events: list[Event] = []
        self._errors = folder / "stderr.txt"
        self._reader: threading.Thread | None = None

    @property
    def logs(self) -> str:
        return self._errors.read_text(errors="replace")

    def __enter__(self) -> DeviceRun:
        with self._errors.open("a") as errors:
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=errors, text=True, env=self.environment
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._reader is not None:
            self._reader.join(10)
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self.events.append(json.loads(line))

    def of(self, type_: str, stream: str | None = None) -> list[Event]:
        """Events of a type, of one stream where that is given, in their order."""
        return [each for each in self.events if each["type"] == type_ and stream in (None, each["stream"])]

    def wait_for(self, true, what: str, *, timeout_s: float = 60.0) -> Any:
        """The first true answer."""
        deadline_s = time.monotonic() + timeout_s
        while not (answer := true()):
            if time.monotonic() > deadline_s or self.process.poll() is not None:
                raise AssertionError(f"{what} did not happen; it says\n{self.logs[-3000:]}")
            time.sleep(0.05)
        return answer

    def wait_event(self, type_: str, stream: str | None = None, *, count: int = 1) -> Event:
        """The count-th event of that kind."""
        self.wait_for(lambda: len(self.of(type_, stream)) >= count, f"{type_} of {stream or 'any'}")
        return self.of(type_, stream)[count - 1]

    def health(self) -> Event:
        """The newest."""
        return self.wait_event("health")["data"] if not self.of("health") else self.of("health")[-1]["data"]

    def next_health(self) -> Event:
        """The one after the newest now: it tells of what has happened until now."""
        count = len(self.of("health"))
        return self.wait_event("health", count=count + 1)["data"]

    def frames(self, stream: str) -> int:
        """Processed so far, as the newest health tells."""
        return self.health()["streams"][stream]["frames"]

    def wait_frames(self, stream: str, more: int) -> None:
        """Until so many more are processed."""
        before = self.next_health()["streams"][stream]["frames"]
        self.wait_for(lambda: self.frames(stream) >= before + more, f"{more} more frames of {stream}")
