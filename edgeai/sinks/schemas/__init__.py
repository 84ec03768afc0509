"""JSON Schemas (draft 2020-12) of every message of the native topic tree, and how each of them travels.

One source: the tables here and in the modules beside. Nothing at run time validates with them; receivers and tests do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from edgeai.errors import UsageError
from edgeai.faults import nearest_hint
from edgeai.sinks.payload import SCHEMA
from edgeai.sinks.schemas.device import DEVICE_DATA
from edgeai.sinks.schemas.events import ENVELOPE, EVENT_DATA, OPTIONAL, enveloped
from edgeai.sinks.schemas.exchange import EXCHANGES
from edgeai.sinks.schemas.fields import Field, record
from edgeai.sinks.topics import ROUTES, TopicTree
from edgeai.types import DEVICE_STREAM, JsonValue

__all__ = ["SCHEMAS", "TOPICS", "Carriage", "schema_of"]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TREE: Final = TopicTree("<tenant>", "<site>", "<device>")
_EVENT, _TELEMETRY, _IMAGE = ROUTES["event"], ROUTES["telemetry"], ROUTES["image"]


@dataclass(frozen=True, slots=True)
class Carriage:
    """A topic: how its messages travel, who sends them ("device" or "operator"), and the schemas that they may have.

    content: their media type. encoding: how their bytes are packed ("" for not at all).
    """

    topic: str
    qos: int
    retained: bool
    sender: Literal["device", "operator"]
    schemas: tuple[str, ...]
    content: str = "application/json"
    encoding: str = ""


TOPICS: Final[tuple[Carriage, ...]] = (
    Carriage(_TREE.state, 1, True, "device", ("state",)),
    Carriage(_TREE.info, 1, True, "device", ("info",)),
    Carriage(_TREE.health, 1, True, "device", ("health",)),
    Carriage(
        _TREE.telemetry("<stream>"),
        _TELEMETRY.qos,
        _TELEMETRY.retain,
        "device",
        ("telemetry", "zone_occupancy"),
    ),
    Carriage(
        _TREE.event("<stream>"),
        _EVENT.qos,
        _EVENT.retain,
        "device",
        (
            "line_crossed",
            "zone_entered",
            "zone_left",
            "track_started",
            "track_ended",
            "keyword",
            "camera_lost",
            "camera_back",
            "still_taken",
            "envelope",
        ),
    ),
    Carriage(
        _TREE.event(DEVICE_STREAM),
        _EVENT.qos,
        _EVENT.retain,
        "device",
        (
            "worker_replaced",
            "messages_dropped",
            "outbox_degraded",
            "outbox_recovered",
            "outbox_set_aside",
            "outbox_log_damaged",
            "link_report",
        ),
    ),
    Carriage(
        _TREE.batch("<stream>", "<encoding>"),
        _EVENT.qos,
        _EVENT.retain,
        "device",
        ("batch",),
        "application/x-ndjson",
        "gzip or zstd, as the topic's last level says",
    ),
    Carriage(_TREE.image("<stream>"), _IMAGE.qos, _IMAGE.retain, "device", (), "image/jpeg"),
    Carriage(_TREE.thumbnail("<stream>"), _IMAGE.qos, _IMAGE.retain, "device", (), "image/jpeg"),
    Carriage(_TREE.command("<name>"), 1, False, "operator", ("command",)),
    Carriage(_TREE.acknowledgement("<id>"), 1, False, "device", ("ack",)),
    Carriage(_TREE.desired_config, 1, True, "operator", ("cfg_desired",)),
    Carriage(_TREE.reported_config, 1, True, "device", ("cfg_reported",)),
)
"""Every topic of the native tree that this version speaks."""

_TYPES: Final = {"telemetry": "totals"}  # where the type of event is not the schema's name


def _carriage(name: str) -> Carriage:
    return next(one for one in TOPICS if name in one.schemas)


def _schema(name: str, body: Field) -> dict[str, JsonValue]:
    carriage = _carriage(name)
    return {
        "$schema": _DIALECT,
        "$id": f"urn:edgeai:schema:{SCHEMA}:{name}",
        "title": name,
        **body,
        "x-topic": carriage.topic,
        "x-qos": carriage.qos,
        "x-retained": carriage.retained,
        "x-sender": carriage.sender,
        "x-content-type": carriage.content,
        **({"x-content-encoding": carriage.encoding} if carriage.encoding else {}),
    }


def _in_envelope(name: str, data: Field) -> Field:
    return record(str(data["description"]), enveloped(_TYPES.get(name, name), data), optional=OPTIONAL)


SCHEMAS: Final[dict[str, dict[str, JsonValue]]] = {
    name: _schema(name, body)
    for name, body in {
        "envelope": record(
            "Any event: what all of them have around their data.", ENVELOPE, optional=OPTIONAL
        ),
        "batch": record(
            "One line of a batch, unpacked: several events travel together over thin links, each on a line.",
            ENVELOPE,
            optional=OPTIONAL,
        ),
        **{name: _in_envelope(name, data) for name, data in {**EVENT_DATA, **DEVICE_DATA}.items()},
        **EXCHANGES,
    }.items()
}
"""Name -> schema of the whole message. An event's name is its type, but for "telemetry", whose type is "totals"."""


def schema_of(name: str) -> dict[str, JsonValue]:
    """The schema of this name. Raises UsageError with the nearest name for one that is unknown."""
    schema = SCHEMAS.get(name)
    if schema is None:
        raise UsageError(f"there is no schema {name[:64]!r}", next_step=nearest_hint(name, SCHEMAS))
    return schema
