"""What `data` holds where the device tells of itself: telemetry of a stream, health, info."""

from __future__ import annotations

from typing import Final

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
)

TELEMETRY: Final = record(
    "Counts of a stream since the start, and how fast it goes. Counts only rise, but for those that say how many are there now.",
    {
        "rules": table(
            "By name of the rule: a line has a count for each direction, a zone entered, left and occupancy, a track rule "
            "started, ended and now; each with the same by class.",
            {"type": "object", "description": "Counts of one rule."},
        ),
        "fps": number("Frames that went through the pipeline in a second, lately.", null=True, minimum=0),
    },
    optional=("fps",),
)

_STREAM: Final = record(
    "One camera or microphone.",
    {
        "fps": number("Frames or chunks a second, lately.", null=True, minimum=0),
        "latency_ms": {
            **record(
                "Of processing one frame or chunk, in milliseconds, by percentile; null where there was nothing to measure.",
                {
                    name: number(f"Percentile {name[1:]}, in milliseconds.", minimum=0)
                    for name in ("p50", "p90", "p99")
                },
            ),
            "type": ["object", "null"],
        },
        "frames": count("Frames or chunks since the start."),
        "dropped": table("Frames dropped since the start, by reason.", count("Frames.")),
        "state": one_of(
            "What it does; lost: its source is away and is tried again.",
            "running",
            "lost",
            "ended",
            "failed",
            "disabled",
        ),
        "overrides": {
            "type": "object",
            "description": "What commands have changed against the configuration, by name.",
        },
    },
    optional=("overrides",),
)
HEALTH: Final = record(
    "How the device is.",
    {
        "uptime_s": number("Seconds since the runtime started.", minimum=0),
        "streams": table("By name of the stream.", _STREAM),
        "outbox": record(
            "What waits for the broker.",
            {
                "pending": count("Messages that wait."),
                "pending_bytes": count("Their payloads together, in bytes.", null=True),
                "oldest_s": number("Age of the oldest, in seconds; null where none waits.", null=True),
                "on_disk": flag("Whether they are on disk; else the disk fails and they wait in memory."),
                "dropped": table("Messages dropped since the start, by class.", count("Messages.")),
            },
        ),
        "mqtt": record(
            "The connection to the broker.",
            {
                "connected": flag("Whether there is one."),
                "connections": count("Connections since the start."),
                "refused": count("Messages that the broker would not take, since the start."),
            },
        ),
        "cpu_percent": number("CPU of this process, in percent of one core.", null=True, minimum=0),
        "memory": record(
            "Memory, in megabytes.",
            {
                "rss_mb": number("Resident memory of this process, in megabytes.", null=True, minimum=0),
                "free_mb": number("Available on the machine, in megabytes.", null=True, minimum=0),
            },
        ),
        "disk": record(
            "The disk that holds the outbox.",
            {"free_mb": number("Free, in megabytes.", null=True, minimum=0)},
        ),
        "models": table("By name of the stream.", text("Id of the model's bundle.")),
        "clock": record(
            "The wall clock.",
            {
                "synced": flag("Whether it is synchronised; null where nobody knows.", null=True),
                "wall_time": moment("What it says: UTC, ISO 8601."),
            },
        ),
        "temperature_c": number("The hottest sensor of the machine, in degrees Celsius.", null=True),
    },
)
INFO: Final = record(
    "What the device is.",
    {
        "board": text("The board or machine."),
        "version": text("Version of edgeai."),
        "os": text("Operating system."),
        "python": text("Version of Python."),
        "streams": listing(
            "Cameras and microphones.",
            record(
                "One of them.",
                {
                    "name": text("Its name, as in topics."),
                    "kind": one_of("What it is.", "camera", "microphone"),
                    "model": text("Id of its model's bundle."),
                    "runs": text("The engine that runs it and why, for people."),
                },
            ),
        ),
        "protocol": {
            "type": ["string", "integer", "null"],
            "description": "Version of MQTT that the connection speaks.",
        },
    },
    optional=("protocol",),
)

DEVICE_DATA: Final[dict[str, Field]] = {"telemetry": TELEMETRY, "health": HEALTH, "info": INFO}
"""Name of the schema -> schema of its data. The type of event is the name, but for telemetry's, "totals"."""
