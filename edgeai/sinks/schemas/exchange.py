"""Messages without an envelope: state, commands and their acknowledgements, configuration."""

from __future__ import annotations

from typing import Final

from edgeai.sinks.payload import SCHEMA
from edgeai.sinks.schemas.fields import (
    Field,
    count,
    flag,
    moment,
    number,
    one_of,
    record,
    text,
)

_SCHEMA: Final[Field] = {"const": SCHEMA, "type": "integer", "description": "Version of this message."}
_SENDER: Final[dict[str, Field]] = {
    "device": text("Name of the device, as in the topic."),
    "boot_id": text("UUIDv7 of this start of the runtime."),
    "wall_time": moment("When it was said: UTC, ISO 8601."),
}
_REASON: Final = text("Why not, for people; null where ok.", null=True)


def _command_id(description: str) -> Field:
    return text(description, pattern=r"^[A-Za-z0-9._-]{1,64}$")


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
            "id": _command_id("Chosen by the sender; the acknowledgement carries it."),
            "args": {"type": "object", "description": "Arguments, by name; none where absent."},
            "ttl_s": number("Seconds after which it is no longer to be done.", exclusiveMinimum=0),
            "issued_at": moment(
                "When ttl_s begins: ISO 8601 with its offset from UTC; its arrival where absent."
            ),
        },
        optional=("args", "ttl_s", "issued_at"),
    ),
    "ack": record(
        "What became of a command.",
        {
            "schema": _SCHEMA,
            "id": _command_id("Of the command."),
            "name": text("Name of the command."),
            "ok": flag("Whether it was done."),
            "reason": _REASON,
            "result": {"type": ["object", "null"], "description": "What the command gave, by name."},
            **_SENDER,
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
        "The configuration that the device runs, and why it did not take a newer one.",
        {
            "schema": _SCHEMA,
            "version": count("Version of the desired configuration in use; 0 for the device's own file."),
            "sha256": text(
                "SHA-256 of the TOML text in use, 64 hexadecimal digits.", pattern="^[0-9a-f]{64}$"
            ),
            "source": one_of("Where it comes from.", "file", "desired"),
            "refused": {
                **record(
                    "What was refused last; null where nothing was.",
                    {
                        "version": count("Version of what was refused; null where it had none.", null=True),
                        "reason": text("Why, for people."),
                    },
                ),
                "type": ["object", "null"],
            },
            **_SENDER,
        },
    ),
}
"""Name -> schema of the whole message."""
