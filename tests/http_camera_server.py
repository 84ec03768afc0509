"""An HTTP camera made of a socket: what it sends is a test's own business, byte by byte."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable

Play = Callable[[socket.socket, bytes], None]
"""Answers one request: it is given the connection and the request's head, and the connection is closed after it."""


class HttpCameraServer:
    """Listens on a free loopback port; each connection is a thread that reads a request's head and calls `play`."""

    def __init__(self, play: Play, *, tls: ssl.SSLContext | None = None) -> None:
        self.play = play
        self.requests: list[bytes] = []
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/video"
        self._ends: list[socket.socket] = []

    def __enter__(self) -> HttpCameraServer:
        threading.Thread(target=self._accept, name="http camera", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                self._ends.append(end)
                threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                end = self._tls.wrap_socket(end, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                data = end.recv(4096)
                if not data:
                    return
                head += data
            self.requests.append(head)
            self.play(end, head)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def digest_is_right(head: bytes, user: str, password: str, nonce: str) -> bool:
    """Whether a request carries the right answer to a Digest challenge of MD5, qop="auth" and realm="camera"."""
    found = re.search(rb"^Authorization: Digest (.*?)\r$", head, re.MULTILINE | re.IGNORECASE)
    if not found:
        return False
    given = {
        name: quoted or plain
        for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,]*))', found[1].decode())
    }

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    if given.get("nonce") != nonce:
        return False
    secret = md5(f"{user}:camera:{password}")
    request = md5(f"{head.split()[0].decode()}:{given['uri']}")
    return (
        given["response"] == md5(f"{secret}:{nonce}:{given['nc']}:{given['cnonce']}:auth:{request}")
        and given["uri"] == head.split()[1].decode()
    )
