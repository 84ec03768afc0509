"""A subscriber that comes back when the broker does. It is no device: no will, no session, no id of a device."""

from __future__ import annotations

import os
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from edgeai.sinks.delivery.drain import Backoff
from edgeai.sinks.mqtt.client import new_client
from edgeai.sinks.mqtt.refusals import OlderProtocolError, refusal
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.transport import TransportError, TransportRefusedError
from edgeai.sinks.watch.messages import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from paho.mqtt.client import Client

LOOP_S: Final = 0.2


class WatchClient:
    """Subscribes to `topics` at the broker of `settings`, whose client_id is not used: two clients with one id throw
    each other out. MQTT 5, or 3.1.1 where the broker knows no other.

    on_link: told when the connection is lost, with the reason, and with "" when it is back.
    """

    def __init__(
        self, settings: MqttSettings, topics: Sequence[str], *, on_link: Callable[[str], None]
    ) -> None:
        self.name = f"{'mqtt' if settings.tls is None else 'mqtts'}://{settings.host}:{settings.port}"
        self._settings = settings
        self._topics = topics
        self._on_link = on_link
        self._newer = True
        self._client: Client | None = None
        self._news: deque[Inbound] = deque()
        self._refused = ""
        self._answer: Any = None
        self._granted = False

    def messages(self) -> Iterator[Inbound | None]:
        """Messages as they come, None when there were none for 0.2 s; without end.

        Raises TransportError where the first connecting fails, TransportRefusedError where the broker refuses us or the
        topics for good at any time.
        """
        backoff = Backoff()
        self._connect()
        while True:
            if self._client is None:
                wait_s = backoff.next_s()
                until_s = time.monotonic() + wait_s
                while (left_s := until_s - time.monotonic()) > 0:
                    yield None
                    time.sleep(min(left_s, LOOP_S))
                try:
                    self._connect()
                except TransportError as error:
                    if _is_final(error):
                        raise
                    continue
                self._on_link("")
                backoff.reset()
            try:
                self._move()
            except TransportError as error:
                if _is_final(error):
                    raise
                self.close()
                self._on_link(str(error))
            if not self._news:
                yield None
            while self._news:
                yield self._news.popleft()

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.on_disconnect = None
            client.disconnect()
            sock: Any = client.socket()
            if sock is not None:
                sock.close()

    def _connect(self) -> None:
        """Connected and subscribed at its end."""
        try:
            self._try()
        except OlderProtocolError:
            if not self._newer:
                raise
            self._newer = False
            try:
                self._try()
            except BaseException:
                self._newer = True  # it may only have been on its way out
                raise

    def _try(self) -> None:
        settings = self._settings
        self._answer, self._granted, self._refused = None, False, ""
        self.close()
        self._client = client = self._new_client()
        try:
            client.connect(settings.host, settings.port, settings.keepalive_s, **self._connect_options())
            deadline_s = time.monotonic() + settings.connect_timeout_s
            while not self._granted:
                self._move()
                if time.monotonic() > deadline_s:
                    if self._answer is None:
                        raise OlderProtocolError("no answer to CONNECT")
                    raise TransportError("no answer to SUBSCRIBE")
        except ssl.SSLError as error:
            self.close()
            reason = getattr(error, "verify_message", "") or error.reason or error
            raise TransportError(
                f"{self.name}: TLS failed: {reason}", next_step="check the TLS files"
            ) from error
        except (OSError, ValueError) as error:
            self.close()
            if isinstance(error, TransportError):
                raise
            said = getattr(error, "strerror", None) or error
            raise TransportError(f"{self.name}: cannot connect: {said}") from error
        except TransportError:
            self.close()
            raise

    def _move(self) -> None:
        """One turn of paho's loop. Raises TransportError where the connection is gone or refused."""
        client = self._client
        if client is None:
            raise TransportError("not connected")
        try:
            code = client.loop(LOOP_S)
        except Exception as error:  # a hostile or broken peer: paho lets struct, index and other errors out
            raise TransportError(f"{self.name}: connection lost: {type(error).__name__}: {error}") from error
        if self._refused:
            raise TransportRefusedError(self._refused)
        answer = self._answer
        if answer is not None and answer.is_failure:
            raise refusal(answer)
        if code != 0:
            if answer is None:
                raise OlderProtocolError(
                    f"{self.name}: the broker closed the connection without an answer",
                    next_step="" if self._settings.tls else "if it expects TLS, give --tls",
                )
            raise TransportError(f"{self.name}: connection lost")

    def _connect_options(self) -> dict[str, Any]:
        if not self._newer:
            return {}
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAX_MESSAGE_BYTES  # the broker then drops what is larger
        return {"clean_start": True, "properties": properties}

    def _new_client(self) -> Client:
        client = new_client(
            self._settings,
            client_id=f"edgeai-watch-{os.urandom(6).hex()}",
            newer=self._newer,
            will=None,
            clean=True,
        )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._answer = reason
        if not reason.is_failure:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, client: Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if reasons and all(reason.is_failure for reason in reasons):
            self._refused = f"{self.name}: the broker refused the subscription: {reasons[0]}"
        self._granted = True

    def _on_message(self, client: Client, data: Any, message: Any) -> None:
        # only kept here: what a reader of ours raises must not look like a fault of the connection
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = repr(message._topic)[:200]
        if len(message.payload) <= MAX_MESSAGE_BYTES:
            self._news.append(Inbound(topic, message.payload, retained=bool(message.retain)))


def _is_final(error: TransportError) -> bool:
    """Whether only a person can help."""
    return isinstance(error, TransportRefusedError) and error.lasting
