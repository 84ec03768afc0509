"""Time behind an interface, so that tests need no sleeps."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """monotonic_s never goes back; wall_s is Unix time and may jump; wait returns early when `stop` is set."""

    def monotonic_s(self) -> float: ...

    def wall_s(self) -> float: ...

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait until `stop` is set or `seconds` have passed; True where `stop` is set."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)


class FakeClock:
    """A clock that moves only when told, or when somebody waits on it."""

    def __init__(self, *, wall_s: float = 1_700_000_000.0) -> None:
        self._now_s = 0.0
        self._wall_offset_s = wall_s

    def monotonic_s(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return self._now_s + self._wall_offset_s

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.advance(seconds)
        return stop.is_set()

    def advance(self, seconds: float) -> None:
        self._now_s += seconds

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as NTP or a flat RTC battery does."""
        self._wall_offset_s += seconds


def clock_synced() -> bool | None:
    """True or False as systemd-timesyncd or chrony tell; None where nothing on this machine says."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    if Path("/run/systemd/timesync").is_dir():
        return False
    return None
