"""The beginning and the end of every track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeai.stages.rules.rule import Rule, RuleName, RuleSettings, Scene, count_of, parts_of
from edgeai.types import Event, JsonValue


class TrackSettings(RuleSettings):
    """Tells of every track when it is confirmed and when it is given up."""

    kind: Literal["track"] = "track"
    name: RuleName = "tracks"


@dataclass(slots=True)
class _TrackMemory:
    label: str
    first_s: float
    last_s: float


class TrackRule(Rule):
    """Tells when a track is confirmed and when it is given up, with how long it was seen."""

    settings: TrackSettings

    def __init__(self, settings: TrackSettings, *, labels: Sequence[str]) -> None:
        self.settings = settings
        super().__init__(labels)
        self._memory: dict[int, _TrackMemory] = {}
        self._by_class: dict[str, int] = {}
        self._ended = 0

    def update(self, scene: Scene) -> list[Event]:
        events = []
        for one in self._seen(scene, "centre"):
            if one.track_id in self._memory:
                self._memory[one.track_id].last_s = scene.time_s
                continue
            self._memory[one.track_id] = _TrackMemory(one.label, scene.time_s, scene.time_s)
            self._by_class[one.label] = self._by_class.get(one.label, 0) + 1
            data: dict[str, JsonValue] = {
                "track_id": one.track_id,
                "label": one.label,
                "count": sum(self._by_class.values()),
            }
            events.append(self._event("track_started", scene, data, one.row))
        for track_id in scene.ended:
            memory = self._memory.pop(track_id, None)
            if memory is None:
                continue
            self._ended += 1
            data = {
                "track_id": track_id,
                "label": memory.label,
                "first_s": round(memory.first_s, 3),
                "last_s": round(memory.last_s, 3),
                "duration_s": round(memory.last_s - memory.first_s, 3),
                "count": self._ended,
            }
            events.append(self._event("track_ended", scene, data))
        return events

    def totals(self) -> dict[str, JsonValue]:
        return {
            "started": sum(self._by_class.values()),
            "ended": self._ended,
            "now": len(self._memory),
            "by_class": {**self._by_class},
        }

    def _restore(self, totals: Mapping[str, JsonValue]) -> None:
        started, ended = count_of(totals, "started"), count_of(totals, "ended")
        known = parts_of(totals, "by_class", self.labels)
        by_class = {label: count_of(known, label) for label in known}
        if sum(by_class.values()) != started or ended > started:
            raise ValueError("they do not add up")
        self._by_class, self._ended = by_class, started
