"""One kept HTTP connection on which every wait has an end: the standard library's parser over a socket with a deadline.

http.client's own time-outs are per read, so that a server which sends a byte now and then would hold the thread for
ever. urllib3 and requests share that (their "read timeout" is between bytes), and their redirects, retries, proxies
and pools would all have to be switched off; so neither is worth a dependency of every device.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult

from edgeai.sinks.transport import TransportError
from edgeai.sinks.waker import Waker

MAX_BODY_BYTES: Final = 64 << 10
USER_AGENT: Final = "edgeai"


@dataclass(frozen=True, slots=True)
class Answer:
    """status, reason phrase, the headers that matter ("" where absent), and the beginning of the body."""

    status: int
    reason: str
    retry_after: str
    location: str
    body: bytes


class UnansweredError(TransportError):
    """The connection ended, or time did, before an answer came. stale: nothing came at all on a connection used before."""

    def __init__(self, message: str, *, stale: bool = False) -> None:
        self.stale = stale
        super().__init__(message)


class WebhookLink:
    """From TCP's connecting to the end of that connection; one request at a time. Any method raises TransportError.

    Connecting takes `timeout_s` for TCP (for each address of the name) and for TLS.
    """

    def __init__(
        self, url: SplitResult, context: ssl.SSLContext | None, *, timeout_s: float, waker: Waker
    ) -> None:
        self._waker = waker
        self._deadline_s = 0.0
        self._first = b""  # of the answer, read while waiting for it
        self.answered = 0
        host = url.hostname or ""
        port = url.port or (80 if context is None else 443)
        try:
            self._sock: socket.socket = socket.create_connection((host, port), timeout_s)
        except (OSError, UnicodeError) as error:
            raise TransportError(f"cannot connect: {getattr(error, 'strerror', None) or error}") from error
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.setblocking(False)
            self._deadline_s = time.monotonic() + timeout_s
            if context is not None:
                wrapped = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
                self._sock = wrapped
                self._repeat(wrapped.do_handshake, select.POLLIN)
        except ssl.SSLError as error:
            self.drop()
            reason = getattr(error, "verify_message", "") or error.reason or error
            raise TransportError(
                f"TLS failed: {reason}",
                next_step="check the sink's url and tls, and the server's certificate",
            ) from error
        except (OSError, ValueError) as error:
            self.drop()
            raise TransportError(f"cannot connect: {error}") from error
        self._http = http.client.HTTPConnection(host, url.port)
        self._http.default_port = 80 if context is None else 443
        self._http.auto_open = 0
        self._http.sock = self  # sendall, makefile and close are all it asks for

    @property
    def closed_by_peer(self) -> bool:
        """Whether something came while nothing was asked: the end, or what makes the connection unusable."""
        try:
            return self._read_some() is not None
        except (OSError, ValueError):
            return True

    def send(self, target: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> None:
        """Write a request; the answer must be whole `timeout_s` from now."""
        self._deadline_s = time.monotonic() + timeout_s
        self._first = b""
        try:
            self._http.request("POST", target, body, {"User-Agent": USER_AGENT, **headers})
        except TimeoutError as error:
            raise UnansweredError(f"the server takes no request within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            # the answer may lie there already: a server that refuses a body need not read it
            if not self.arrived(0.0):
                raise UnansweredError(
                    f"connection lost: {_said(error)}", stale=bool(self.answered)
                ) from error

    def arrived(self, timeout_s: float) -> bool:
        """Whether the answer has begun, after waiting up to `timeout_s` or `wake`. Raises UnansweredError at the deadline."""
        if self._first:
            return True
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise UnansweredError("no answer in time")
        try:
            some = self._read_some()
            if some is None:
                self._waker.wait(min(timeout_s, left_s), fd=self._sock.fileno(), events=select.POLLIN)
                some = self._read_some()
        except (OSError, ValueError) as error:
            raise UnansweredError(f"connection lost: {_said(error)}", stale=bool(self.answered)) from error
        if some is None:
            return False
        if not some:
            raise UnansweredError(
                "the server closed the connection without an answer", stale=bool(self.answered)
            )
        self._first = some
        return True

    def read(self) -> Answer:
        """The answer that has begun, by the deadline at most. At most 64 KiB of its body are read."""
        try:
            response = self._http.getresponse()
            body = response.read(MAX_BODY_BYTES + 1)
            if response.length and len(body) <= MAX_BODY_BYTES:
                raise http.client.IncompleteRead(body, response.length)
            # what is left would be taken for the next answer
            if response.will_close or not response.isclosed():
                self.drop()
        except TimeoutError as error:
            raise UnansweredError("no whole answer in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnansweredError(f"the answer broke off or is no HTTP: {_said(error)}") from error
        self._first = b""
        self.answered += 1
        return Answer(
            response.status,
            response.reason[:200],
            response.getheader("Retry-After", "")[:64],
            response.getheader("Location", "")[:200],
            body[:MAX_BODY_BYTES],
        )

    @property
    def open(self) -> bool:
        return self._sock.fileno() >= 0

    def drop(self) -> None:
        """Close the socket; safe to call twice."""
        self._sock.close()

    # what http.client asks of its socket

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._repeat(lambda: self._sock.send(view[: 64 << 10]), select.POLLOUT) :]  # noqa: B023 (called at once)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """http.client closes after an answer without a length; `read` does it where it must."""

    def read_into(self, buffer: Any) -> int:
        if self._first:
            n = min(len(buffer), len(self._first))
            buffer[:n] = self._first[:n]
            self._first = self._first[n:]
            return n
        received: int = self._repeat(lambda: self._sock.recv_into(buffer), select.POLLIN)
        return received

    def _read_some(self) -> bytes | None:
        """What is there now, b"" at the end of the connection, None where nothing is."""
        try:
            return self._sock.recv(16 << 10)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
            return None

    def _repeat(self, call: Any, events: int) -> Any:
        """`call` again until it need not wait for `events`, or what TLS asks for. Raises TimeoutError at the deadline."""
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            except BlockingIOError:
                pass
            left_s = self._deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out")
            poller = select.poll()
            poller.register(self._sock, events)
            poller.poll(left_s * 1e3)


class _Reader(io.RawIOBase):
    def __init__(self, link: WebhookLink) -> None:
        self._link = link

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._link.read_into(buffer)


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
