"""Home Assistant's side of MQTT discovery, written from its documentation: what it takes, and what its entities show."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import datetime, timezone

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

TOPIC = re.compile(r"(?P<prefix>.+)/device/(?P<id>[a-zA-Z0-9_-]+)/config")
ABBREVIATIONS = {"dev": "device", "o": "origin", "cmps": "components", "p": "platform", "ids": "identifiers"}
COMMON = {
    "platform",
    "unique_id",
    "name",
    "availability",
    "entity_category",
    "enabled_by_default",
    "device_class",
    "icon",
}
OPTIONS = {
    "sensor": {
        "state_topic",
        "value_template",
        "state_class",
        "unit_of_measurement",
        "suggested_display_precision",
    },
    "binary_sensor": {"state_topic", "value_template"},
    "image": {"image_topic", "content_type"},
    "event": {"state_topic", "value_template", "event_types"},
    "button": {"command_topic", "command_template"},
}
REQUIRED = {
    "sensor": {"state_topic"}, "binary_sensor": {"state_topic"}, "image": {"image_topic"},
    "event": {"state_topic", "event_types"}, "button": {"command_topic"},
}  # fmt: skip
UNITS = {"temperature": {"°C"}, "duration": {"s"}, "data_size": {"MB"}}
NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def _environment():
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    environment.filters["to_json"] = json.dumps
    environment.globals["now"] = lambda: datetime.now()
    environment.globals["utcnow"] = lambda: datetime.now(timezone.utc)
    return environment


ENVIRONMENT = _environment()


def render(template, payload=b"", **values):
    text = payload.decode() if isinstance(payload, bytes) else payload
    with contextlib.suppress(ValueError):
        values["value_json"] = json.loads(text)
    return ENVIRONMENT.from_string(template).render(value=text, **values).strip()


class Shown:
    """A Home Assistant that has read discovery messages: entities by component id, with the state that they show.

    states: None is unknown; for an event entity the list of what happened.
    """

    def __init__(self):
        self.components = {}
        self.states = {}
        self.available = {}
        self.device = {}

    def discover(self, topic, payload, retained=True):
        assert retained
        match = TOPIC.fullmatch(topic)
        assert match, f"illegal discovery topic {topic}"
        if not payload:
            self.__init__()
            return
        message = {ABBREVIATIONS.get(key, key): value for key, value in json.loads(payload).items()}
        assert set(message) <= {"device", "origin", "components", "availability", "qos"}
        assert message["origin"]["name"]
        self.device = {ABBREVIATIONS.get(key, key): value for key, value in message["device"].items()}
        assert self.device["identifiers"]
        seen = set()
        for name, given in message["components"].items():
            component = {ABBREVIATIONS.get(key, key): value for key, value in given.items()}
            if set(component) == {"platform"}:
                self.components.pop(name, None)
                self.states.pop(name, None)
                continue
            platform = component["platform"]
            assert set(component) <= COMMON | OPTIONS[platform], (name, component)
            assert REQUIRED[platform] <= set(component), name
            assert component["unique_id"] not in seen, f"{component['unique_id']} is given twice"
            seen.add(component["unique_id"])
            assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
            self._check(component)
            component.setdefault("availability", message["availability"])
            self.components[name] = component
            self.states.setdefault(name, [] if platform == "event" else None)

    def _check(self, component):
        for key, value in component.items():
            if key.endswith("_topic"):
                assert value and not set("+#\0") & set(value), value
            if key.endswith("_template"):
                ENVIRONMENT.from_string(value)
        if component.get("device_class") in UNITS:
            assert component["unit_of_measurement"] in UNITS[component["device_class"]]
        if component["platform"] == "event":
            assert component["event_types"] == list(dict.fromkeys(component["event_types"])) != []

    def hear(self, topic, payload, retained=False):
        """A message on any topic."""
        for name, component in self.components.items():
            for one in component["availability"]:
                if one["topic"] == topic:
                    self.available[name] = {"online": True, "offline": False}[
                        render(one["value_template"], payload)
                    ]
            if topic == component.get("image_topic"):
                self.states[name] = payload
            if topic == component.get("state_topic"):
                self._take(name, component, render(component["value_template"], payload), retained)

    def _take(self, name, component, value, retained):
        platform = component["platform"]
        if platform == "event":
            if not retained and value not in {"", "{}", "null"}:
                happened = json.loads(value)
                assert happened["event_type"] in component["event_types"], happened
                self.states[name].append(happened)
        elif value == "None":
            self.states[name] = None
        elif value == "":
            assert platform == "binary_sensor" or "state_class" in component, (
                "an empty text would be its state"
            )
        elif platform == "binary_sensor":
            self.states[name] = {"ON": True, "OFF": False}[value]
        elif "state_class" in component:
            assert NUMBER.fullmatch(value), value
            self.states[name] = float(value)
        else:
            self.states[name] = value

    def press(self, name):
        component = self.components[name]
        return component["command_topic"], json.loads(render(component["command_template"], "PRESS"))
