"""Messages without an envelope: state, commands and their acknowledgements, configuration, and batches."""

from __future__ import annotations

from typing import Final

from edgeai.sinks.payload import SCHEMA
from edgeai.sinks.schemas.events import ENVELOPE
from edgeai.sinks.schemas.fields import (
    Field,
    count,
    flag,
    listing,
    moment,
    number,
    one_of,
    record,
    text,
)

_SCHEMA: Final[Field] = {"const": SCHEMA, "type": "integer", "description": "Version of this message."}
_REASON: Final = text("Why not, for people; null where ok.", null=True)

EXCHANGES: Final[dict[str, Field]] = {
    "state": record(
        'Whether the device is connected: "online" after each connecting, "offline" by its last will or its good-bye.',
        {
            "state": one_of("The state.", "online", "offline"),
            "boot_id": text(
                "UUIDv7 of the start of the runtime that says so: a will may come later than a newer birth.",
                minLength=1,
            ),
        },
    ),
    "command": record(
        "Something to be done. It is done once for each id.",
        {
            "id": text(
                "Chosen by the sender, 1 to 64 signs; the acknowledgement carries it.",
                minLength=1,
                maxLength=64,
            ),
            "args": {"type": "object", "description": "Arguments, by name."},
            "ttl_s": number("Seconds after which it is no longer to be done.", exclusiveMinimum=0),
            "issued_at": moment("When ttl_s begins: UTC, ISO 8601; its arrival where absent."),
        },
        optional=("ttl_s", "issued_at"),
    ),
    "ack": record(
        "What became of a command.",
        {
            "schema": _SCHEMA,
            "id": text("Of the command.", minLength=1, maxLength=64),
            "name": text("Name of the command."),
            "ok": flag("Whether it was done."),
            "reason": _REASON,
            "result": {"type": ["object", "null"], "description": "What the command gave, by name."},
            "device": text("Name of the device, as in the topic."),
            "boot_id": text("UUIDv7 of this start of the runtime."),
            "wall_time": moment("When it was answered: UTC, ISO 8601."),
        },
    ),
    "cfg_desired": record(
        "The configuration that the device shall run.",
        {
            "version": {
                "type": "integer",
                "minimum": 1,
                "description": "Rises with every change; an older one is refused.",
            },
            "toml": text("The whole configuration file."),
        },
    ),
    "cfg_reported": record(
        "The configuration that the device runs, or what it refused.",
        {
            "schema": _SCHEMA,
            "version": count("Version of the desired one; null for the device's own file.", null=True),
            "sha256": text("SHA-256 of the TOML text, 64 hexadecimal digits.", pattern="^[0-9a-f]{64}$"),
            "source": one_of("Where it comes from.", "file", "desired"),
            "ok": flag("Whether it is in use."),
            "reason": _REASON,
        },
    ),
    "batch": record(
        "Several events in one message, for thin links, in their order.",
        {
            "schema": _SCHEMA,
            "batch": listing("Events, each in its envelope.", record("One event.", ENVELOPE), minItems=1),
        },
    ),
}
"""Name -> schema of the whole message."""
