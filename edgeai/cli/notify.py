"""What systemd is told of a service of Type=notify: that it is starting, ready, alive, ending."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

# systemd waits so much longer after each word; a plan is built in minutes, and a start that hangs must end some time
_EXTEND_S, _EVERY_S, _AT_MOST_S = 60, 20, 3600


@contextlib.contextmanager
def starting(what: str) -> Iterator[None]:
    """A start that may take minutes, an hour at most; READY=1 at its end, nothing where it fails.

    Does nothing where no service manager listens.
    """
    ended = threading.Event()

    def extend() -> None:
        for _ in range(_AT_MOST_S // _EVERY_S):
            _tell(f"EXTEND_TIMEOUT_USEC={_EXTEND_S * 1_000_000}\nSTATUS={what}")
            if ended.wait(_EVERY_S):
                return

    thread = threading.Thread(target=extend, name="notify", daemon=True) if _address() else None
    if thread is not None:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread is not None:
            thread.join()
    _tell("READY=1\nSTATUS=running")


def stopping() -> None:
    """The end has begun; it may take until what waits for the broker was sent."""
    _tell("STOPPING=1\nSTATUS=ending")


def watchdog_pings() -> Callable[[], None]:
    """What tells the service manager, where it wants to know it (WatchdogSec=), that this process is alive; called more
    often than it wants, it tells as often as it wants.
    """
    every_s = _watchdog_s() / 3
    if not every_s:
        return lambda: None
    due_s = 0.0

    def ping() -> None:
        nonlocal due_s
        now_s = time.monotonic()
        if now_s >= due_s:
            due_s = now_s + every_s
            _tell("WATCHDOG=1")

    return ping


def _watchdog_s() -> float:
    """sd_watchdog_enabled(3); 0 where nobody waits for this process."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6


def _address() -> str:
    """sd_notify(3): a path, or "@" and a name in the abstract space."""
    given = os.environ.get("NOTIFY_SOCKET", "")
    return "\0" + given[1:] if given.startswith("@") else given


def _tell(words: str) -> None:
    if address := _address():
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(words.encode(), address)
