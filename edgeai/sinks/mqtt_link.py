"""One MQTT connection, driven by one thread: a paho client, what the broker allows on it, and what is on the way."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING, Any, Final

from edgeai.sinks.transport import TransportError

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

USER_TIMEOUT_MS: Final = (
    15_000  # how long sent bytes may stay without the peer's TCP acknowledgement (RFC 5482)
)


class Link:
    """Lives from before CONNECT to the loss of the connection, and is never used again.

    answer: the reason code of CONNACK, None before it. window, max_packet_bytes, max_qos, retain: what the broker
    allows (MQTT 5.0, section 3.2.2.3). acked, refused: numbers of messages, and the reason, that `move` has learnt of;
    the owner empties them. own: packet ids published without a number and not yet acknowledged.
    """

    def __init__(self, client: Client, waker: socket.socket | None) -> None:
        self.client = client
        self.answer: ReasonCode | None = None
        self.ready = False
        self.window = 65535
        self.max_packet_bytes = 268_435_455
        self.max_qos = 2
        self.retain = True
        self.acked: list[int] = []
        self.refused: list[tuple[int, str]] = []
        self.own: set[int] = set()
        self._seq_of_mid: dict[int, int] = {}
        self._waker = waker
        self._gone = False
        self._farewell: ReasonCode | None = None  # the broker's own DISCONNECT
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _set_options
        # with this callback paho only queues, and `move` alone writes: an acknowledgement at QoS 0 never comes before
        # its packet id is known
        client.on_socket_register_write = _ignore

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        seq: int | None = None,
        properties: Properties | None = None,
    ) -> None:
        """Queue a message; with `seq` its fate will be in acked or refused. Raises TransportError."""
        info = self.client.publish(
            topic, payload, qos=min(qos, self.max_qos), retain=retain and self.retain, properties=properties
        )
        if info.rc != 0:
            from paho.mqtt.client import error_string

            raise TransportError(f"connection lost: {error_string(info.rc).rstrip('.')}")
        if seq is None:
            self.own.add(info.mid)
        else:
            self._seq_of_mid[info.mid] = seq

    def move(self, timeout_s: float) -> None:
        """Write what is queued, wait for news, read it. Raises TransportError where the connection is gone."""
        client = self.client
        try:
            if client.want_write():
                client.loop_write()
            sock: Any = client.socket()
            if sock is not None and not self._gone:
                if _wait(sock, self._waker, writing=client.want_write(), timeout_s=timeout_s):
                    client.loop_read()
                    _acknowledge_now(client.socket())
                if client.want_write():
                    client.loop_write()
                client.loop_misc()
        except Exception as error:  # a hostile or broken peer: paho lets struct, index and other errors out
            self._gone = True
            raise TransportError(f"connection lost: {type(error).__name__}: {error}") from error
        if self._gone or client.socket() is None:
            self._gone = True
            if self._farewell is not None:
                raise TransportError(f"the broker disconnected us: {self._farewell}")
            raise TransportError("connection lost")

    def drop(self) -> None:
        """Close the socket without a word."""
        self._gone = True
        sock: Any = self.client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.answer = reason
        self.window = getattr(properties, "ReceiveMaximum", self.window)
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", self.max_packet_bytes)
        self.max_qos = getattr(properties, "MaximumQoS", self.max_qos)
        self.retain = bool(getattr(properties, "RetainAvailable", 1))

    def _on_publish(self, client: Client, data: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        self.own.discard(mid)
        seq = self._seq_of_mid.pop(mid, None)
        if seq is None:
            return
        if reason.is_failure:
            self.refused.append((seq, str(reason)))
        else:
            self.acked.append(seq)

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._gone = True
        if flags.is_disconnect_packet_from_server:
            self._farewell = reason


def _wait(sock: Any, waker: socket.socket | None, *, writing: bool, timeout_s: float) -> bool:
    """Wait for the socket or a wake-up; True where there may be something to read."""
    if (
        hasattr(sock, "pending") and sock.pending()
    ):  # decrypted already, so that the kernel has nothing to tell
        return True
    poller = select.poll()  # select.select ends at file descriptor 1023
    poller.register(sock, select.POLLIN | (select.POLLOUT if writing else 0))
    if waker is not None:
        poller.register(waker, select.POLLIN)
    ready = dict(poller.poll(max(0.0, timeout_s) * 1e3))
    if waker is not None and waker.fileno() in ready:
        with contextlib.suppress(BlockingIOError):
            waker.recv(4096)
    return bool(ready.get(sock.fileno(), 0) & ~select.POLLOUT)


def _set_options(client: Client, data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _acknowledge_now(sock: Any) -> None:
    """Send TCP's acknowledgement now, not 40 ms later: a broker with Nagle's algorithm (mosquitto's default) holds
    its next PUBACK until it has it. Linux forgets the option with every read (tcp(7)).
    """
    if sock is not None and hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _ignore(client: Client, data: Any, sock: Any) -> None:
    pass
