"""One MQTT connection, driven by one thread: a paho client, what the broker allows on it, and what is on the way."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgeai.sinks.mqtt.inbox import Inbox
from edgeai.sinks.mqtt.refusals import disconnection
from edgeai.sinks.mqtt.session import Announcement, Subscription
from edgeai.sinks.transport import TransportError

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

USER_TIMEOUT_MS: Final = (
    15_000  # how long sent bytes may stay without the peer's TCP acknowledgement (RFC 5482)
)
AROUND_BYTES: Final = 16  # fixed header, packet id and message expiry around topic and payload, at most
UNSENT_BYTES: Final = 16 << 10
BARRIER_TIMEOUT_S: Final = 5.0
_BARRIER_FILTER: Final = "edgeai/barrier"  # nobody subscribes to it
_FILTERS_A_PACKET: Final = 8  # some brokers take no more in one SUBSCRIBE


@dataclass(frozen=True, slots=True)
class _Outgoing:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    seq: int | None
    properties: Properties | None


class Link:
    """Lives from before CONNECT to the loss of the connection, and is never used again.

    answer: the reason code of CONNACK, None before it. window, max_packet_bytes, max_qos, retain: what the broker
    allows (MQTT 5.0, section 3.2.2.3). acked, refused: numbers of messages, and the reason, that `move` has learnt of;
    the owner empties them. unsettled: announcements not yet acknowledged. subscribing: packets without SUBACK.

    barrier: a message of QoS 1 counts as acknowledged only when the broker has also answered a packet that was sent after
    its PUBACK. mosquitto answers first and saves after, at the end of the same turn of its loop, so that kill -9 loses
    what it acknowledged in its last turn; an answer of a later turn proves that the turn before was ended. The packet is
    an UNSUBSCRIBE of what is not subscribed: every broker answers it, no ACL forbids it, nobody hears it.
    """

    def __init__(
        self,
        client: Client,
        waker: socket.socket | None,
        inbox: Inbox,
        *,
        client_id: str,
        barrier: bool = False,
    ) -> None:
        self.client = client
        self.answer: ReasonCode | None = None
        self.ready = False
        self.window = 65535
        self.max_packet_bytes = 268_435_455
        self.max_qos = 2
        self.retain = True
        self.acked: list[int] = []
        self.refused: list[tuple[int, str]] = []
        self.unsettled = 0
        self.subscribing: dict[int, tuple[str, ...]] = {}
        self._open: dict[int, _Outgoing] = {}
        self._waiting: deque[_Outgoing] = deque()  # for room in the broker's window
        self._unacked = 0  # of `_open`, those that count in the window: QoS 1 and above
        self._answers: list[Announcement] = []  # of handlers, before the birth
        self._barrier = barrier
        self._before: list[int] = []  # acknowledged, and waiting for the next barrier
        self._at_barrier: list[int] = []
        self._barrier_mid: int | None = None
        self._barrier_s = 0.0
        self._inbox = inbox
        self._client_id = client_id
        self._waker = waker
        self._gone = False
        self._farewell: ReasonCode | None = None  # the broker's own DISCONNECT
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
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
        if len(payload) + len(topic.encode(errors="replace")) + AROUND_BYTES > self.max_packet_bytes:
            self._refuse(topic, seq, f"larger than the broker takes ({self.max_packet_bytes} bytes)")
            return
        message = _Outgoing(topic, payload, min(qos, self.max_qos), retain and self.retain, seq, properties)
        if seq is None:
            self.unsettled += 1
        # never more open than the broker's Receive Maximum: the owner counts its own messages, not the announcements
        if message.qos and (self._waiting or self._unacked >= self.window):
            self._waiting.append(message)
        else:
            self._send(message)

    def announce(self, announcements: Sequence[Announcement]) -> None:
        """Queue announcements. Raises TransportError."""
        for one in announcements:
            self.publish(one.topic, one.payload, qos=one.qos, retain=one.retain)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Queue SUBSCRIBE packets; the answers go to the inbox. Raises TransportError, ValueError for a filter that is
        none.
        """
        from paho.mqtt.enums import MQTTProtocolVersion
        from paho.mqtt.subscribeoptions import SubscribeOptions

        newer = self.client.protocol == MQTTProtocolVersion.MQTTv5
        wanted = {one.topic_filter: min(one.qos, self.max_qos) for one in subscriptions}
        filters = list(wanted)
        for start in range(0, len(filters), _FILTERS_A_PACKET):
            some = filters[start : start + _FILTERS_A_PACKET]
            asked: Any = [(one, SubscribeOptions(wanted[one]) if newer else wanted[one]) for one in some]
            result, mid = self.client.subscribe(asked)
            if result != 0 or mid is None:
                raise TransportError(f"connection lost: {_text(result)}")
            self.subscribing[mid] = tuple(some)

    def greet(self) -> None:
        """From now on answers of handlers go out as they come, and those that were held back now. Raises
        TransportError.
        """
        self.ready = True
        answers, self._answers = self._answers, []
        self.announce(answers)

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
                while self._waiting and self._unacked < self.window:
                    self._send(self._waiting.popleft())
                if self._before or self._barrier_mid is not None:
                    self._raise_barrier()
        except TransportError:
            self._gone = True
            raise
        except Exception as error:  # a hostile or broken peer: paho lets struct, index and other errors out
            self._gone = True
            raise TransportError(f"connection lost: {type(error).__name__}: {error}") from error
        if self._gone or client.socket() is None:
            self._gone = True
            if self._farewell is not None:
                raise disconnection(self._farewell, client_id=self._client_id)
            raise TransportError("connection lost")

    def drop(self) -> None:
        """Close the socket without a word."""
        self._gone = True
        sock: Any = self.client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def _send(self, message: _Outgoing) -> None:
        try:
            info = self.client.publish(
                message.topic,
                message.payload,
                qos=message.qos,
                retain=message.retain,
                properties=message.properties,
            )
        except ValueError as error:  # no topic to publish on, or no payload that MQTT can carry
            if message.seq is None:
                self.unsettled -= 1
            self._refuse(message.topic, message.seq, str(error))
            return
        if info.rc != 0:
            raise TransportError(f"connection lost: {_text(info.rc)}")
        self._open[info.mid] = message
        self._unacked += message.qos > 0

    def _raise_barrier(self) -> None:
        if self._barrier_mid is None:
            result, mid = self.client.unsubscribe(_BARRIER_FILTER)
            if result != 0:
                raise TransportError(f"connection lost: {_text(result)}")
            self._barrier_mid, self._barrier_s = mid, time.monotonic()
            self._at_barrier, self._before = self._before, []
        elif time.monotonic() - self._barrier_s > BARRIER_TIMEOUT_S:
            self._inbox.fault(
                _BARRIER_FILTER, "the broker answers no UNSUBSCRIBE; acknowledgements count at once"
            )
            self._barrier = False
            self._pass_barrier()

    def _pass_barrier(self) -> None:
        self._barrier_mid = None
        self.acked += self._at_barrier
        self._at_barrier = []
        if not self._barrier:
            self.acked += self._before
            self._before = []

    def _refuse(self, topic: str, seq: int | None, reason: str) -> None:
        if seq is None:
            self._inbox.fault(topic, reason)
        else:
            self.refused.append((seq, reason))

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.answer = reason
        self.window = getattr(properties, "ReceiveMaximum", self.window)
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", self.max_packet_bytes)
        self.max_qos = getattr(properties, "MaximumQoS", self.max_qos)
        self.retain = bool(getattr(properties, "RetainAvailable", 1))

    def _on_publish(self, client: Client, data: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
        message = self._open.pop(mid, None)
        if message is None:
            return
        self._unacked -= message.qos > 0
        if message.seq is None:
            self.unsettled -= 1
        if reason.is_failure:
            self._refuse(message.topic, message.seq, str(reason))
        elif message.seq is not None:
            (self._before if self._barrier and message.qos else self.acked).append(message.seq)

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        answers = self._inbox.take(message)
        if self.ready:
            self.announce(answers)
        else:
            self._answers.extend(answers)

    def _on_subscribe(self, client: Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        for topic_filter, reason in zip(self.subscribing.pop(mid, ()), reasons, strict=False):
            if reason.is_failure:
                self._inbox.refuse(topic_filter, str(reason))
            else:
                self._inbox.granted(topic_filter)

    def _on_unsubscribe(self, client: Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if mid == self._barrier_mid:
            self._pass_barrier()

    def _on_disconnect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._gone = True
        if flags.is_disconnect_packet_from_server:
            self._farewell = reason


def _text(result: Any) -> str:
    from paho.mqtt.client import error_string

    return error_string(result).rstrip(".")


def _wait(sock: Any, waker: socket.socket | None, *, writing: bool, timeout_s: float) -> bool:
    """Wait for the socket or a wake-up; True where there may be something to read."""
    if (
        hasattr(sock, "pending") and sock.pending()
    ):  # decrypted or unframed already, so that the kernel has nothing to tell
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
    # nobody acknowledges a picture at QoS 0: without it the kernel takes megabytes at once, and an alarm waits behind them
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _acknowledge_now(sock: Any) -> None:
    """Send TCP's acknowledgement now, not 40 ms later: a broker with Nagle's algorithm (mosquitto's default) holds
    its next PUBACK until it has it. Linux forgets the option with every read (tcp(7)).
    """
    if sock is not None and hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _ignore(client: Client, data: Any, sock: Any) -> None:
    pass
