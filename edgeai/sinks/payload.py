"""The JSON envelope around every event, schema 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Final

from edgeai.clock import clock_synced
from edgeai.errors import SinkError
from edgeai.sinks.link.thumbnail import shrink
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.topics import ROUTES, TopicTree, thumbnail_stream
from edgeai.types import DEVICE_STREAM, Event, JsonValue, new_event_id

SCHEMA: Final = 1
MAX_PAYLOAD_BYTES: Final = 256 << 10
# types of events about the device itself that have a topic of their own, retained
_OF_DEVICE: Final = ("health", "info")

_FIELDS: Final[dict[str, tuple[type, ...]]] = {
    "schema": (int,),
    "id": (str,),
    "type": (str,),
    "device": (str,),
    "stream": (str,),
    "seq": (int,),
    "boot_id": (str,),
    "priority": (str,),
    "time_s": (int, float),
    "wall_time": (str,),
    "monotonic_s": (int, float),
    "clock_synced": (bool, type(None)),
    "data": (dict,),
}


class PayloadError(SinkError, ValueError):
    """An event that cannot become a payload, or a payload that is no event."""


def new_boot_id() -> str:
    """A UUIDv7 for one start of the runtime; with `seq` it orders events whatever the wall clock did."""
    return new_event_id()


def iso_utc(wall_s: float) -> str:
    """Unix time as ISO 8601 in UTC with milliseconds.

    >>> iso_utc(1_700_000_000.25)
    '2023-11-14T22:13:20.250Z'
    """
    return datetime.fromtimestamp(wall_s, timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Makes the payloads of one start of one device.

    synced: asked at each event, True or False where the machine knows whether its wall clock is right.
    """

    device: str
    boot_id: str
    synced: Callable[[], bool | None] = clock_synced

    def encode(self, event: Event, seq: int, place: int = 0) -> bytes:
        """The event as UTF-8 JSON. wall_time and monotonic_s are the event's own, never those of sending.

        place: its number in its stream since the start, where missing ones are to be noticed; 0 where not.
        Raises PayloadError where `data` holds what JSON cannot (NaN, arrays, bytes) or the result exceeds 256 KiB.
        """
        try:
            payload = json.dumps(
                {
                    "schema": SCHEMA,
                    "id": event.id,
                    "type": event.type,
                    "device": self.device,
                    "stream": event.stream,
                    "seq": seq,
                    **({"stream_seq": place} if place else {}),
                    "boot_id": self.boot_id,
                    "priority": event.priority,
                    "time_s": round(event.time_s, 6),
                    "wall_time": iso_utc(event.wall_time_s),
                    "monotonic_s": round(event.monotonic_s, 6),
                    "clock_synced": self.synced(),
                    "data": event.data if isinstance(event.data, dict) else dict(event.data),
                },
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            ).encode()
        except (TypeError, ValueError, OverflowError, OSError, RecursionError) as error:
            raise PayloadError(
                f"event {event.type!r} of stream {event.stream!r} cannot be written as JSON: {error}",
                next_step="put only JSON values in its data (no NaN, arrays or bytes)",
            ) from error
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise PayloadError(
                f"event {event.type!r} of stream {event.stream!r} has {len(payload)} bytes of at most {MAX_PAYLOAD_BYTES}",
                next_step="put less in its data",
            )
        return payload


def decode(payload: bytes) -> dict[str, JsonValue]:
    """The envelope in a received payload, its fields present and of the right JSON types; more fields are let pass.

    Raises PayloadError for anything else: too long, not JSON, not an object, another schema.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"payload has {len(payload)} bytes of at most {MAX_PAYLOAD_BYTES}")
    try:
        value = json.loads(payload, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"payload is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise PayloadError(f"payload must be a JSON object, got {type(value).__name__}")
    if value.get("schema") != SCHEMA:
        raise PayloadError(f"payload has schema {value.get('schema')!r}, known is {SCHEMA}")
    for name, kinds in _FIELDS.items():
        if name not in value:
            raise PayloadError(f"payload lacks {name!r}")
        got = value[name]
        if not isinstance(got, kinds) or (isinstance(got, bool) and bool not in kinds):
            raise PayloadError(f"payload's {name!r} must be {kinds[0].__name__}, got {type(got).__name__}")
    return value


def compose_native(
    topics: TopicTree, envelope: Envelope, *, thumbnail_px: int | None = None
) -> Callable[[Event], list[Draft]]:
    """What turns an event into its message on the native topic tree: its envelope, or its picture as it is. Of
    telemetry, health and info only the newest waits. thumbnail_px: a small copy of a picture, so wide, goes before it.

    The result raises TopicError for the stream's name and PayloadError for too large a picture when called,
    PayloadError when the outbox asks for the body.
    """

    def compose(event: Event) -> list[Draft]:
        route = ROUTES.get(event.priority)
        if route is None:
            raise PayloadError(
                f"event {event.type!r} has priority {event.priority!r}, known are {sorted(ROUTES)}"
            )
        qos, retain, topic = route.qos, route.retain, topics.routed(event.priority, event.stream)
        if event.stream == DEVICE_STREAM and event.type in _OF_DEVICE:
            qos, retain, topic = 1, True, f"{topics.root}/{event.type}"
        if len(event.picture) > MAX_PAYLOAD_BYTES:
            raise PayloadError(
                f"a picture of stream {event.stream!r} has {len(event.picture)} bytes of at most {MAX_PAYLOAD_BYTES}",
                next_step="make it smaller",
            )
        draft = Draft(
            topic,
            event.picture or (lambda seq, place: envelope.encode(event, seq, place)),
            qos=qos,
            retain=retain,
            priority=event.priority,
            stream=event.stream,
            latest=event.priority == "telemetry",
            happened_s=event.monotonic_s,
        )
        small = shrink(event.picture, thumbnail_px) if event.picture and thumbnail_px else b""
        if not small:
            return [draft]
        stream = thumbnail_stream(event.stream)
        return [replace(draft, topic=topics.thumbnail(event.stream), body=small, stream=stream), draft]

    return compose


def _no_constant(name: str) -> JsonValue:
    raise ValueError(f"{name} is not JSON")
