"""What ends a wait of another thread: a pair of sockets that poll(2) listens to."""

from __future__ import annotations

import contextlib
import select
import socket


class Waker:
    """`wake` from any thread makes a running or the next `wait` come back. Nothing is open before `open`."""

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def open(self) -> None:
        if self._pair is None:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)

    def wake(self) -> None:
        pair = self._pair
        if pair is not None:
            with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody waits
                pair[1].send(b"\0")

    def wait(self, timeout_s: float, *, fd: int = -1, events: int = 0) -> int:
        """Wait for `events` of poll(2) on `fd`, for `wake`, or for `timeout_s`; the events of `fd` that came, 0 for none."""
        poller = select.poll()  # select.select ends at file descriptor 1023
        if fd >= 0:
            poller.register(fd, events)
        waker = self._pair[0] if self._pair is not None else None
        if waker is not None:
            poller.register(waker, select.POLLIN)
        ready = dict(poller.poll(max(0.0, timeout_s) * 1e3))
        if waker is not None and waker.fileno() in ready:
            with contextlib.suppress(OSError):
                waker.recv(4096)
        return ready.get(fd, 0)

    def close(self) -> None:
        pair, self._pair = self._pair, None
        for end in pair or ():
            end.close()
