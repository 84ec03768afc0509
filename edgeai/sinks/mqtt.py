"""MQTT: version 5, or 3.1.1 where the broker knows no other; QoS 1, birth and last will, TLS; paho-mqtt underneath.

Every connection has a paho client of its own. What is open lives in the outbox, so there is no state of paho's to carry
over, and none to get wrong: its queue is unlimited and in memory, its back-off doubles to 120 s.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edgeai.sinks.credentials import read_password, tls_context
from edgeai.sinks.message import Message
from edgeai.sinks.settings import MqttSettings
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import NOTHING, Progress, Transport, TransportError, TransportRefusedError

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_log = logging.getLogger(__name__)

USER_TIMEOUT_MS: Final = (
    15_000  # how long sent bytes may stay without the peer's TCP acknowledgement (RFC 5482)
)
_GOODBYE_S: Final = 1.0
_FIXED_HEADER_BYTES: Final = (
    16  # fixed header, packet id and message expiry around topic and payload, at most
)

_UNSUPPORTED_PROTOCOL: Final = 132
_CREDENTIALS: Final = "check mqtt.username and mqtt.password_file, and the broker's password file and ACL"
# CONNACK reason codes of MQTT 5.0, section 3.2.2.2; paho gives those of 3.1.1 the same numbers.
# What it is, what to do, and whether only a person can help.
_REFUSALS: Final[dict[int, tuple[str, str, bool]]] = {
    133: ("the client id is not accepted", "set another mqtt.client_id", True),
    134: ("bad user name or password", _CREDENTIALS, True),
    # mosquitto 2 says 135 for a wrong password too
    135: ("not authorised: wrong user name or password, or no permission", _CREDENTIALS, True),
    136: ("server unavailable", "", False),
    137: ("server busy", "", False),
    138: ("this client is banned", "ask the broker's operator", True),
    140: ("bad authentication method", _CREDENTIALS, True),
    144: ("the topic of the last will is not accepted", "check mqtt.tenant, mqtt.site and mqtt.device", True),
    149: ("the CONNECT packet is too large", "shorten mqtt.client_id", True),
    151: ("quota exceeded", "", False),
    154: ("the broker keeps no retained messages", "allow retained messages in the broker", True),
    155: ("the broker has no QoS 1", "allow QoS 1 in the broker", True),
    156: ("use another server", "set mqtt.host", True),
    157: ("the server has moved", "set mqtt.host", True),
    159: ("connection rate exceeded", "", False),
}


class _OlderProtocolError(TransportError):
    """The broker may know MQTT 3.1.1 only; certain: it said so."""

    def __init__(self, message: str, *, next_step: str = "", certain: bool = False) -> None:
        self.certain = certain
        super().__init__(message, next_step=next_step)


@dataclass(slots=True)
class _Link:
    """One connection: its paho client, what the broker allows on it, and what is on the way."""

    client: Client
    answer: ReasonCode | None = None
    farewell: ReasonCode | None = None  # the broker's own DISCONNECT
    ready: bool = False
    gone: bool = False
    window: int = 65535
    max_packet_bytes: int = 268_435_455
    max_qos: int = 2
    retain: bool = True
    seq_of_mid: dict[int, int] = field(default_factory=dict)
    acked: list[int] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    own: set[int] = field(default_factory=set)  # packet ids of our birth and good-bye


class MqttTransport(Transport):
    """A broker. Retained on <root>/state: {"state": "online", "boot_id": ...} after each connecting, "offline" by the
    last will, or by `close`. A message in flight can overtake a will, hence the boot id in both.

    boot_id: one for each start of the runtime. Nothing is read or opened before `connect`, which raises what
    Transport.connect does: DNS, TCP, TLS, no answer, a refusal by its reason, and an unreadable password file.
    """

    def __init__(self, settings: MqttSettings, *, topics: TopicTree, boot_id: str) -> None:
        scheme = "mqtt" if settings.tls is None else "mqtts"
        self.name = f"{scheme}://{settings.host}:{settings.port}"
        self.window = settings.in_flight
        self.protocol = ""
        """"5" or "3.1.1" once connected."""
        self._settings = settings
        self._topics = topics
        self._boot_id = boot_id
        self._client_id = settings.client_id or f"edgeai-{topics.tenant}-{topics.site}-{topics.device}"
        self._only_older = False
        self._link: _Link | None = None
        self._wake_pair: tuple[socket.socket, socket.socket] | None = None

    def connect(self) -> None:
        self.abort()
        if self._wake_pair is None:
            self._wake_pair = socket.socketpair()
            for end in self._wake_pair:
                end.setblocking(False)
        if not self._only_older:
            try:
                self._connect("5")
                return
            except _OlderProtocolError as error:
                self._only_older = error.certain
            finally:
                self._abort_unless_ready()
        try:
            self._connect("3.1.1")
        finally:
            self._abort_unless_ready()

    def publish(self, message: Message) -> None:
        link = self._linked()
        if len(message.payload) + len(message.topic.encode()) + _FIXED_HEADER_BYTES > link.max_packet_bytes:
            link.refused.append(
                (message.seq, f"larger than the broker takes ({link.max_packet_bytes} bytes)")
            )
            return
        mid = self._publish(
            link,
            message.topic,
            message.payload,
            qos=min(message.qos, link.max_qos),
            retain=message.retain and link.retain,
            expires=True,
        )
        link.seq_of_mid[mid] = message.seq

    def poll(self, timeout_s: float) -> Progress:
        link = self._linked()
        if not link.refused:
            self._move(link, timeout_s)
        if not link.acked and not link.refused:
            return NOTHING
        progress = Progress(tuple(link.acked), tuple(link.refused))
        link.acked.clear()
        link.refused.clear()
        return progress

    def wake(self) -> None:
        pair = self._wake_pair
        if pair is not None:
            with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody sleeps
                pair[1].send(b"\0")

    def abort(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        sock: Any = link.client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def close(self) -> None:
        link = self._link
        if link is not None:
            # whatever fails here, the last will says the same
            with contextlib.suppress(TransportError):
                self._say(link, "offline")
                deadline_s = time.monotonic() + _GOODBYE_S
                while link.own and (left_s := deadline_s - time.monotonic()) > 0:
                    self._move(link, left_s)
                if not link.own:
                    link.client.disconnect()
                    while link.client.want_write() and time.monotonic() < deadline_s:
                        self._move(link, 0.05)
        self.abort()
        pair, self._wake_pair = self._wake_pair, None
        if pair is not None:
            for end in pair:
                end.close()

    # ---- one connection ----

    def _connect(self, protocol: str) -> None:
        settings = self._settings
        link = _Link(self._new_client(protocol))
        self._listen(link)
        try:
            if protocol == "5":
                link.client.connect(
                    settings.host,
                    settings.port,
                    settings.keepalive_s,
                    clean_start=False,
                    properties=_properties("CONNECT", SessionExpiryInterval=settings.session_expiry_s),
                )
            else:
                link.client.connect(settings.host, settings.port, settings.keepalive_s)
        except ssl.SSLError as error:
            raise TransportError(
                f"TLS failed: {error.reason or error}",
                next_step="check mqtt.tls and the broker's certificate",
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a host name that IDNA cannot encode
            raise TransportError(f"cannot connect: {error}") from error
        self._link = link
        deadline_s = time.monotonic() + settings.connect_timeout_s
        try:
            while link.answer is None and (left_s := deadline_s - time.monotonic()) > 0:
                self._move(link, left_s)
        except TransportError as error:
            if link.answer is None:
                raise _OlderProtocolError(
                    "the broker closed the connection without an answer",
                    next_step="" if settings.tls else "if it expects TLS, set mqtt.tls",
                ) from error
        if link.answer is None:
            raise TransportError(f"no answer to CONNECT within {settings.connect_timeout_s:g} s")
        if link.answer.is_failure:
            raise _refusal(link.answer)
        self.window = min(settings.in_flight, link.window)
        self.protocol = protocol
        self._say(link, "online")
        # the broker has the birth before anything else is open: it may allow no more than one
        while link.own:
            if (left_s := deadline_s - time.monotonic()) <= 0:
                raise TransportError(
                    f"no acknowledgement of the birth within {settings.connect_timeout_s:g} s"
                )
            self._move(link, left_s)
        link.ready = True
        _log.debug("%s: MQTT %s, window %d", self.name, protocol, self.window)

    def _abort_unless_ready(self) -> None:
        if self._link is not None and not self._link.ready:
            self.abort()

    def _new_client(self, protocol: str) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if protocol == "5" else False,
            protocol=MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = settings.connect_timeout_s
        client.max_inflight_messages = 0  # the window is ours
        if settings.username is not None:
            password = None if settings.password_file is None else read_password(settings.password_file)
            client.username_pw_set(settings.username, password)
        if settings.tls is not None:
            client.tls_set_context(tls_context(settings.tls))
        client.will_set(self._topics.state, self._state("offline"), qos=1, retain=True)
        return client

    def _listen(self, link: _Link) -> None:
        def on_connect(
            client: Client, data: Any, flags: Any, reason: ReasonCode, properties: Properties
        ) -> None:
            link.answer = reason
            link.window = getattr(properties, "ReceiveMaximum", link.window)
            link.max_packet_bytes = getattr(properties, "MaximumPacketSize", link.max_packet_bytes)
            link.max_qos = getattr(properties, "MaximumQoS", link.max_qos)
            link.retain = bool(getattr(properties, "RetainAvailable", 1))

        def on_publish(client: Client, data: Any, mid: int, reason: ReasonCode, properties: Any) -> None:
            link.own.discard(mid)
            seq = link.seq_of_mid.pop(mid, None)
            if seq is None:
                return
            if reason.is_failure:
                link.refused.append((seq, str(reason)))
            else:
                link.acked.append(seq)

        def on_disconnect(client: Client, data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
            link.gone = True
            if flags.is_disconnect_packet_from_server:
                link.farewell = reason

        link.client.on_connect = on_connect
        link.client.on_publish = on_publish
        link.client.on_disconnect = on_disconnect
        link.client.on_socket_open = _set_options
        # with this callback paho only queues, and `_move` alone writes: an acknowledgement at QoS 0 never comes
        # before its packet id is known
        link.client.on_socket_register_write = _ignore

    def _linked(self) -> _Link:
        if self._link is None:
            raise TransportError("not connected")
        return self._link

    def _publish(
        self, link: _Link, topic: str, payload: bytes, *, qos: int, retain: bool, expires: bool = False
    ) -> int:
        properties = None
        if expires and self.protocol == "5" and self._settings.message_expiry_s is not None:
            properties = _properties("PUBLISH", MessageExpiryInterval=self._settings.message_expiry_s)
        info = link.client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        if info.rc != 0:
            from paho.mqtt.client import error_string

            raise TransportError(f"lost: {error_string(info.rc).rstrip('.')}")
        return info.mid

    def _say(self, link: _Link, state: str) -> None:
        mid = self._publish(
            link, self._topics.state, self._state(state), qos=min(1, link.max_qos), retain=link.retain
        )
        link.own.add(mid)

    def _state(self, state: str) -> bytes:
        return json.dumps({"state": state, "boot_id": self._boot_id}).encode()

    def _move(self, link: _Link, timeout_s: float) -> None:
        """Write what is queued, wait for news, read it. Raises TransportError where the connection is gone."""
        client = link.client
        try:
            if client.want_write():
                client.loop_write()
            sock: Any = client.socket()
            if sock is not None and not link.gone:
                if _wait(sock, self._wake_pair, writing=client.want_write(), timeout_s=timeout_s):
                    client.loop_read()
                if client.want_write():
                    client.loop_write()
                client.loop_misc()
        except Exception as error:  # a hostile or broken peer: paho lets struct, index and other errors out
            link.gone = True
            raise TransportError(f"lost: {type(error).__name__}: {error}") from error
        if link.gone or client.socket() is None:
            link.gone = True
            if link.farewell is not None:
                raise TransportError(f"the broker disconnected us: {link.farewell}")
            raise TransportError("connection lost")


def _refusal(answer: ReasonCode) -> TransportError:
    if answer.value == _UNSUPPORTED_PROTOCOL:
        return _OlderProtocolError("the broker knows neither MQTT 5 nor 3.1.1", certain=True)
    text, next_step, lasting = _REFUSALS.get(answer.value, (str(answer), "", False))
    return TransportRefusedError(
        f"the broker refused us: {text} (CONNACK {answer.value})", next_step=next_step, lasting=lasting
    )


def _properties(packet: str, **values: int) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _wait(
    sock: Any, wake_pair: tuple[socket.socket, socket.socket] | None, *, writing: bool, timeout_s: float
) -> bool:
    """Wait for the socket or a wake-up; True where there may be something to read."""
    if (
        hasattr(sock, "pending") and sock.pending()
    ):  # decrypted already, so that the kernel has nothing to tell
        return True
    poller = select.poll()  # select.select ends at file descriptor 1023
    poller.register(sock, select.POLLIN | (select.POLLOUT if writing else 0))
    if wake_pair is not None:
        poller.register(wake_pair[0], select.POLLIN)
    ready = dict(poller.poll(max(0.0, timeout_s) * 1e3))
    if wake_pair is not None and wake_pair[0].fileno() in ready:
        with contextlib.suppress(BlockingIOError):
            wake_pair[0].recv(4096)
    return bool(ready.get(sock.fileno(), 0) & ~select.POLLOUT)


def _set_options(client: Client, data: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _ignore(client: Client, data: Any, sock: Any) -> None:
    pass
