"""The session of the native topic tree: online by birth, offline by farewell and by the last will."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from edgeai.sinks.mqtt.session import Announcement, Session, Subscription
from edgeai.sinks.topics import TopicTree


class NativeSession(Session):
    """Retained at QoS 1 on <root>/state: {"state": "online", "boot_id": ...} after each connecting, "offline" at the
    orderly end or by the last will. A message in flight can overtake a will, hence the boot id in both.

    boot_id: one for each start of the runtime. greetings: asked at each connecting for what follows the birth.
    """

    def __init__(
        self,
        topics: TopicTree,
        boot_id: str,
        *,
        subscriptions: Sequence[Subscription] = (),
        greetings: Callable[[], Sequence[Announcement]] | None = None,
    ) -> None:
        self.subscriptions = tuple(subscriptions)
        self._topic = topics.state
        self._boot_id = boot_id
        self._greetings = greetings

    def will(self) -> Announcement:
        return self._state("offline")

    def birth(self) -> Sequence[Announcement]:
        return (self._state("online"), *(self._greetings() if self._greetings else ()))

    def farewell(self) -> Sequence[Announcement]:
        return (self._state("offline"),)

    def _state(self, state: str) -> Announcement:
        payload = json.dumps({"state": state, "boot_id": self._boot_id}).encode()
        return Announcement(self._topic, payload, qos=1, retain=True)
