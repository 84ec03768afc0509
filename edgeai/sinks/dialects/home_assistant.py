"""Home Assistant's device discovery: one retained message says all that a device has, and takes back what it had.

The state folder keeps which components were announced where, so that those that the configuration drops are removed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgeai.errors import EdgeError
from edgeai.sinks.dialects.home_assistant_entities import PLATFORMS, components
from edgeai.sinks.dialects.settings import HomeAssistantSettings
from edgeai.sinks.dialects.words import plain_id
from edgeai.sinks.inventory import DeviceFacts
from edgeai.sinks.mqtt.session import Announcement, Inbound, Subscription
from edgeai.sinks.topics import TopicTree
from edgeai.types import JsonValue
from edgeai.whole_file import write_whole

_log = logging.getLogger(__name__)

STATE_FILE: Final = "home_assistant.json"
_MAX_STATE_BYTES: Final = 4 << 20
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")
_TOPIC: Final = re.compile(r"[^+#\x00]{1,600}/device/[A-Za-z0-9_-]{1,80}/config")


class HomeAssistant:
    """`announcements` at each birth of the native connection, and `subscription` on it.

    A component that an earlier run announced and this configuration no longer has is announced as {"p": platform} alone,
    which removes it, for as long as this run lasts; the next run leaves it out. commands: those that the device's
    allow-list has; each gets its buttons.
    """

    def __init__(
        self,
        settings: HomeAssistantSettings,
        facts: DeviceFacts,
        topics: TopicTree,
        state_dir: Path,
        *,
        commands: Collection[str] = frozenset(),
    ) -> None:
        device_id = plain_id(settings.device_id or facts.device)
        self._status = f"{settings.discovery_prefix}/status"
        self._topic = f"{settings.discovery_prefix}/device/{device_id}/config"
        self._file = state_dir / STATE_FILE
        self._topics = topics
        self._device_id = device_id
        self._commands = commands
        self._components = components(facts, topics, device_id=device_id, commands=commands)
        device: dict[str, JsonValue] = {"ids": [device_id], "name": facts.device, "mf": "EdgeAI"}
        origin: dict[str, JsonValue] = {"name": "edgeai"}
        if facts.board:
            device["mdl"] = facts.board
        if facts.version:
            device["sw"] = origin["sw"] = facts.version
        self._head: dict[str, JsonValue] = {
            "dev": device,
            "o": origin,
            "availability": [{"topic": topics.state, "value_template": "{{ value_json.state }}"}],
            "qos": 1,
        }
        self._told: tuple[Announcement, ...] = ()

    def follow(self, facts: DeviceFacts) -> Sequence[Announcement]:
        """The device's streams or rules have changed: what is to be announced now, and at later births."""
        self._components = components(facts, self._topics, device_id=self._device_id, commands=self._commands)
        self._told = ()
        return self.announcements()

    def announcements(self) -> Sequence[Announcement]:
        """The discovery message, retained, QoS 1; before it, where prefix or id changed, what empties the old topic."""
        if not self._told:
            self._told = self._compose()
        return self._told

    def subscription(self) -> Subscription:
        """Home Assistant's own birth: it gets everything anew."""
        return Subscription(self._status, self._take)

    def _take(self, inbound: Inbound) -> Sequence[Announcement]:
        return self.announcements() if inbound.payload == b"online" else ()

    def _compose(self) -> tuple[Announcement, ...]:
        before = _load(self._file)
        same = before.topic == self._topic and not before.withdrawn
        dropped = {name: kind for name, kind in before.components.items() if name not in self._components}
        cmps: dict[str, JsonValue] = {**self._components}
        if same:
            cmps |= {name: {"p": kind} for name, kind in dropped.items()}
        payload = json.dumps(
            {**self._head, "cmps": cmps}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        _save(
            self._file,
            _Announced(self._topic, {name: str(one["p"]) for name, one in self._components.items()}),
        )
        told = Announcement(self._topic, payload.encode())
        if before.topic and before.topic != self._topic:
            return (Announcement(before.topic, b""), told)
        return (told,)


def withdraw_home_assistant(state_dir: Path) -> Sequence[Announcement]:
    """To be sent at births while [mqtt.home_assistant] is switched off: what removes the device that an earlier run
    announced, at two births, and then nothing for ever. Does not raise.
    """
    file = state_dir / STATE_FILE
    before = _load(file)
    if not before.topic:
        return ()
    if before.withdrawn:  # a second time, because the first connection may have been lost under it
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s cannot be removed: %s", file, error.strerror or error)
    else:
        _save(file, _Announced(before.topic, before.components, withdrawn=True))
    return (Announcement(before.topic, b""),)


@dataclass(frozen=True)
class _Announced:
    """What the state file holds. components: id -> platform."""

    topic: str = ""
    components: dict[str, str] = field(default_factory=dict)
    withdrawn: bool = False


def _load(file: Path) -> _Announced:
    """A file that is absent or broken is like none: then nothing is removed, and nothing is lost."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_STATE_BYTES + 1)
        if len(raw) > _MAX_STATE_BYTES:
            return _Announced()
        value = json.loads(raw)
    except (OSError, ValueError, RecursionError):
        return _Announced()
    if not isinstance(value, dict) or value.get("schema") != 1:
        return _Announced()
    topic, known = value.get("topic"), value.get("components")
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic) or not isinstance(known, dict):
        return _Announced()
    kept = {
        name: kind
        for name, kind in known.items()
        if _PLAIN.fullmatch(name) and isinstance(kind, str) and kind in PLATFORMS
    }
    return _Announced(topic, kept, value.get("withdrawn") is True)


def _save(file: Path, announced: _Announced) -> None:
    try:
        write_whole(
            file,
            json.dumps(
                {
                    "schema": 1,
                    "topic": announced.topic,
                    "components": announced.components,
                    "withdrawn": announced.withdrawn,
                }
            ),
        )
    except EdgeError as error:  # reporting goes on; at worst a component that is dropped later stays shown
        _log.warning("what Home Assistant was told is not kept: %s", error)
