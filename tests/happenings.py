"""Events as the real rules make them, and the facts of the device that they come from: for whoever reads reports."""

from __future__ import annotations

import numpy as np

from edgeai.pipeline import keyword_event
from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.stages.audio.smoothing import Keyword
from edgeai.stages.rules import LineSettings, Scene, TrackSettings, ZoneSettings, open_rule
from edgeai.types import DEVICE_STREAM, Detections, Event

LABELS = ("person", "car")
LINE, ZONE, TRACKS = "Main gate v1.2", "Parking. lot", "tracks"
WIDTH_PX, HEIGHT_PX = 640, 480


def rules(*kinds):
    """The real rules of a camera, in this order; all three where none is named."""
    settings = {
        "line": LineSettings(name=LINE, a=(0.5, 1.0), b=(0.5, 0.0), forward="in", backward="out"),
        "zone": ZoneSettings(name=ZONE, polygon=((0.6, 0.0), (0.8, 0.0), (0.8, 1.0), (0.6, 1.0))),
        "track": TrackSettings(),
    }
    return [open_rule(settings[kind], labels=LABELS) for kind in kinds or settings]


def scene(time_s, places, *, started=(), ended=(), stream="gate"):
    """places: track id -> (class id, x of the middle, 0..1)."""
    boxes = [((x - 0.05) * WIDTH_PX, 120, (x + 0.05) * WIDTH_PX, 240) for _, x in places.values()]
    tracks = Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), 0.75, np.float32),
        np.array([class_id for class_id, _ in places.values()], np.int32),
        np.array(list(places), np.int64),
    )
    return Scene(tracks, WIDTH_PX, HEIGHT_PX, time_s, stream, started, ended)


def walk(*kinds, stream="gate", track_id=7, class_id=0):
    """The events of one object that walks from the left to the right over the line and through the zone, then ends.
    And the totals after it, as telemetry.
    """
    opened = rules(*kinds)
    events = []
    for step, x in enumerate((0.1, 0.3, 0.45, 0.55, 0.7, 0.75, 0.9)):
        for rule in opened:
            events += rule.update(scene(step / 10, {track_id: (class_id, x)}, stream=stream))
    for rule in opened:
        events += rule.update(scene(1.0, {}, ended=(track_id,), stream=stream))
    return events, totals(opened, stream=stream)


def totals(opened, *, stream="gate", fps=14.5):
    data = {"rules": {rule.settings.name: rule.totals() for rule in opened}, "fps": fps}
    return Event("totals", stream, 1.0, data, priority="telemetry")


def keyword(label="yes", stream="hall"):
    return keyword_event(Keyword(label, 0.9123456, 2.5, 1.75), stream)


HEALTH = {
    "uptime_s": 12.5,
    "streams": {
        "gate": {
            "fps": 14.5,
            "latency_ms": {"p50": 21.0, "p90": 25.0, "p99": 31.5},
            "frames": 1000,
            "dropped": {"busy": 3},
            "state": "running",
            "overrides": {},
        },
        "hall": {
            "fps": None,
            "latency_ms": None,
            "frames": 0,
            "dropped": {},
            "state": "disabled",
            "overrides": {"disabled": True},
        },
    },
    "outbox": {
        "pending": 4,
        "pending_bytes": 1234,
        "oldest_s": 1.5,
        "on_disk": True,
        "dropped": {"image": 2},
    },
    "mqtt": {"connected": True, "connections": 2, "refused": 0},
    "cpu_percent": 37.5,
    "memory": {"rss_mb": 180.5, "free_mb": 1024.0},
    "disk": {"free_mb": 20480.0},
    "models": {"gate": "person-detector", "hall": "commands"},
    "clock": {"synced": None, "wall_time": "2026-01-02T03:04:05.678Z"},
    "temperature_c": None,
}


def health(**changes):
    return Event("health", DEVICE_STREAM, 12.5, HEALTH | changes, priority="telemetry")


def facts(
    *kinds, cameras=("gate",), line=LINE, zone=ZONE, ways=("in", "out"), microphones=("hall",), **others
):
    known = {
        "line": RuleFacts(line, "line", LABELS, tuple(ways)),
        "zone": RuleFacts(zone, "zone", LABELS),
        "track": RuleFacts(TRACKS, "track"),
    }
    streams = [
        StreamFacts(name, "camera", LABELS, tuple(known[kind] for kind in kinds or known), "person-detector")
        for name in cameras
    ]
    streams += [
        StreamFacts(name, "microphone", ("yes", "turn_on", "unknown", "silence"), (), "commands")
        for name in microphones
    ]
    return DeviceFacts(
        **{"device": "cam-001", "board": "Orin Nano 8GB", "version": "1.4.0"} | others, streams=tuple(streams)
    )
