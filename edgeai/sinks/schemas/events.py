"""What `data` holds in each type of event, and the envelope around it."""

from __future__ import annotations

from typing import Final

from edgeai.sinks.outbox.message import DROP_ORDER
from edgeai.sinks.payload import SCHEMA
from edgeai.sinks.schemas.fields import (
    Field,
    count,
    flag,
    listing,
    moment,
    number,
    one_of,
    record,
    table,
    text,
    unit,
)

CLASSES: Final = tuple(reversed(DROP_ORDER))

ENVELOPE: Final[dict[str, Field]] = {
    "schema": {"const": SCHEMA, "type": "integer", "description": "Version of this envelope."},
    "id": text("UUIDv7 of the event. QoS 1 may deliver a message twice: drop what has an id that was seen.", minLength=1),
    "type": text("What happened, a snake_case verb phrase.", minLength=1),
    "device": text("Name of the device, as in the topic.", minLength=1),
    "stream": text('Camera or microphone, as in the topic; "_device" for the device itself.', minLength=1),
    "seq": count("Rises by one from message to message of the device, over all its starts; gaps are losses."),
    "stream_seq": count(
        "Rises by one from event to event of the stream in one start, from 1: a gap is an event that is missing. Absent "
        "where only the newest message counts.",
        minimum=1,
    ),
    "boot_id": text("UUIDv7 of this start of the runtime; with seq it orders events whatever the clock did.", minLength=1),
    "priority": one_of("Class, which decides what an overfull outbox drops last.", *CLASSES),
    "time_s": number("Seconds on the stream's own clock: position in a file, or since capture began."),
    "wall_time": moment("When it happened: UTC, ISO 8601 with milliseconds."),
    "monotonic_s": number("When it happened: seconds on the machine's monotonic clock, which never jumps."),
    "clock_synced": flag("Whether the wall clock was synchronised; null where the machine does not know.", null=True),
    "data": {"type": "object", "description": "What the type of event tells."},
}  # fmt: skip

_RULE: Final = text("Name of the rule in the configuration.", minLength=1, maxLength=64)
_TRACK: Final[dict[str, Field]] = {
    "track_id": count("Number of the track, unique within the stream while the runtime runs."),
    "label": text("Class of the object."),
}
_SIGHT: Final[dict[str, Field]] = {
    "score": unit("Score of the detection, 0 to 1."),
    "box": listing(
        "Box [x1, y1, x2, y2] as fractions of the picture's width and height, from its upper left corner.",
        number("A fraction; a little outside 0 to 1 where the object leaves the picture."),
        minItems=4,
        maxItems=4,
    ),
}

_LINE_CROSSED: Final = record(
    "An object crossed a counting line.",
    {
        "rule": _RULE,
        **_TRACK,
        "direction": text("Name of the direction, as configured (forward or backward)."),
        "count": count("Crossings in this direction since the start, this one included."),
        "totals": table("Crossings since the start by direction.", count("Crossings.")),
        **_SIGHT,
    },
)
_ZONE_ENTERED: Final = record(
    "An object came into a zone, or was first seen in it.",
    {
        "rule": _RULE,
        **_TRACK,
        "count": count("Objects that have entered since the start."),
        "occupancy": count("Objects in the zone now."),
        **_SIGHT,
    },
)
_ZONE_LEFT: Final = record(
    "An object went out of a zone, or its track ended in it.",
    {
        "rule": _RULE,
        **_TRACK,
        "reason": one_of("How: it left, or it was no longer seen.", "left", "track_ended"),
        "dwell_s": number("How long it was in the zone, in seconds.", minimum=0),
        "count": count("Objects that have left since the start."),
        "occupancy": count("Objects in the zone now."),
        **_SIGHT,
    },
    optional=("score", "box"),
)
_ZONE_OCCUPANCY: Final = record(
    "How many objects are in a zone has changed.",
    {"rule": _RULE, "occupancy": count("Objects in the zone now.")},
)
_TRACK_STARTED: Final = record(
    "An object is confirmed and followed from now on.",
    {"rule": _RULE, **_TRACK, "count": count("Tracks that have started since the start."), **_SIGHT},
)
_TRACK_ENDED: Final = record(
    "An object is no longer followed.",
    {
        "rule": _RULE,
        **_TRACK,
        "first_s": number("When it was confirmed, seconds on the stream's clock."),
        "last_s": number("When it was last seen, seconds on the stream's clock."),
        "duration_s": number("From first_s to last_s, in seconds.", minimum=0),
        "count": count("Tracks that have ended since the start."),
    },
)
_KEYWORD: Final = record(
    "A keyword was heard.",
    {
        "keyword": text("The keyword, a label of the model."),
        "score": unit("Mean probability over the smoothing window, 0 to 1."),
        "start_s": number("Where it begins, seconds on the stream's clock.", minimum=0),
    },
)
_CAMERA_LOST: Final = record(
    "A camera cannot be read, and is tried again until it is back; what was followed has ended.",
    {
        "reason": text("Why, for people."),
        "connections": count("How often it was found since the start; 0: never yet."),
    },
)
_CAMERA_BACK: Final = record(
    "A camera that was lost gives pictures again.",
    {
        "lost_s": number("How long it was away, in seconds.", minimum=0),
        "connections": count("How often it was found since the start, this time included.", minimum=1),
    },
)
_STILL_TAKEN: Final = record(
    "What the model saw in a picture of a camera that takes one every so many minutes.",
    {"counts": table("Objects by class; classes of which there is none are absent.", count("Objects."))},
)
_WORKER_REPLACED: Final = record(
    "A camera's reading or a model's run hung in native code; it was left behind, and another one works on.",
    {
        "worker": text("Which one, as in the log."),
        "doing": text("What it hung in."),
        "hung_s": number("For how long, in seconds.", minimum=0),
        "replaced": count(
            "Workers replaced since the start; after too many the process starts again.", minimum=1
        ),
    },
)
_DROPPED: Final = record(
    "The outbox was full, or messages were too old: so many were dropped and will never come.",
    {"dropped": table("Messages by class since the last such event.", count("Messages."))},
)
_DEGRADED: Final = record(
    "The disk fails: messages wait in memory and would be lost with the power.",
    {
        "error": text("What the system says, for people."),
        "memory_bytes": count("How much may wait in memory, in bytes."),
    },
)
_RECOVERED: Final = record(
    "The disk works again: what waited in memory is on it.",
    {"moved": count("Messages that were moved from memory to the disk.")},
)
_SET_ASIDE: Final = record(
    "The outbox file was damaged: it was set aside and a new one begun.",
    {
        "reason": text("What was wrong with it, for people."),
        "file": text("Name of the file that was set aside, beside the new one."),
        "saved": count("Messages that could be read and go on waiting."),
    },
)
_LOG_DAMAGED: Final = record(
    "The outbox's log breaks off, by a power cut in the midst of a write or by damage; what is beyond was looked through.",
    {
        "pages": count("Pages beyond the break."),
        "saved": count("Messages found there, which go on waiting."),
    },
)
_LINK_REPORT: Final = record(
    "What a thin link has cost in one day.",
    {
        "day": text("The day, by the device's local time, YYYY-MM-DD.", pattern=r"^\d{4}-\d\d-\d\d$"),
        "bytes": table("Bytes sent, headers included, by class.", count("Bytes.")),
        "limits": table(
            "Bytes that were allowed, by class; null where there is no limit.", count("Bytes.", null=True)
        ),
    },
)

OPTIONAL: Final = ("stream_seq",)
"""Fields of the envelope that not every message has."""

EVENT_DATA: Final[dict[str, Field]] = {
    "line_crossed": _LINE_CROSSED,
    "zone_entered": _ZONE_ENTERED,
    "zone_left": _ZONE_LEFT,
    "zone_occupancy": _ZONE_OCCUPANCY,
    "track_started": _TRACK_STARTED,
    "track_ended": _TRACK_ENDED,
    "keyword": _KEYWORD,
    "camera_lost": _CAMERA_LOST,
    "camera_back": _CAMERA_BACK,
    "still_taken": _STILL_TAKEN,
    "worker_replaced": _WORKER_REPLACED,
    "messages_dropped": _DROPPED,
    "outbox_degraded": _DEGRADED,
    "outbox_recovered": _RECOVERED,
    "outbox_set_aside": _SET_ASIDE,
    "outbox_log_damaged": _LOG_DAMAGED,
    "link_report": _LINK_REPORT,
}
"""Type of event -> schema of its data."""


def enveloped(type_: str, data: Field) -> dict[str, Field]:
    """The envelope's fields for one type of event."""
    kind: Field = {"const": type_, "type": "string", "description": ENVELOPE["type"]["description"]}
    return {**ENVELOPE, "type": kind, "data": data}
