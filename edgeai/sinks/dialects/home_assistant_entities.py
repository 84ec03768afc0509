"""What Home Assistant shall show of a device: its components, with templates that read our envelopes.

A sensor or binary sensor keeps its value where its template gives nothing; an event entity lets "{}" pass unseen
(Home Assistant's documentation of the platforms, and its mqtt/event.py). So one topic can carry several kinds of events,
and each entity takes its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from edgeai.sinks.dialects.words import jinja_text, plain_id
from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.topics import TopicTree
from edgeai.types import JsonValue

Components = dict[str, dict[str, JsonValue]]

PLATFORMS: Final = frozenset({"sensor", "binary_sensor", "image", "event", "button"})

# labels of keyword models that never fire, whatever their bundle says
_SILENT: Final = frozenset({"silence", "unknown"})


class _Adder(Protocol):
    def __call__(self, platform: str, *parts: str, **options: JsonValue) -> None: ...


class _Reading(NamedTuple):
    """A number in `data` of a health event. path: keys joined by dots."""

    path: str
    name: str
    unit: str | None = None
    device_class: str | None = None


_READINGS: Final[dict[str, _Reading]] = {
    "cpu": _Reading("cpu_percent", "CPU", "%"),
    "memory": _Reading("memory.rss_mb", "Memory", "MB", "data_size"),
    "memory_free": _Reading("memory.free_mb", "Memory free", "MB", "data_size"),
    "disk_free": _Reading("disk.free_mb", "Disk free", "MB", "data_size"),
    "temperature": _Reading("temperature_c", "Temperature", "°C", "temperature"),
    "outbox": _Reading("outbox.pending", "Outbox depth"),
    "outbox_age": _Reading("outbox.oldest_s", "Outbox age", "s", "duration"),
    "uptime": _Reading("uptime_s", "Uptime", "s", "duration"),
}

# event type -> what Home Assistant calls it, for rules whose events have no direction
_TYPES_OF_RULE: Final[dict[str, dict[str, str]]] = {
    "zone": {"zone_entered": "entered", "zone_left": "left"},
    "track": {"track_started": "started", "track_ended": "ended"},
}

# command -> name of its button
_CAMERA_BUTTONS: Final = {
    "snapshot": "snapshot",
    "enable": "enable",
    "disable": "disable",
    "retry": "reconnect",
}
_DEVICE_BUTTONS: Final = {"reload": "Reload", "restart": "Restart"}
_COMMAND_TTL_S: Final = 60


def components(
    facts: DeviceFacts, topics: TopicTree, *, device_id: str, commands: Collection[str] = ()
) -> Components:
    """Every component by its id, which stays the same while the names of stream, rule and direction do."""
    made: Components = {}

    def add(platform: str, *parts: str, **options: JsonValue) -> None:
        component = "__".join(plain_id(part) for part in parts)
        made[component] = {"p": platform, "unique_id": f"{device_id}__{component}", **options}

    _add_device(add, topics, commands)
    for stream in facts.streams:
        add(
            "sensor",
            "state",
            stream.name,
            name=f"{stream.name} state",
            state_topic=topics.health,
            value_template=f"{{{{ value_json.data.streams.get({jinja_text(stream.name)}, {{}}).get('state') }}}}",
            entity_category="diagnostic",
        )
        if stream.kind == "camera":
            _add_camera(add, topics, stream, commands)
        else:
            _add_microphone(add, topics, stream)
    return made


def _add_device(add: _Adder, topics: TopicTree, commands: Collection[str]) -> None:
    add(
        "binary_sensor",
        "connectivity",
        name="Connectivity",
        device_class="connectivity",
        entity_category="diagnostic",
        state_topic=topics.state,
        value_template="{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
        # always available: it says "off" where all others become unavailable
        availability=[{"topic": topics.state, "value_template": "{{ 'online' }}"}],
    )
    for key, reading in _READINGS.items():
        options: dict[str, JsonValue] = {
            "name": reading.name,
            "state_topic": topics.health,
            "value_template": f"{{{{ value_json.data.{reading.path} }}}}",
            "state_class": "measurement",
            "entity_category": "diagnostic",
        }
        if reading.unit:
            options["unit_of_measurement"] = reading.unit
        if reading.device_class:
            options["device_class"] = reading.device_class
        add("sensor", key, **options)
    for command, name in _DEVICE_BUTTONS.items():
        if command in commands:
            add("button", "do", command, name=name, **_press(topics, command))


def _add_camera(add: _Adder, topics: TopicTree, stream: StreamFacts, commands: Collection[str]) -> None:
    telemetry, events = topics.telemetry(stream.name), topics.event(stream.name)
    measured: dict[str, JsonValue] = {"state_topic": telemetry, "state_class": "measurement"}
    counted: dict[str, JsonValue] = {"state_topic": telemetry, "state_class": "total_increasing"}
    add(
        "sensor",
        "fps",
        stream.name,
        name=f"{stream.name} frame rate",
        unit_of_measurement="fps",
        suggested_display_precision=1,
        entity_category="diagnostic",
        value_template=_of_totals("value_json.data.fps"),
        **measured,
    )
    add(
        "image",
        "image",
        stream.name,
        name=f"{stream.name} picture",
        image_topic=topics.image(stream.name),
        content_type="image/jpeg",
    )
    for rule in stream.rules:
        title, path = f"{stream.name} {rule.name}", (stream.name, rule.name)
        if rule.kind == "line":
            for way in rule.directions:
                value = _of_totals(_total(rule, way))
                add("sensor", "count", *path, way, name=f"{title} {way}", value_template=value, **counted)
        elif rule.kind == "zone":
            value = f"{{% set n = {_occupancy(rule)} %}}{{% if n is number %}}"
            now = value + "{{ n }}{% endif %}"
            add("sensor", "occupancy", *path, name=f"{title} objects", value_template=now, **measured)
            add(
                "binary_sensor",
                "occupied",
                *path,
                name=f"{title} occupied",
                device_class="occupancy",
                state_topic=telemetry,
                value_template=value + "{{ 'ON' if n > 0 else 'OFF' }}{% endif %}",
            )
        elif rule.kind == "track":
            value = _of_totals(_total(rule, "now"))
            add("sensor", "now", *path, name=f"{title} now", value_template=value, **measured)
            value = _of_totals(_total(rule, "started"))
            add("sensor", "count", *path, "started", name=f"{title} total", value_template=value, **counted)
        _add_events(add, events, stream, rule)
    for command, name in _CAMERA_BUTTONS.items():
        if command in commands:
            press = _press(topics, command, {"camera": stream.name})
            add("button", "do", command, stream.name, name=f"{stream.name} {name}", **press)


def _add_events(add: _Adder, topic: str, stream: StreamFacts, rule: RuleFacts) -> None:
    mine = f"value_json.data.rule == {jinja_text(rule.name)}"
    types: list[JsonValue]
    if rule.kind == "line":
        types = [*rule.directions]
        mine += " and value_json.type == 'line_crossed'"
        kind = "value_json.data.direction"
    elif rule.kind in _TYPES_OF_RULE:
        names = _TYPES_OF_RULE[rule.kind]
        types = [*names.values()]
        table = ", ".join(f"{jinja_text(ours)}: {jinja_text(theirs)}" for ours, theirs in names.items())
        kind = f"{{{table}}}[value_json.type]"
        mine += f" and value_json.type in [{', '.join(map(jinja_text, names))}]"
    else:
        return
    if not types:
        return
    add(
        "event",
        "event",
        stream.name,
        rule.name,
        name=f"{stream.name} {rule.name}",
        event_types=types,
        state_topic=topic,
        value_template=_as_event(
            mine, kind, label="data.label", track_id="data.track_id", count="data.count"
        ),
        # every object that comes into view: only for those who ask for it
        **({"enabled_by_default": False} if rule.kind == "track" else {}),
    )


def _add_microphone(add: _Adder, topics: TopicTree, stream: StreamFacts) -> None:
    keywords: list[JsonValue] = [label for label in stream.labels if label not in _SILENT]
    if keywords:
        add(
            "event",
            "keyword",
            stream.name,
            name=f"{stream.name} keyword",
            event_types=keywords,
            state_topic=topics.event(stream.name),
            value_template=_as_event(
                "value_json.type == 'keyword'", "value_json.data.keyword", score="data.score"
            ),
        )


def _as_event(condition: str, kind: str, **attributes: str) -> str:
    """The JSON of an event entity where the condition holds, else "{}", which Home Assistant ignores."""
    told = {"id": "id", "time": "wall_time", **attributes}
    pairs = "".join(f", {name!r}: value_json.{path}" for name, path in told.items())
    return f"{{% if {condition} %}}{{{{ {{'event_type': {kind}{pairs}}} | to_json }}}}{{% else %}}{{}}{{% endif %}}"


def _of_totals(expression: str) -> str:
    """The topic of telemetry carries each zone's occupancy too: only the totals have what is asked for."""
    return f"{{% if value_json.type == 'totals' %}}{{{{ {expression} }}}}{{% endif %}}"


def _total(rule: RuleFacts, key: str) -> str:
    return f"value_json.data.rules.get({jinja_text(rule.name)}, {{}}).get({jinja_text(key)}, '')"


def _occupancy(rule: RuleFacts) -> str:
    """As a number from the totals or from the zone's own event, else something that is none."""
    own = f"value_json.data.get('occupancy') if value_json.data.get('rule') == {jinja_text(rule.name)}"
    return f"{_total(rule, 'occupancy')} if value_json.type == 'totals' else ({own} else none)"


def _press(topics: TopicTree, command: str, args: Mapping[str, str] | None = None) -> dict[str, JsonValue]:
    """Options of a button. Each press has an id of its own, because a command is done once for each id, and ends in
    time: one that waits at the broker for a device that is off must not be done days later.
    """
    told = ", ".join(f"{jinja_text(name)}: {jinja_text(value)}" for name, value in (args or {}).items())
    template = (
        "{{ {'id': 'ha-' ~ (now().timestamp() * 1000) | int, "
        f"'issued_at': utcnow().isoformat(), 'ttl_s': {_COMMAND_TTL_S}, 'args': {{{told}}}}} | to_json }}}}"
    )
    return {"command_topic": topics.command(command), "command_template": template}
