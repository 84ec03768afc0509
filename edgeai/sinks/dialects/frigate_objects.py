"""The objects that Frigate would be tracking, rebuilt from the events of one camera."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edgeai.sinks.dialects.words import numeral
from edgeai.types import Event, JsonValue

MAX_OBJECTS: Final = 1000
"""Of one camera at once; the oldest is forgotten beyond it. A camera whose tracks never end must not fill the memory."""
_MAX_PATH: Final = 100
_ID_SIGNS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(slots=True)
class FrigateObject:
    """One tracked object. Times are Unix seconds; box_px is x1 y1 x2 y2 in the detect resolution.

    rules: the track rules that told of it. published: what was last said of it.
    """

    id: str
    camera: str
    label: str
    start_s: float
    frame_s: float
    score: float = 0.0
    top_score: float = 0.0
    box_px: tuple[int, int, int, int] = (0, 0, 0, 0)
    zones: list[str] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)
    path: list[JsonValue] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)
    published: dict[str, JsonValue] | None = None

    def see(self, event: Event, size_px: tuple[int, int]) -> None:
        """Take in score and box, where the event has them, and its time."""
        self.frame_s = event.wall_time_s
        score = event.data.get("score")
        if score is not None:
            self.score = numeral(score)
            self.top_score = max(self.top_score, self.score)
        box = event.data.get("box")
        if isinstance(box, list) and len(box) == 4:
            x1, y1, x2, y2 = (min(1.0, max(0.0, numeral(value))) for value in box)
            width, height = size_px
            self.box_px = (round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height))
            # Frigate's path: the middle of the lower edge, as fractions, with its time
            point: list[JsonValue] = [round((x1 + x2) / 2, 4), round(y2, 4)]
            self.path.append([point, round(event.wall_time_s, 6)])
            del self.path[:-_MAX_PATH]

    def told(self, *, end_s: float | None = None) -> dict[str, JsonValue]:
        """The object as Frigate's `before` and `after` have it. What only Frigate could know (sub-label, clips, whether
        it stands still) is null, false or 0.
        """
        x1, y1, x2, y2 = self.box_px
        width, height = x2 - x1, y2 - y1
        return {
            "id": self.id,
            "camera": self.camera,
            "frame_time": round(self.frame_s, 6),
            "snapshot": None,
            "label": self.label,
            "sub_label": None,
            "top_score": self.top_score,
            "false_positive": False,
            "start_time": round(self.start_s, 6),
            "end_time": None if end_s is None else round(end_s, 6),
            "score": self.score,
            "box": [x1, y1, x2, y2],
            "area": width * height,
            "ratio": round(width / height, 2) if height else 0.0,
            "active": end_s is None,
            "stationary": False,
            "motionless_count": 0,
            "position_changes": 0,
            "attributes": {},
            "current_attributes": [],
            "current_zones": [*self.zones],
            "entered_zones": [*self.entered],
            "has_clip": False,
            "has_snapshot": False,
            "thumbnail": None,
            "path_data": [*self.path],
            "velocity_angle": None,
        }


def begin(event: Event, label: str) -> FrigateObject:
    """A new object, first told of by this event; its id is Frigate's form, the time and six random signs."""
    digest = hashlib.sha256(event.id.encode() + repr(event.data.get("track_id")).encode()).digest()
    random = "".join(_ID_SIGNS[byte % len(_ID_SIGNS)] for byte in digest[:6])
    start_s = event.wall_time_s
    return FrigateObject(f"{start_s:.6f}-{random}", event.stream, label, start_s, start_s)


def health_as_stats(
    data: Mapping[str, JsonValue], names: Sequence[str], wall_s: float, version: str
) -> dict[str, JsonValue]:
    """Frigate's `stats` from the data of a health event: what there is of both, under Frigate's names.

    names: of the cameras; other streams are none of Frigate's.
    """
    cameras: dict[str, JsonValue] = {}
    streams = data.get("streams")
    for name in names:
        stream = streams.get(name) if isinstance(streams, dict) else None
        if not isinstance(stream, dict):
            continue
        fps = stream.get("fps")
        cameras[name] = {
            "camera_fps": fps,
            "process_fps": fps,
            "detection_fps": fps,
            "skipped_fps": None,
            "detection_enabled": stream.get("state") != "disabled",
        }
    service: dict[str, JsonValue] = {
        "uptime": data.get("uptime_s"),
        "version": version,
        "last_updated": round(wall_s),
        "temperatures": {},
    }
    if data.get("temperature_c") is not None:
        service["temperatures"] = {"device": data["temperature_c"]}
    return {
        "cameras": cameras,
        "cpu_usages": {"frigate.full_system": {"cpu": data.get("cpu_percent")}},
        "service": service,
    }
