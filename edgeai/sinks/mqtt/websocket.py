"""MQTT in WebSocket frames (RFC 6455; MQTT 5.0, section 6), as a socket that paho can drive.

paho's own wrapper masks byte by byte in Python, tells 0 for a frame that is half sent, at which paho 2.2 forgets the
packet, answers a ping amid such a frame and unmasked, which section 5.1 makes the server hang up at, and sets no bound to a
handshake.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import time
from typing import Final

from edgeai.sinks.transport import TransportError, TransportRefusedError

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
_MAX_HEAD_BYTES: Final = 16 << 10
_READ_BYTES: Final = 64 << 10
_FRAME_BYTES: Final = 64 << 10  # a larger packet goes in several frames: MQTT takes frames as a stream
_MAX_CONTROL_BYTES: Final = 125
_MAX_CONTROLS_WAITING: Final = 16

_SEE: Final = "check mqtt.transport, mqtt.port and mqtt.tls"

_CONTINUATION: Final = 0x0
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA


class WebSocketProtocolError(ConnectionError):
    """The peer sends what RFC 6455 forbids."""


class WebSocket:
    """Takes the place of a connected socket, TLS or not: send, recv, pending, and what select needs.

    Constructing it does the handshake, `timeout_s` at most. Raises TransportRefusedError for an HTTP error that only a
    person can mend (4xx), TransportError for anything else that is no WebSocket with MQTT in it, OSError.
    """

    def __init__(self, sock: socket.socket, *, host: str, port: int, path: str, timeout_s: float) -> None:
        self._sock = sock
        self._raw = bytearray()  # received, not yet parsed
        self._inbox = bytearray()  # payload, not yet taken
        self._left_bytes = 0  # of the data frame that is being received
        self._frame = b""  # being sent: what the kernel has not taken
        self._frame_covers = 0  # bytes of payload in it
        self._controls: list[bytes] = []  # pongs that wait for the end of the frame being sent
        self._closed = False
        self._handshake(host, port, path, time.monotonic() + timeout_s)

    def recv(self, size: int) -> bytes:
        """b"" at the end. Raises BlockingIOError, what the socket raises, WebSocketProtocolError."""
        if not self._inbox and not self._closed:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                return b""
            self._raw += data
            self._parse()
            if self._controls:
                self._send_controls()
        if not self._inbox:
            if self._closed:
                return b""
            raise BlockingIOError
        taken = bytes(self._inbox[:size])
        del self._inbox[:size]
        return taken

    def send(self, data: bytes | bytearray) -> int:
        """How many bytes went out as a whole frame. Raises BlockingIOError where one is under way, and then the same bytes
        must come again; what the socket raises. Never 0: paho drops a packet of which nothing was sent.
        """
        self._send_controls()
        if not self._frame:
            piece = bytes(memoryview(data)[:_FRAME_BYTES])
            self._frame, self._frame_covers = _frame(_BINARY, piece), len(piece)
        self._push()
        covered = self._frame_covers
        if self._frame or not covered:  # not covered: that was the rest of a pong
            raise BlockingIOError
        self._send_controls()
        return covered

    def pending(self) -> int:
        """Bytes that are here already, so that the kernel has nothing to tell."""
        inner = getattr(self._sock, "pending", None)
        return len(self._inbox) or self._closed or (inner() if inner is not None else 0)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._sock.setsockopt(level, option, value)

    def close(self) -> None:
        self._sock.close()

    def _send_controls(self) -> None:
        """Between frames only. One that finds no room is the frame being sent: TLS wants the same bytes again."""
        while self._controls and not self._frame:
            self._frame, self._frame_covers = self._controls.pop(0), 0
            try:
                self._frame = self._frame[self._sock.send(self._frame) :]
            except (
                OSError
            ):  # no room (TLS says so with an error of its own), or gone, which the next read tells
                return

    def _push(self) -> None:
        self._frame = self._frame[self._sock.send(self._frame) :]

    def _parse(self) -> None:
        raw = self._raw
        while raw:
            if self._left_bytes:
                taken = raw[: self._left_bytes]
                self._inbox += taken
                self._left_bytes -= len(taken)
                del raw[: len(taken)]
                continue
            if len(raw) < 2:
                return
            opcode, size, head = raw[0] & 0x0F, raw[1] & 0x7F, 2
            if raw[0] & 0x70 or raw[1] & 0x80:
                raise WebSocketProtocolError("a masked frame, or one with reserved bits")
            if size >= 126:
                head += 2 if size == 126 else 8
                if len(raw) < head:
                    return
                size = int.from_bytes(raw[2:head], "big")
            if opcode in (_BINARY, _CONTINUATION):
                del raw[:head]
                self._left_bytes = size
                continue
            if opcode not in (_CLOSE, _PING, _PONG) or size > _MAX_CONTROL_BYTES or not raw[0] & 0x80:
                raise WebSocketProtocolError(f"a frame of kind {opcode} and {size} bytes")
            if len(raw) < head + size:
                return
            body = bytes(raw[head : head + size])
            del raw[: head + size]
            if opcode == _CLOSE:
                self._closed = True
                raw.clear()
            elif opcode == _PING:
                self._controls = [*self._controls, _frame(_PONG, body)][-_MAX_CONTROLS_WAITING:]

    def _handshake(self, host: str, port: int, path: str, deadline_s: float) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        name = f"[{host}]" if ":" in host else host.encode("idna").decode()
        lines = (
            f"GET {path} HTTP/1.1",
            f"Host: {name}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: mqtt",
        )
        self._sock.settimeout(max(0.001, deadline_s - time.monotonic()))
        self._sock.sendall("\r\n".join((*lines, "", "")).encode())
        head, rest = self._read_head(deadline_s)
        status, fields = _parse_head(head)
        if status != 101:
            text = f"HTTP status {status} instead of a WebSocket at {path}"
            if 400 <= status < 500:
                raise TransportRefusedError(text, next_step="check mqtt.ws_path, mqtt.host and mqtt.port")
            raise TransportError(text, next_step="check mqtt.ws_path, mqtt.host and mqtt.port")
        digest = hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()
        if fields.get("sec-websocket-accept") != base64.b64encode(digest).decode():
            raise TransportError("the WebSocket handshake's answer is not one to our question")
        if fields.get("sec-websocket-protocol", "mqtt").lower() != "mqtt":
            raise TransportError(f"the WebSocket at {path} does not carry MQTT")
        self._raw += rest
        self._parse()

    def _read_head(self, deadline_s: float) -> tuple[bytes, bytes]:
        got = bytearray()
        while (end := got.find(b"\r\n\r\n")) < 0:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TransportError("no answer to the WebSocket handshake", next_step=_SEE)
            self._sock.settimeout(left_s)
            try:
                data = self._sock.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                data = b""
            if not data:
                raise TransportError(
                    "the peer closed the connection during the WebSocket handshake", next_step=_SEE
                )
            got += data
            if len(got) > _MAX_HEAD_BYTES or not b"HTTP/".startswith(got[:5]):
                raise TransportError("the peer speaks no HTTP", next_step=_SEE)
        return bytes(got[:end]), bytes(got[end + 4 :])


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields, the names in lower case; status 0 where there is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    status = int(parts[1]) if len(parts) > 1 and parts[1].isascii() and parts[1].isdigit() else 0
    fields = (line.partition(":") for line in lines)
    return status, {name.strip().lower(): value.strip() for name, _, value in fields}


def _frame(opcode: int, payload: bytes) -> bytes:
    """One masked frame, the last of its message (sections 5.2 and 5.3)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    key = os.urandom(4)
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")  # thirty times a loop over bytes
    return head + key + masked.to_bytes(size, "big")
