"""MQTT: version 5, or 3.1.1 where the broker knows no other; QoS 1, birth and last will, TLS; paho-mqtt underneath.

Every connection has a paho client of its own. What is open lives in the outbox, so there is no state of paho's to carry
over, and none to get wrong: its queue is unlimited and in memory, its back-off doubles to 120 s.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final, Literal

from edgeai.sinks.credentials import read_password, tls_context
from edgeai.sinks.message import Message
from edgeai.sinks.mqtt_link import Link
from edgeai.sinks.settings import MqttSettings
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import NOTHING, Progress, Transport, TransportError, TransportRefusedError

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_log = logging.getLogger(__name__)

OLDER_PROTOCOL_S: Final = 3600.0
_GOODBYE_S: Final = 1.0
_AROUND_BYTES: Final = 16  # fixed header, packet id and message expiry around topic and payload, at most

_UNSUPPORTED_PROTOCOL: Final = 132
_CREDENTIALS: Final = "check mqtt.username and mqtt.password_file, and the broker's password file and ACL"
_REFUSALS: Final[dict[int, tuple[str, str, bool]]] = {
    # CONNACK reason codes of MQTT 5.0, section 3.2.2.2; paho gives those of 3.1.1 the same numbers.
    # What it is, what to do, and whether only a person can help.
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
    """The broker may know MQTT 3.1.1 only. certain: it said so; silent: it said nothing, on an open connection."""

    def __init__(
        self, message: str, *, next_step: str = "", certain: bool = False, silent: bool = False
    ) -> None:
        self.certain = certain
        self.silent = silent
        super().__init__(message, next_step=next_step)


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
        self.protocol: Literal["", "5", "3.1.1"] = ""
        """The version in use, once connected."""
        self._settings = settings
        self._topics = topics
        self._boot_id = boot_id
        self._client_id = settings.client_id or f"edgeai-{topics.tenant}-{topics.site}-{topics.device}"
        self._older_until_s = -math.inf  # on time.monotonic: MQTT 5 is not tried before
        self._link: Link | None = None
        self._wake_pair: tuple[socket.socket, socket.socket] | None = None

    def connect(self) -> None:
        self.abort()
        if self._wake_pair is None:
            self._wake_pair = socket.socketpair()
            for end in self._wake_pair:
                end.setblocking(False)
        silent = False
        try:
            if time.monotonic() >= self._older_until_s:
                try:
                    self._connect("5", answer_s=self._settings.connect_timeout_s / 2)
                    return
                except _OlderProtocolError as error:
                    silent = error.silent
                    if error.certain:
                        self._older_until_s = math.inf
                    self.abort()
            self._connect("3.1.1", answer_s=self._settings.connect_timeout_s)
            if silent:
                # most likely it waits for the rest of a packet that it misread (amqtt does), so that wait is spared
                # for an hour; but it may have been frozen, and only MQTT 5 tells of refused messages
                self._older_until_s = time.monotonic() + OLDER_PROTOCOL_S
        finally:
            if self._link is not None and not self._link.ready:
                self.abort()

    def publish(self, message: Message) -> None:
        link = self._linked()
        if len(message.payload) + len(message.topic.encode()) + _AROUND_BYTES > link.max_packet_bytes:
            link.refused.append(
                (message.seq, f"larger than the broker takes ({link.max_packet_bytes} bytes)")
            )
            return
        expiry_s = self._settings.message_expiry_s
        link.publish(
            message.topic,
            message.payload,
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
        except TransportError:
            # acknowledgements that came with the end are told first, and the end by the next poll
            if not link.acked and not link.refused:
                raise
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
                self._say(link, "offline")
                deadline_s = time.monotonic() + _GOODBYE_S
                while link.own and (left_s := deadline_s - time.monotonic()) > 0:
                    link.move(left_s)
                if not link.own:
                    link.client.disconnect()
                    while link.client.want_write() and time.monotonic() < deadline_s:
                        link.move(0.05)
        self.abort()
        pair, self._wake_pair = self._wake_pair, None
        if pair is not None:
            for end in pair:
                end.close()

    def _connect(self, protocol: Literal["5", "3.1.1"], *, answer_s: float) -> None:
        settings = self._settings
        self._link = link = Link(self._new_client(protocol), self._wake_pair[0] if self._wake_pair else None)
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
            reason = getattr(error, "verify_message", "") or error.reason or error
            raise TransportError(
                f"TLS failed: {reason}", next_step="check mqtt.tls, mqtt.host and the broker's certificate"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a host name that IDNA cannot encode
            raise TransportError(f"cannot connect: {error}") from error
        deadline_s = time.monotonic() + answer_s
        try:
            while link.answer is None and (left_s := deadline_s - time.monotonic()) > 0:
                link.move(left_s)
        except TransportError as error:
            if link.answer is None:
                raise _OlderProtocolError(
                    "the broker closed the connection without an answer",
                    next_step="" if settings.tls else "if it expects TLS, set mqtt.tls",
                ) from error
        if link.answer is None:
            raise _OlderProtocolError(f"no answer to CONNECT within {answer_s:g} s", silent=True)
        if link.answer.is_failure:
            raise _refusal(link.answer)
        self.window = min(settings.in_flight, link.window)
        self.protocol = protocol
        self._say(link, "online")
        # the broker has the birth before anything else is open: it may allow no more than one
        deadline_s = time.monotonic() + settings.connect_timeout_s
        while link.own:
            if (left_s := deadline_s - time.monotonic()) <= 0:
                raise TransportError(
                    f"no acknowledgement of the birth within {settings.connect_timeout_s:g} s"
                )
            link.move(left_s)
        link.ready = True
        _log.debug("%s: MQTT %s, window %d", self.name, protocol, self.window)

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

    def _linked(self) -> Link:
        if self._link is None:
            raise TransportError("not connected")
        return self._link

    def _say(self, link: Link, state: str) -> None:
        link.publish(self._topics.state, self._state(state), qos=1, retain=True)

    def _state(self, state: str) -> bytes:
        return json.dumps({"state": state, "boot_id": self._boot_id}).encode()


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
