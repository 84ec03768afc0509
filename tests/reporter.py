"""A device for tests: a sink over MQTT with the native session, and what its subscriptions heard."""

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeai.sinks import MqttSettings, Outbox, StoreAndForward
from edgeai.sinks.mqtt.native_session import NativeSession
from edgeai.sinks.mqtt.session import Announcement, Inbound, Session, Subscription
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.payload import Envelope, compose_native, new_boot_id
from edgeai.sinks.topics import TopicTree


class Reporter:
    """heard: all that arrived on `filters`. answer: what a handler does with a message beside keeping it."""

    def __init__(
        self,
        settings: MqttSettings,
        folder: Path,
        *,
        device: str = "cam-001",
        filters: Sequence[str] = ("cmd/+",),
        answer: Callable[[Inbound], Sequence[Announcement]] | None = None,
        greetings: Callable[[], Sequence[Announcement]] | None = None,
        session: Callable[["Reporter"], Session] | None = None,
    ) -> None:
        self.heard: list[Inbound] = []
        self.topics = TopicTree(settings.tenant, settings.site, device)
        self.boot_id = new_boot_id()
        self._answer = answer
        subscriptions = [
            Subscription(
                one if one[0] in "/#$" or one.startswith("homeassistant") else f"{self.topics.root}/{one}",
                self._hear,
            )
            for one in filters
        ]
        self.session = (
            session(self)
            if session
            else NativeSession(self.topics, self.boot_id, subscriptions=subscriptions, greetings=greetings)
        )
        client_id = settings.client_id or f"edgeai-{device}"
        self.transport = MqttTransport(settings, client_id=client_id, session=self.session)
        self.sink = StoreAndForward(
            self.transport,
            Outbox(folder / f"{device}.db"),
            compose=compose_native(self.topics, Envelope(device, self.boot_id)),
        )

    def _hear(self, message: Inbound) -> Sequence[Announcement]:
        self.heard.append(message)
        return self._answer(message) if self._answer else ()

    def __enter__(self) -> "Reporter":
        self.sink.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.sink.close()
