"""Every metric that the node and its devices will ever send: a birth must name them all.

What each kind of rule counts is a literal table; labels and directions come from the device's facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.sparkplug.datatypes import Scalar, SparkplugError, TypeName, is_text

MAX_METRICS: Final = 10_000
"""Of one node with all its devices: a birth of a device is one message, and hosts keep every metric for ever."""

REBIRTH: Final = "Node Control/Rebirth"
BD_SEQ: Final = "bdSeq"


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """One metric. step: a float is rounded to multiples of it, so that noise is no change; 0 for none.

    alias: unique in the node, from 1. initial: its value before anything was heard, None for null.
    """

    name: str
    type: TypeName
    alias: int
    step: float = 0.0
    initial: Scalar = None


@dataclass(frozen=True, slots=True)
class HealthMetric:
    """Where a metric of the node stands in the data of an event "health"."""

    name: str
    type: TypeName
    path: tuple[str, ...]
    step: float = 0.0


# what changes with every look (uptime) is not here: a host has the time of birth
HEALTH: Final = (
    HealthMetric("Health/cpu_percent", "Double", ("cpu_percent",), 1.0),
    HealthMetric("Health/memory_rss_mb", "Double", ("memory", "rss_mb"), 1.0),
    HealthMetric("Health/memory_free_mb", "Double", ("memory", "free_mb"), 10.0),
    HealthMetric("Health/disk_free_mb", "Double", ("disk", "free_mb"), 10.0),
    HealthMetric("Health/temperature_c", "Double", ("temperature_c",), 0.5),
    HealthMetric("Health/clock_synced", "Boolean", ("clock", "synced")),
    HealthMetric("Outbox/pending", "Int64", ("outbox", "pending")),
    HealthMetric("Outbox/pending_bytes", "Int64", ("outbox", "pending_bytes")),
    HealthMetric("Outbox/oldest_s", "Double", ("outbox", "oldest_s"), 1.0),
    HealthMetric("Outbox/on_disk", "Boolean", ("outbox", "on_disk")),
    HealthMetric("Outbox/dropped", "Int64", ("outbox", "dropped")),
)

STATE: Final = "Stream/state"
FPS: Final = "Stream/fps"
FPS_STEP: Final = 0.1
KEYWORD: Final = "Keyword/last"
KEYWORD_SCORE: Final = "Keyword/score"
KEYWORD_COUNT: Final = "Keyword/count"


def rule_metric(rule: str, *path: str) -> str:
    """The name of a rule's metric; `path` as in its totals.

    >>> rule_metric("door", "by_class", "person", "in")
    'Rules/door/by_class/person/in'
    """
    return "/".join(("Rules", rule, *path))


def _line(rule: RuleFacts, labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for direction in rule.directions:
        yield (direction,)
        for label in labels:
            yield ("by_class", label, direction)


def _zone(rule: RuleFacts, labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield from (("entered",), ("left",), ("occupancy",))
    for label in labels:
        yield ("occupancy_by_class", label)


def _track(rule: RuleFacts, labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield from (("started",), ("ended",), ("now",))
    for label in labels:
        yield ("by_class", label)


RULES: Final[Mapping[str, Callable[[RuleFacts, tuple[str, ...]], Iterator[tuple[str, ...]]]]] = {
    "line": _line,
    "zone": _zone,
    "track": _track,
}
"""kind of rule: the paths of whole numbers in its totals."""


class Catalogue:
    """The metrics of a device's facts. by_class: one more for each label of a rule.

    Raises SparkplugError for a name that is no text, for two streams of one name, and for more than MAX_METRICS.
    """

    def __init__(self, facts: DeviceFacts, *, by_class: bool = False) -> None:
        self._next_alias = 1
        self._of: dict[str, dict[str, MetricFacts]] = {"": {}}
        for name, value in (
            ("Properties/Hardware Model", facts.board),
            ("Properties/FW", facts.version),
        ):
            self._add("", name, "String", initial=value)
        for one in HEALTH:
            self._add("", one.name, one.type, step=one.step)
        for stream in facts.streams:
            if stream.name in self._of:
                raise SparkplugError(f"two streams are called {stream.name!r}")
            self._of[stream.name] = {}
            self._add_stream(stream, by_class)

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(device for device in self._of if device)

    def metrics(self, device: str) -> Mapping[str, MetricFacts]:
        """By name, in the order of the birth; "" for the node's, without bdSeq and Node Control. Raises KeyError."""
        return self._of[device]

    def find(self, device: str, name: str) -> MetricFacts | None:
        return self._of.get(device, {}).get(name)

    def _add_stream(self, stream: StreamFacts, by_class: bool) -> None:
        self._add(stream.name, "Properties/Kind", "String", initial=stream.kind)
        self._add(stream.name, "Properties/Model", "String", initial=stream.model)
        self._add(stream.name, STATE, "String")
        if stream.kind == "microphone":
            self._add(stream.name, KEYWORD, "String")
            self._add(stream.name, KEYWORD_SCORE, "Double")
            self._add(stream.name, KEYWORD_COUNT, "Int64", initial=0)
            return
        self._add(stream.name, FPS, "Double", step=FPS_STEP)
        for rule in stream.rules:
            if rule.kind in RULES:
                labels = (rule.classes or stream.labels) if by_class else ()
                for path in RULES[rule.kind](rule, labels):
                    self._add(stream.name, rule_metric(rule.name, *path), "Int64")

    def _add(
        self, device: str, name: str, type_: TypeName, *, step: float = 0.0, initial: Scalar = None
    ) -> None:
        if not is_text(name):
            raise SparkplugError(f"{name!r} is no name for a metric: it is not valid Unicode")
        if name in self._of[device]:
            return
        if self._next_alias > MAX_METRICS:
            raise SparkplugError(
                f"the cameras' rules make more than {MAX_METRICS} metrics",
                next_step="set mqtt.sparkplug.by_class = false, or name fewer classes in the rules",
            )
        self._of[device][name] = MetricFacts(name, type_, self._next_alias, step, initial)
        self._next_alias += 1
