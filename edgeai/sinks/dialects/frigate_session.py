"""The connection that speaks Frigate: available, the switches' states, and the commands that users know."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from edgeai.errors import EdgeError
from edgeai.sinks.dialects.settings import FrigateSettings
from edgeai.sinks.inventory import DeviceFacts
from edgeai.sinks.mqtt.session import Announcement, Inbound, Session, Subscription
from edgeai.types import JsonValue

_log = logging.getLogger(__name__)

CommandHandler: TypeAlias = Callable[[str, dict[str, JsonValue]], None]
"""Takes a command's name and arguments and returns at once; raises EdgeError where it will not do it."""

# The switches of a camera that Frigate's users know and that stand still here: nothing is recorded, no clip or snapshot is
# kept on the device, and its microphones are streams of their own. "motion" is what tracks say, and cannot be switched off.
_FIXED: Final[dict[str, str]] = {
    "recordings": "OFF",
    "snapshots": "OFF",
    "audio": "OFF",
    "motion": "ON",
    "improve_contrast": "OFF",
}
_VALUES: Final = {b"ON": "ON", b"OFF": "OFF"}
_COMMANDS: Final = {"ON": "enable", "OFF": "disable"}


class FrigateSession(Session):
    """`<prefix>/available`: online at birth, stopped at an orderly end, offline by the last will, all retained.

    `<camera>/detect/set` ON or OFF becomes the command "enable" or "disable" with {"camera": camera}, and detect/state
    follows when the handler has taken it. The other switches answer with the state that they have and keep. Retained
    commands are let lie: they would switch a camera again at every connecting.

    handler: None where no command is to be heard. detecting: asked at each birth whether a camera is switched on
    (FrigateComposer.detecting); where absent, what commands over this connection made of it.
    """

    def __init__(
        self,
        settings: FrigateSettings,
        facts: DeviceFacts,
        handler: CommandHandler | None = None,
        *,
        detecting: Callable[[str], bool] | None = None,
    ) -> None:
        self._prefix = settings.prefix
        self._handler = handler
        self._asked = detecting
        self._detecting = {each.name: True for each in facts.streams if each.kind == "camera"}
        if handler is not None:
            self.subscriptions = (Subscription(f"{settings.prefix}/+/+/set", self._take),)

    def will(self) -> Announcement:
        return self._available("offline")

    def birth(self) -> Sequence[Announcement]:
        if self._asked is not None:
            self._detecting = {camera: self._asked(camera) for camera in self._detecting}
        states = [self._state(camera, name) for camera in self._detecting for name in ("detect", *_FIXED)]
        return [self._available("online"), *states]

    def farewell(self) -> Sequence[Announcement]:
        return [self._available("stopped")]

    def _take(self, inbound: Inbound) -> Sequence[Announcement]:
        levels = inbound.topic.removeprefix(f"{self._prefix}/").split("/")
        value = _VALUES.get(inbound.payload)
        if inbound.retained or self._handler is None or value is None or len(levels) != 3:
            return []
        camera, name, _ = levels
        if camera not in self._detecting or (name != "detect" and name not in _FIXED):
            return []
        if name == "detect":
            try:
                self._handler(_COMMANDS[value], {"camera": camera})
                self._detecting[camera] = value == "ON"
            except EdgeError as error:
                _log.warning("%s/%s/detect/set %s is refused: %s", self._prefix, camera, value, error)
        return [self._state(camera, name)]

    def _state(self, camera: str, name: str) -> Announcement:
        value = _FIXED.get(name) or ("ON" if self._detecting[camera] else "OFF")
        return Announcement(f"{self._prefix}/{camera}/{name}/state", value.encode())

    def _available(self, state: str) -> Announcement:
        return Announcement(f"{self._prefix}/available", state.encode())
