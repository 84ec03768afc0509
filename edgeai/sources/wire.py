"""A connection to a camera whose every wait ends: at its deadline, or when another thread cancels it."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
import time
from typing import Any

from edgeai.errors import SourceError, SourceMissingError, first_line


class Wire(io.RawIOBase):
    """One TCP connection, with TLS where a context is given. Use `open`, and `buffered` to read lines of it.

    Every wait ends at `deadline_s`, of time.monotonic, which its user moves on: a peer that sends a byte now and then gains
    nothing by it. Reading and sending raise TimeoutError there, and OSError as sockets do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deadline_s = 0.0
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._cancelled = False

    def open(self, host: str, port: int, *, tls: ssl.SSLContext | None, called: str) -> None:
        """Connect within the deadline. `called`: the camera, in messages.

        Raises SourceMissingError where it cannot be reached, SourceError where its certificate is not trusted.
        """
        try:
            self._hold(self._connected(host, port))
            if tls is not None and self._socket is not None:
                self._socket.settimeout(self._left_s())
                self._hold(tls.wrap_socket(self._socket, server_hostname=host))
        except socket.gaierror:
            raise SourceMissingError(f"{called}: the host's name is not known on this network") from None
        except ssl.SSLCertVerificationError as error:
            raise SourceError(
                f"{called}: its certificate is not trusted: {error.verify_message}",
                next_step="install the certificate of who signed it on this device (SSL_CERT_FILE)",
            ) from None
        except (ssl.SSLError, UnicodeError, ValueError) as error:
            raise SourceError(f"{called}: no encrypted connection: {first_line(error)}") from None
        except TimeoutError:
            raise SourceMissingError(f"{called} does not answer: it is off, or not on this network") from None
        except ConnectionRefusedError:
            raise SourceMissingError(
                f"{called} refused the connection",
                next_step="look at its port, and whether its stream is switched on",
            ) from None
        except OSError as error:
            raise SourceMissingError(
                f"{called} cannot be reached: {error.strerror or first_line(error)}"
            ) from None

    def _connected(self, host: str, port: int) -> socket.socket:
        """To the first of the host's addresses that answers."""
        fault: OSError | None = None
        for family, kind, protocol, _, address in _addresses(host, port, self._left_s()):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._left_s())
                sock.connect(address)
            except OSError as error:
                sock.close()
                fault = error
            else:
                return sock
        raise fault or socket.gaierror

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            self._socket = sock
            if self._cancelled:
                sock.close()
                raise TimeoutError

    def _left_s(self) -> float:
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0 or self._cancelled:
            raise TimeoutError
        return left_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        sock = self._socket
        if sock is None:
            raise OSError("the connection is closed")
        sock.settimeout(self._left_s())
        return sock.recv_into(buffer)

    def sendall(self, data: Any) -> None:
        sock = self._socket
        if sock is None:
            raise OSError("the connection is closed")
        sock.settimeout(self._left_s())
        sock.sendall(data)

    def buffered(self) -> io.BufferedReader:
        return io.BufferedReader(self, 65536)

    def makefile(self, mode: str = "rb", *_: Any) -> io.BufferedReader:
        """What http.client asks of a socket."""
        return self.buffered()

    def close(self) -> None:
        """As http.client, which closes the socket and goes on reading from its file, wants it: nothing. See `end`."""

    def cancel(self) -> None:
        """End a wait that is under way, and all later ones; from any thread."""
        with self._lock:
            self._cancelled = True
            sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Give the connection back; safe to call twice."""
        with self._lock:
            sock, self._socket = self._socket, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()


def _addresses(host: str, port: int, limit_s: float) -> list[Any]:
    """What the resolver knows, as socket.getaddrinfo gives it.

    In a thread of its own: with its name servers out of reach a resolver takes half a minute, and cannot be interrupted.
    """
    found: list[Any] = []
    faults: list[Exception] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            faults.append(error)

    asking = threading.Thread(target=ask, name="camera's address", daemon=True)
    asking.start()
    asking.join(limit_s)
    if faults:
        raise faults[0]
    if not found:
        raise socket.gaierror
    return list(found)
