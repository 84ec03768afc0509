"""A link to an RTSP camera that damages what it sends: a proxy of TCP with RTP interleaved (RFC 2326, 10.12)."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Literal

Damage = Literal["flip", "drop", "garble", "lie", "noise"]
"""flip: bits of RTP payloads. drop: packets are left out. garble: payloads are random bytes. lie: lengths of interleaved
packets are wrong, so that what follows is no RTSP. noise: random bytes between packets."""


class DamagingLink:
    """Passes RTSP over TCP through, and damages a share of the RTP packets that come from the camera."""

    def __init__(
        self, target_port: int, *, damage: Damage | None = "flip", share: float = 0.1, seed: int = 0
    ) -> None:
        self.damage: Damage | None = damage
        self.share = share
        self.damaged = 0
        self._target_port = target_port
        self._rng = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = []
        self._closing = False

    def __enter__(self) -> DamagingLink:
        threading.Thread(target=self._accept, name="damaging link", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._ends += (near, far)
            for source, sink, work in ((near, far, self._pass), (far, near, self._pass_damaged)):
                threading.Thread(target=work, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                sink.sendall(chunk)
        self._end(source, sink)

    def _pass_damaged(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), source.makefile("rb") as stream:
            while first := stream.read(1):
                if first != b"$":
                    sink.sendall(first + self._message(stream))
                    continue
                head = first + stream.read(3)
                payload = stream.read(int.from_bytes(head[2:4], "big"))
                sink.sendall(self._packet(head, payload))
        self._end(source, sink)

    def _message(self, stream) -> bytes:
        lines, length = [], 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            lines.append(line)
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return b"".join(lines) + line + stream.read(length)

    def _packet(self, head: bytes, payload: bytes) -> bytes:
        rtcp = head[1] % 2 == 1
        if self.damage is None or rtcp or len(payload) < 13 or self._rng.random() >= self.share:
            return head + payload
        self.damaged += 1
        body = bytearray(payload[12:])
        if self.damage == "drop":
            return b""
        if self.damage == "lie":
            return head[:2] + self._rng.randrange(65536).to_bytes(2, "big") + payload
        if self.damage == "noise":
            return head + payload + self._rng.randbytes(self._rng.randrange(1, 400))
        if self.damage == "garble":
            body[:] = self._rng.randbytes(len(body))
        else:
            for _ in range(3):
                body[self._rng.randrange(len(body))] ^= 1 << self._rng.randrange(8)
        return head + payload[:12] + bytes(body)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
