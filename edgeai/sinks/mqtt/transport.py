"""MQTT: version 5, or 3.1.1 where the broker knows no other; QoS 1, TLS, WebSocket; paho-mqtt underneath.

Every connection has a paho client of its own. What is open lives in the outbox, so there is no state of paho's to carry
over, and none to get wrong: its queue is unlimited and in memory, its back-off doubles to 120 s.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

from edgeai.sinks.mqtt.client import new_client
from edgeai.sinks.mqtt.inbox import MAX_PACKET_BYTES, Inbox
from edgeai.sinks.mqtt.link import Link
from edgeai.sinks.mqtt.refusals import OlderProtocolError, refusal
from edgeai.sinks.mqtt.session import Announcement, Session
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.transport import NOTHING, Progress, Transport, TransportError, TransportRefusedError

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties

_log = logging.getLogger(__name__)

OLDER_PROTOCOL_S: Final = 3600.0
_GOODBYE_S: Final = 1.0
_SHORT_LIFE_S: Final = 10.0
_SHORT_LIVES: Final = 3  # in a row


class MqttTransport(Transport):
    """A broker, and what the session says to it and hears from it.

    Nothing is read or opened before `connect`, which raises what Transport.connect does: DNS, TCP, TLS, no answer, a
    refusal by its reason, and an unreadable password file. A subscription that the broker refuses is told once and in
    `inbox.refused`, and ends nothing.
    """

    def __init__(self, settings: MqttSettings, *, client_id: str, session: Session) -> None:
        self.name = _name(settings)
        self.window = settings.in_flight
        self.protocol: Literal["", "5", "3.1.1"] = ""
        """The version in use, once connected."""
        self.inbox = Inbox(self.name)
        """What was heard, counted over all connections."""
        self._settings = settings
        self._client_id = client_id
        self._session = session
        self._older_until_s = -math.inf  # on time.monotonic: MQTT 5 is not tried before
        self._ready_s = -math.inf  # on time.monotonic
        self._short_lives = 0
        self._link: Link | None = None
        self._wake_pair: tuple[socket.socket, socket.socket] | None = None

    def connect(self) -> None:
        self.abort()
        if self._wake_pair is None:
            self._wake_pair = socket.socketpair()
            for end in self._wake_pair:
                end.setblocking(False)
        try:
            self._connect_somehow()
        except TransportError:
            raise
        except Exception as error:  # a session's fault must not end the delivery of everything
            _log.exception("%s: unexpected fault while connecting", self.name)
            raise TransportError(f"unexpected {type(error).__name__}: {error}") from error
        finally:
            if self._link is not None and not self._link.ready:
                self.abort()

    def publish(self, message: Message) -> None:
        link = self._linked()
        try:
            payload = self._session.outgoing(message)
        except Exception as error:  # of this message alone: the others go on
            _log.exception("%s: message %d cannot be put into words", self.name, message.seq)
            link.refused.append((message.seq, f"{type(error).__name__}: {error}"))
            return
        expiry_s = self._settings.message_expiry_s
        link.publish(
            message.topic,
            payload,
            qos=message.qos,
            retain=message.retain,
            seq=message.seq,
            properties=_properties("PUBLISH", MessageExpiryInterval=expiry_s)
            if expiry_s is not None and self.protocol == "5"
            else None,
        )

    def poll(self, timeout_s: float) -> Progress:
        link = self._linked()
        try:
            link.move(0.0 if link.refused else timeout_s)
        except TransportError as error:
            # acknowledgements that came with the end are told first, and the end by the next poll
            if not link.acked and not link.refused:
                raise self._end(error) from error
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
        if link is not None:
            link.drop()

    def close(self) -> None:
        link = self._link
        if link is not None and link.ready:
            # whatever fails here, the last will says the same
            with contextlib.suppress(TransportError):
                link.announce(self._farewell())
                deadline_s = time.monotonic() + _GOODBYE_S
                while link.unsettled and (left_s := deadline_s - time.monotonic()) > 0:
                    link.move(left_s)
                if not link.unsettled:
                    link.client.disconnect()
                    while link.client.want_write() and time.monotonic() < deadline_s:
                        link.move(0.05)
        self.abort()
        pair, self._wake_pair = self._wake_pair, None
        if pair is not None:
            for end in pair:
                end.close()

    def _connect_somehow(self) -> None:
        will = self._session.will()
        silent = False
        if time.monotonic() >= self._older_until_s:
            try:
                self._connect("5", will, answer_s=self._settings.connect_timeout_s / 2)
                return
            except OlderProtocolError as error:
                silent = error.silent
                if error.certain:
                    self._older_until_s = math.inf
                self.abort()
        self._connect("3.1.1", will, answer_s=self._settings.connect_timeout_s)
        if silent:
            # most likely it waits for the rest of a packet that it misread (amqtt does), so that wait is spared
            # for an hour; but it may have been frozen, and only MQTT 5 tells of refused messages
            self._older_until_s = time.monotonic() + OLDER_PROTOCOL_S

    def _connect(
        self, protocol: Literal["5", "3.1.1"], will: Announcement | None, *, answer_s: float
    ) -> None:
        settings = self._settings
        subscriptions = tuple(self._session.subscriptions)
        self.inbox.listen(subscriptions)
        client = new_client(settings, client_id=self._client_id, newer=protocol == "5", will=will)
        waker = self._wake_pair[0] if self._wake_pair else None
        self._link = link = Link(
            client, waker, self.inbox, client_id=self._client_id, barrier=settings.ack_barrier
        )
        _open_socket(link, settings, newer=protocol == "5")
        self._await_answer(link, answer_s)
        # those behind the barrier are open still, but no longer in the broker's window, which the link keeps to
        self.window = min(settings.in_flight, link.window * 2 if settings.ack_barrier else link.window)
        self.protocol = protocol
        link.subscribe(subscriptions)
        self._settle(link, lambda: not link.subscribing, "answer to SUBSCRIBE")
        # the broker has the birth before anything else of ours: what comes after it may build on it
        link.announce(self._session.birth())
        self._settle(link, lambda: not link.unsettled, "acknowledgement of the birth")
        link.greet()
        self._ready_s = time.monotonic()
        _log.debug("%s: MQTT %s, window %d", self.name, protocol, self.window)

    def _await_answer(self, link: Link, answer_s: float) -> None:
        deadline_s = time.monotonic() + answer_s
        try:
            while link.answer is None and (left_s := deadline_s - time.monotonic()) > 0:
                link.move(left_s)
        except TransportError as error:
            if link.answer is None:
                raise OlderProtocolError(
                    "the broker closed the connection without an answer",
                    next_step="" if self._settings.tls else "if it expects TLS, set mqtt.tls",
                ) from error
        if link.answer is None:
            raise OlderProtocolError(f"no answer to CONNECT within {answer_s:g} s", silent=True)
        if link.answer.is_failure:
            raise refusal(link.answer)

    def _end(self, error: TransportError) -> TransportError:
        """`error`, or a guess at its cause where the same thing happens again and again: mosquitto 2.0 says nothing to a
        client whose id another one took, nor could any broker in MQTT 3.1.1.
        """
        soon = time.monotonic() - self._ready_s < _SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if soon else 0
        self._ready_s = -math.inf  # this end counts once
        if self._short_lives < _SHORT_LIVES or isinstance(error, TransportRefusedError):
            return error
        return TransportRefusedError(
            "the broker closes each connection soon after it accepted it; "
            f"another client may have our client id {self._client_id!r}, or a message of ours may displease it",
            next_step="give each client its own mqtt.client_id, and see the broker's log",
            lasting=False,
        )

    def _settle(self, link: Link, done: Callable[[], bool], what: str) -> None:
        timeout_s = self._settings.connect_timeout_s
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if (left_s := deadline_s - time.monotonic()) <= 0:
                raise TransportError(f"no {what} within {timeout_s:g} s")
            link.move(left_s)

    def _linked(self) -> Link:
        if self._link is None:
            raise TransportError("not connected")
        return self._link

    def _farewell(self) -> Sequence[Announcement]:
        try:
            return self._session.farewell()
        except Exception:
            _log.exception("%s: unexpected fault at the good-bye", self.name)
            return ()


def _name(settings: MqttSettings) -> str:
    secure = settings.tls is not None
    place = f"{settings.host}:{settings.port}"
    if settings.transport == "websockets":
        return f"{'wss' if secure else 'ws'}://{place}{settings.ws_path}"
    return f"{'mqtts' if secure else 'mqtt'}://{place}"


def _open_socket(link: Link, settings: MqttSettings, *, newer: bool) -> None:
    """DNS, TCP, TLS with its pins, WebSocket, and CONNECT queued behind them. Raises TransportError."""
    try:
        if newer:
            link.client.connect(
                settings.host,
                settings.port,
                settings.keepalive_s,
                clean_start=False,
                properties=_properties(
                    "CONNECT",
                    SessionExpiryInterval=settings.session_expiry_s,
                    MaximumPacketSize=MAX_PACKET_BYTES,
                ),
            )
        else:
            link.client.connect(settings.host, settings.port, settings.keepalive_s)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise TransportError(
            f"TLS failed: {reason}", next_step="check mqtt.tls, mqtt.host and the broker's certificate"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a host name that IDNA cannot encode
        raise TransportError(f"cannot connect: {error}") from error


def _properties(packet: str, **values: int) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties
