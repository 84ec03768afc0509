"""From events to messages for Sparkplug: which metrics they move, and the JSON that waits in the outbox.

Protobuf is not stored: sequence number, aliases and whether a value is history are known at sending only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final, TypeAlias

from edgeai.sinks.inventory import DeviceFacts
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.sparkplug.catalogue import (
    FPS,
    HEALTH,
    KEYWORD,
    KEYWORD_COUNT,
    KEYWORD_SCORE,
    STATE,
    Catalogue,
    rule_metric,
)
from edgeai.sinks.sparkplug.namespace import SparkplugTopics
from edgeai.sinks.sparkplug.settings import SparkplugSettings
from edgeai.sinks.sparkplug.values import Changes, Values
from edgeai.types import DEVICE_STREAM, Event, JsonValue, new_event_id

_log = logging.getLogger(__name__)

Told: TypeAlias = "dict[str, JsonValue]"

_MAX_STRANGERS: Final = 1000
_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    # event: {field of its data: last part of the metric's name}
    "zone_entered": {"count": "entered", "occupancy": "occupancy"},
    "zone_left": {"count": "left", "occupancy": "occupancy"},
    "zone_occupancy": {"occupancy": "occupancy"},
    "track_started": {"count": "started"},
    "track_ended": {"count": "ended"},
}


class SparkplugComposer:
    """Called with an event, gives its message, or none where no metric changed. Thread-safe.

    What it keeps is the last value of each metric: a value that was handed over is not handed over again, so what the
    outbox cannot take is told with the next change or the next birth.
    Raises SparkplugError, TopicError for facts that Sparkplug cannot carry.
    """

    def __init__(self, settings: SparkplugSettings, facts: DeviceFacts) -> None:
        self.settings = settings
        self.topics = SparkplugTopics(settings.group_id, settings.edge_node_id or facts.device)
        self.values = Values(Catalogue(facts, by_class=settings.by_class))
        self.run_id = new_event_id()
        """Tells this composer's messages from those that an earlier process left in the outbox."""
        for device in self.values.catalogue.devices:
            self.topics.birth(device)
        self._strangers: set[str] = set()

    def __call__(self, event: Event) -> list[Draft]:
        drafts = []
        for device, told in self._told(event):
            if device and device not in self.values.catalogue.devices:
                self._warn_of(device)
                continue
            changes = self.values.update(
                device, told, wall_s=event.wall_time_s, monotonic_s=event.monotonic_s
            )
            if changes is not None:
                drafts.append(
                    Draft(
                        self.topics.data(device),
                        self._body(device, changes),
                        qos=self.settings.qos,
                        retain=False,
                        priority=event.priority,
                        stream=event.stream,
                    )
                )
        return drafts

    def _told(self, event: Event) -> list[tuple[str, Told]]:
        """The values in an event, by device."""
        if event.stream == DEVICE_STREAM:
            return _health(event.data) if event.type == "health" else []
        told = self._told_of_stream(event)
        return [(event.stream, told)] if told else []

    def _told_of_stream(self, event: Event) -> Told:
        data = event.data
        if event.type == "totals":
            return _totals(data)
        if event.type == "keyword":
            return {
                KEYWORD: data.get("keyword"),
                KEYWORD_SCORE: data.get("score"),
                KEYWORD_COUNT: self.values.count(event.stream, KEYWORD_COUNT),
            }
        rule = data.get("rule")
        if not isinstance(rule, str):
            return {}
        if event.type == "line_crossed":
            totals = data.get("totals")
            return _numbers((rule,), totals) if isinstance(totals, dict) else {}
        fields = _FIELDS.get(event.type, {})
        return {rule_metric(rule, name): data[field] for field, name in fields.items() if field in data}

    def _warn_of(self, device: str) -> None:
        if device not in self._strangers and len(self._strangers) < _MAX_STRANGERS:
            self._strangers.add(device)
            _log.warning("Sparkplug: stream %r is not among the device's facts and is not reported", device)

    def _body(self, device: str, changes: Changes) -> bytes:
        return json.dumps(
            {
                "run": self.run_id,
                "change": changes.number,
                "device": device,
                "metrics": [
                    {
                        "name": known.facts.name,
                        "type": known.facts.type,
                        "value": known.value,
                        "timestamp_ms": known.timestamp_ms,
                    }
                    for known in changes.metrics
                ],
            },
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        ).encode()


def _health(data: Mapping[str, JsonValue]) -> list[tuple[str, Told]]:
    node: Told = {}
    for one in HEALTH:
        value: JsonValue = dict(data)
        for key in one.path:
            if not isinstance(value, dict) or key not in value:
                break
            value = value[key]
        else:
            if isinstance(value, dict):  # dropped messages by class
                value = sum(part for part in value.values() if isinstance(part, int))
            node[one.name] = value
    told = [("", node)]
    streams = data.get("streams")
    for name, facts in streams.items() if isinstance(streams, dict) else ():
        if isinstance(facts, dict) and "state" in facts:
            told.append((name, {STATE: facts["state"]}))
    return told


def _totals(data: Mapping[str, JsonValue]) -> Told:
    told: Told = {FPS: data["fps"]} if "fps" in data else {}
    rules = data.get("rules")
    for rule, totals in rules.items() if isinstance(rules, dict) else ():
        if isinstance(totals, dict):
            told |= _numbers((rule,), totals)
    return told


def _numbers(path: tuple[str, ...], totals: dict[str, JsonValue]) -> Told:
    """The numbers in a rule's totals by the names of their metrics; those by class lie up to two deeper."""
    told: Told = {}
    for name, value in totals.items():
        if isinstance(value, dict):
            if len(path) < 3:
                told |= _numbers((*path, name), value)
        elif isinstance(value, int):
            told[rule_metric(*path, name)] = value
    return told
