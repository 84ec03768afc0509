"""What an automation written for Frigate makes of its topics: written from Frigate's documentation, not from our code."""

from __future__ import annotations

import json
import re

FIELDS = {
    "id": str, "camera": str, "label": str, "frame_time": float, "start_time": float, "score": (int, float),
    "top_score": (int, float), "false_positive": bool, "box": list, "area": int, "ratio": (int, float), "current_zones": list,
    "entered_zones": list, "active": bool, "stationary": bool, "motionless_count": int, "position_changes": int,
    "has_clip": bool, "has_snapshot": bool, "path_data": list,
}  # fmt: skip
NULLABLE = ("sub_label", "end_time", "velocity_angle")


class FrigateReader:
    """objects: the last `after` of each id. counts, switches, pictures: the last value by topic below the prefix."""

    def __init__(self, prefix="frigate"):
        self.prefix = prefix
        self.objects = {}
        self.events = []
        self.counts = {}
        self.switches = {}
        self.pictures = {}
        self.audio = []
        self.stats = None
        self.available = None

    def hear(self, topic, payload):
        assert topic.startswith(f"{self.prefix}/"), topic
        levels = topic.removeprefix(f"{self.prefix}/").split("/")
        match levels:
            case ["available"]:
                self.available = payload.decode()
                assert self.available in {"online", "offline", "stopped"}
            case ["events"]:
                self._event(json.loads(payload))
            case ["stats"]:
                self.stats = json.loads(payload)
                assert {"cameras", "service"} <= set(self.stats)
            case [camera, "audio", kind] if kind not in {"state", "set"}:
                self.audio.append((camera, kind, {b"ON": True, b"OFF": False}[payload]))
            case [_, _, "snapshot"]:
                assert payload.startswith(b"\xff\xd8")
                self.pictures["/".join(levels)] = payload
            case [_, _, "state"] | [_, "motion"]:
                self.switches["/".join(levels)] = {b"ON": True, b"OFF": False}[payload]
            case [_, _] | [_, _, "active"]:
                self.counts["/".join(levels)] = int(payload)
            case _:
                raise AssertionError(f"not a topic of Frigate's: {topic}")

    def _event(self, event):
        assert set(event) == {"type", "before", "after"}
        before, after = event["before"], event["after"]
        for one in (before, after):
            self._check(one)
        assert before["id"] == after["id"]
        known = self.objects.get(after["id"])
        if event["type"] == "new":
            assert known is None
        else:
            assert before == known, "before is what was said last"
            assert known["end_time"] is None, "nothing follows the end"
        assert (after["end_time"] is not None) == (event["type"] == "end")
        assert after["frame_time"] >= before["frame_time"]
        assert after["top_score"] >= before["top_score"]
        assert set(before["entered_zones"]) <= set(after["entered_zones"])
        self.objects[after["id"]] = after
        self.events.append((event["type"], after["id"]))

    def _check(self, one):
        for name, kind in FIELDS.items():
            assert isinstance(one[name], kind), (name, one[name])
        for name in NULLABLE:
            assert name in one
        assert re.fullmatch(r"\d+\.\d+-[a-z0-9]{6}", one["id"])
        assert float(one["id"].split("-")[0]) == one["start_time"]
        x1, y1, x2, y2 = one["box"]
        assert all(type(value) is int for value in one["box"])
        assert 0 <= x1 <= x2
        assert 0 <= y1 <= y2
        assert one["area"] == (x2 - x1) * (y2 - y1)
        assert set(one["current_zones"]) <= set(one["entered_zones"])
