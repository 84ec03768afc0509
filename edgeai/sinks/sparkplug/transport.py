"""The connection of a Sparkplug edge node: it waits for the primary host, and knows what the broker has of QoS 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edgeai.sinks.mqtt.link import Link
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.sparkplug.namespace import NAMESPACE
from edgeai.sinks.sparkplug.session import SparkplugSession
from edgeai.sinks.transport import NOTHING, Progress, TransportError

FENCE: Final = f"{NAMESPACE}/edgeai/fence"
"""Nobody publishes or subscribes it: an UNSUBSCRIBE from it changes nothing, and its answer tells that the broker has
read all that was sent before (one connection is one ordered stream; MQTT 5.0, sections 4.2 and 3.10.4)."""


class SparkplugTransport(MqttTransport):
    """MqttTransport for data that Sparkplug wants at QoS 0, where delivered would mean no more than written down.

    A message at QoS 0 counts as delivered when the broker has answered a fence sent after it, so that what a broken
    connection swallowed is sent again, as history, on the next one. One fence is on its way at a time.
    When the session has ended, as its primary host went away, the connection is closed in order and `poll` raises
    TransportError.
    """

    def __init__(self, settings: MqttSettings, *, client_id: str, session: SparkplugSession) -> None:
        self._node = session
        self._quiet: list[int] = []  # published at QoS 0, and no fence after them yet
        self._fenced: list[int] = []
        self._fence: int | None = None  # its packet id
        self._past: list[int] = []  # behind an answered fence
        self._answered: Any = None
        self._written: set[int] = set()  # of all these, those of which paho has not yet said so
        super().__init__(settings, client_id=client_id, session=session)

    @property
    def ready(self) -> bool:
        """Whether the births of this connection are sent; not before the primary host is online."""
        return self._node.ready

    def connect(self) -> None:
        super().connect()
        client = self._linked().client
        self._answered = client.on_unsubscribe  # the link's own barrier, at QoS 1
        client.on_unsubscribe = self._on_unsubscribe

    def publish(self, message: Message) -> None:
        if not self._node.ready:
            raise TransportError(self._node.waiting)
        link = self._linked()
        refused = len(link.refused)
        super().publish(message)
        if min(message.qos, link.max_qos) == 0 and len(link.refused) == refused:
            self._quiet.append(message.seq)
            self._written.add(message.seq)

    def poll(self, timeout_s: float) -> Progress:
        self._end_if_told()
        if self._quiet and self._fence is None:
            result, self._fence = self._linked().client.unsubscribe(FENCE)
            if result != 0:
                raise TransportError("connection lost")
            self._fenced, self._quiet = self._quiet, []
        try:
            progress = super().poll(timeout_s)
        except TransportError:
            if not self._past:  # else what came with the end is told first, as the base does
                raise
            progress = NOTHING
        acked = (*self._past, *(seq for seq in progress.acked if seq not in self._written))
        self._written.difference_update(progress.acked)
        self._past.clear()
        if acked or progress.refused:
            return Progress(acked, progress.refused)
        self._end_if_told()
        return NOTHING

    def abort(self) -> None:
        super().abort()
        self._fence = None
        for seqs in (self._quiet, self._fenced, self._past):
            seqs.clear()
        self._written.clear()

    def _end_if_told(self) -> None:
        if self._node.ended:
            self.close()
            raise TransportError(self._node.ended)

    def _settle(self, link: Link, done: Callable[[], bool], what: str) -> None:
        link.move(0.0)  # births at QoS 0 are settled when they are written: no answer will come to wait for
        super()._settle(link, done, what)

    def _on_unsubscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        if mid != self._fence:
            if self._answered is not None:
                self._answered(client, data, mid, reasons, properties)
        else:
            self._fence = None
            self._past += self._fenced
            self._fenced = []
