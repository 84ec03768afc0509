"""Frigate's topics from our events, so that automations written for Frigate go on working.

Source of topics and fields: Frigate's documentation, "MQTT", as of version 0.16. Objects are those of track rules; of a
camera without one, those in its zones.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Final

from edgeai.clock import Clock, SystemClock
from edgeai.errors import ConfigError
from edgeai.sinks.dialects.frigate_objects import MAX_OBJECTS, FrigateObject, begin, health_as_stats
from edgeai.sinks.dialects.settings import FrigateSettings
from edgeai.sinks.dialects.words import numeral, topic_level
from edgeai.sinks.inventory import DeviceFacts, RuleFacts
from edgeai.sinks.outbox.message import Draft
from edgeai.types import DEVICE_STREAM, Event, JsonValue, Priority

_SIGHTS: Final = frozenset({"track_started", "zone_entered", "line_crossed"})


class FrigateComposer:
    """A Compose: event -> Frigate's messages. Called from any thread, one event at a time.

    Not retained: events, stats, counts of `<camera|zone>/<label|all>` with `/active` (the same number: nobody here knows
    what stands still), `<camera>/motion` (ON while an object is there: there is no motion detector), `<microphone>/audio/
    <keyword>` (ON, and OFF at once: a keyword is a moment). Retained: `<camera>/<label>/snapshot`, and
    `<camera>/detect/state` where health says that it changed.
    """

    def __init__(self, settings: FrigateSettings, facts: DeviceFacts, clock: Clock | None = None) -> None:
        """Raises ConfigError for a zone that has a camera's name: both would speak on one topic."""
        self._settings = settings
        self._facts = facts
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._cameras = [each.name for each in facts.streams if each.kind == "camera"]
        self._trackers: dict[str, list[RuleFacts]] = {}
        for stream in facts.streams:
            self._trackers[stream.name] = [rule for rule in stream.rules if rule.kind == "track"]
            for rule in stream.rules:
                if rule.kind == "zone" and topic_level(rule.name) in self._cameras:
                    raise ConfigError(
                        f"mqtt.frigate: zone {rule.name!r} of camera {stream.name!r} has the name of a camera, and "
                        "Frigate's topics cannot tell them apart",
                        next_step="give the zone another name",
                    )
        self._objects: dict[str, dict[int, FrigateObject]] = {}
        # (camera, zone) -> track -> label; and how many the zone itself says are in it: it need not report all tracks
        self._inside: dict[tuple[str, str], dict[int, str]] = {}
        self._occupancy: dict[tuple[str, str], int] = {}
        self._said: dict[str, str] = {}

    def __call__(self, event: Event) -> list[Draft]:
        with self._lock:
            if event.picture:
                return self._picture(event)
            if event.type == "keyword":
                return self._keyword(event)
            if event.type == "health" and event.stream == DEVICE_STREAM:
                return self._health(event)
            if event.type in {"track_started", "track_ended", "zone_entered", "zone_left", "line_crossed"}:
                return self._track(event)
            if event.type == "zone_occupancy":
                zone, count = event.data.get("rule"), event.data.get("occupancy")
                if isinstance(zone, str) and isinstance(count, int):
                    self._occupancy[event.stream, zone] = count
                    return self._zone_counts(event, zone)
            return []

    def detecting(self, camera: str) -> bool:
        """Whether the camera is switched on, as the last health said; True before the first."""
        with self._lock:
            return self._said.get(f"{camera}/detect/state") != "OFF"

    def _track(self, event: Event) -> list[Draft]:
        track_id, label = event.data.get("track_id"), event.data.get("label")
        if not isinstance(track_id, int) or not isinstance(label, str):
            return []
        zone = event.data.get("rule") if event.type in {"zone_entered", "zone_left"} else None
        if isinstance(zone, str):
            inside = self._inside.setdefault((event.stream, zone), {})
            if event.type == "zone_entered":
                inside[track_id] = label
                while len(inside) > MAX_OBJECTS:
                    del inside[next(iter(inside))]
            else:
                inside.pop(track_id, None)
            self._occupancy[event.stream, zone] = int(
                numeral(event.data.get("occupancy"), default=len(inside))
            )
        drafts = self._object(event, track_id, label, zone if isinstance(zone, str) else "")
        return [*drafts, *self._camera_counts(event)] + (
            self._zone_counts(event, zone) if isinstance(zone, str) else []
        )

    def _object(self, event: Event, track_id: int, label: str, zone: str) -> list[Draft]:
        """Follow one track; the messages on `events`."""
        objects = self._objects.setdefault(event.stream, {})
        found, drafts = objects.get(track_id), []
        rule = str(event.data.get("rule"))
        if found is not None and event.type == "track_started" and rule in found.rules:
            # the same rule begins it again: the tracker began anew, and nobody told of the end
            drafts.append(self._end(event, objects.pop(track_id)))
            found = None
        if found is None:
            if event.type not in _SIGHTS or not self._will_end(event, label):
                return drafts
            found = objects[track_id] = begin(event, label)
            while len(objects) > MAX_OBJECTS:
                drafts.append(self._end(event, objects.pop(next(iter(objects)))))
        if event.type == "track_started":
            found.rules.add(rule)
        found.see(event, self._settings.detect_size)
        if event.type == "zone_entered" and zone not in found.zones:
            found.zones.append(zone)
            if zone not in found.entered:
                found.entered.append(zone)
        elif event.type == "zone_left" and zone in found.zones:
            found.zones.remove(zone)
        tracked = bool(self._heeding(event.stream, label))
        if event.type == "track_ended" or (not tracked and event.type == "zone_left" and not found.zones):
            del objects[track_id]
            return [*drafts, self._end(event, found)]
        before, after = found.published, found.told()
        if event.type == "track_started" and before is not None:
            return drafts  # a zone or line told of it in the same frame
        found.published = after
        return [*drafts, self._change("update" if before else "new", before or after, after, event)]

    def _heeding(self, camera: str, label: str) -> list[RuleFacts]:
        return [rule for rule in self._trackers.get(camera, ()) if not rule.classes or label in rule.classes]

    def _will_end(self, event: Event, label: str) -> bool:
        """Whether an object that begins with this event will also be told the end of."""
        return bool(self._heeding(event.stream, label)) or event.type in {"zone_entered", "track_started"}

    def _end(self, event: Event, gone: FrigateObject) -> Draft:
        after = gone.told(end_s=event.wall_time_s)
        return self._change("end", gone.published or after, after, event)

    def _change(
        self, kind: str, before: dict[str, JsonValue], after: dict[str, JsonValue], event: Event
    ) -> Draft:
        return self._json("events", {"type": kind, "before": before, "after": after}, event, event.priority)

    def _camera_counts(self, event: Event) -> list[Draft]:
        counts = Counter(each.label for each in self._objects.get(event.stream, {}).values())
        drafts = self._counts(event.stream, counts, sum(counts.values()), event)
        motion = f"{event.stream}/motion"
        value = "ON" if counts else "OFF"
        if self._said.get(motion) != value:
            self._said[motion] = value
            drafts.append(self._draft(motion, value.encode(), event, "telemetry", latest=True))
        return drafts

    def _zone_counts(self, event: Event, zone: str) -> list[Draft]:
        """A zone of one name on several cameras is one zone to Frigate."""
        counts: Counter[str] = Counter()
        total = 0
        for camera in self._cameras or (event.stream,):
            labels = self._inside.get((camera, zone), {}).values()
            counts.update(labels)
            total += self._occupancy.get((camera, zone), 0)
        return self._counts(topic_level(zone), counts, total, event)

    def _counts(self, place: str, counts: Counter[str], total: int, event: Event) -> list[Draft]:
        known = {topic for topic in self._said if topic.startswith(f"{place}/") and topic.count("/") == 1}
        numbers = dict.fromkeys(known - {f"{place}/motion"}, 0)
        for label, number in counts.items():
            numbers[f"{place}/{topic_level(label)}"] = number
        numbers[f"{place}/all"] = total
        drafts = []
        for topic, number in sorted(numbers.items()):
            if self._said.get(topic) != str(number):
                self._said[topic] = str(number)
                drafts += [
                    self._draft(each, str(number).encode(), event, "telemetry", latest=True)
                    for each in (topic, f"{topic}/active")
                ]
        return drafts

    def _keyword(self, event: Event) -> list[Draft]:
        keyword = event.data.get("keyword")
        if not isinstance(keyword, str):
            return []
        topic = f"{event.stream}/audio/{topic_level(keyword)}"
        return [self._draft(topic, value, event, event.priority) for value in (b"ON", b"OFF")]

    def _picture(self, event: Event) -> list[Draft]:
        """A picture that names no object is one of every object that is there."""
        label = event.data.get("label")
        labels: Iterable[str] = [label] if isinstance(label, str) else ()
        labels = labels or sorted({each.label for each in self._objects.get(event.stream, {}).values()})
        return [
            self._draft(
                f"{event.stream}/{topic_level(each)}/snapshot",
                event.picture,
                event,
                "image",
                retain=True,
                latest=True,
            )
            for each in labels
        ]

    def _health(self, event: Event) -> list[Draft]:
        stats = health_as_stats(event.data, self._cameras, self._clock.wall_s(), self._facts.version)
        drafts = [self._json("stats", stats, event, "telemetry", latest=True)]
        cameras = stats["cameras"]
        for name, camera in cameras.items() if isinstance(cameras, dict) else ():
            if not isinstance(camera, dict):
                continue
            topic, value = f"{name}/detect/state", "ON" if camera["detection_enabled"] else "OFF"
            if self._said.get(topic) != value:
                self._said[topic] = value
                drafts.append(
                    self._draft(topic, value.encode(), event, "telemetry", retain=True, latest=True)
                )
        return drafts

    def _json(
        self,
        topic: str,
        value: dict[str, JsonValue],
        event: Event,
        priority: Priority,
        *,
        latest: bool = False,
    ) -> Draft:
        payload = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return self._draft(topic, payload, event, priority, latest=latest)

    def _draft(
        self,
        topic: str,
        payload: bytes,
        event: Event,
        priority: Priority,
        *,
        retain: bool = False,
        latest: bool = False,
    ) -> Draft:
        return Draft(
            f"{self._settings.prefix}/{topic}",
            payload,
            qos=1 if retain else self._settings.qos,
            retain=retain,
            priority=priority,
            stream=event.stream,
            latest=latest,
        )
