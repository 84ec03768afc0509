"""Coming into, being in and going out of a zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from edgeai.stages.geometry import Anchor, Fraction, Point, distance_to_outline, inside_polygon, polygon_area
from edgeai.stages.rules.rule import Rule, RuleSettings, Scene, Seen, count_of
from edgeai.types import Event, JsonValue


class ZoneSettings(RuleSettings):
    """A polygon that tracks enter and leave.

    polygon: its corners, [x, y] as fractions of the frame from the top left. anchor: the point of a box that is in it or
    not. hysteresis: how far from the outline, in frame heights, a track must get for a change to be believed. report: which
    events to send.
    """

    kind: Literal["zone"] = "zone"
    polygon: Annotated[tuple[Point, ...], Field(min_length=3, max_length=200)]
    anchor: Anchor = "bottom"
    hysteresis: Fraction = 0.01
    report: tuple[Literal["enter", "leave", "occupancy"], ...] = ("enter", "leave", "occupancy")

    @field_validator("polygon")
    @classmethod
    def _has_area(cls, polygon: tuple[Point, ...]) -> tuple[Point, ...]:
        if polygon_area(np.asarray(polygon, np.float64)) < 1e-6:
            raise ValueError("the polygon must have an area")
        return polygon


class ZoneRule(Rule):
    """Tells when a track enters and leaves the polygon, and how many are in it.

    The first sight of a track decides at once; after that it must be farther than `hysteresis` from the outline
    for a change to be believed. A track that ends inside leaves with reason "track_ended".
    """

    settings: ZoneSettings

    def __init__(self, settings: ZoneSettings, *, labels: Sequence[str]) -> None:
        self.settings = settings
        super().__init__(labels)
        self._polygon = np.array(settings.polygon, np.float64)
        self._inside: dict[int, tuple[float, str]] = {}
        self._outside: set[int] = set()
        self._entered = 0
        self._left = 0

    def update(self, scene: Scene) -> list[Event]:
        events: list[Event] = []
        occupancy = len(self._inside)
        seen = self._seen(scene, self.settings.anchor)
        if seen:
            stretch = np.array((scene.aspect, 1.0))
            points, polygon = np.array([one.point for one in seen]) * stretch, self._polygon * stretch
            within = inside_polygon(points, polygon).tolist()
            clear = (distance_to_outline(points, polygon) > self.settings.hysteresis).tolist()
            for one, is_in, is_clear in zip(seen, within, clear, strict=True):
                known = one.track_id in self._inside or one.track_id in self._outside
                if known and not is_clear:
                    continue
                if is_in and one.track_id not in self._inside:
                    events += self._enter(scene, one)
                elif not is_in and one.track_id in self._inside:
                    events += self._leave(scene, one.track_id, "left", one.row)
                    self._outside.add(one.track_id)
                elif not is_in:
                    self._outside.add(one.track_id)
        for track_id in scene.ended:
            self._outside.discard(track_id)
            if track_id in self._inside:
                events += self._leave(scene, track_id, "track_ended", None)
        if len(self._inside) != occupancy and "occupancy" in self.settings.report:
            data: dict[str, JsonValue] = {"occupancy": len(self._inside)}
            events.append(self._event("zone_occupancy", scene, data, priority="telemetry"))
        return events

    def totals(self) -> dict[str, JsonValue]:
        by_class: dict[str, JsonValue] = {}
        labels = [label for _, label in self._inside.values()]
        for label in sorted(set(labels)):
            by_class[label] = labels.count(label)
        return {
            "entered": self._entered,
            "left": self._left,
            "occupancy": len(self._inside),
            "occupancy_by_class": by_class,
        }

    def _restore(self, totals: Mapping[str, JsonValue]) -> None:
        entered, left = count_of(totals, "entered"), count_of(totals, "left")
        if left > entered:
            raise ValueError("more left than entered")
        self._entered = self._left = entered

    def _enter(self, scene: Scene, one: Seen) -> list[Event]:
        self._outside.discard(one.track_id)
        self._inside[one.track_id] = (scene.time_s, one.label)
        self._entered += 1
        if "enter" not in self.settings.report:
            return []
        data: dict[str, JsonValue] = {
            "track_id": one.track_id,
            "label": one.label,
            "count": self._entered,
            "occupancy": len(self._inside),
        }
        return [self._event("zone_entered", scene, data, one.row)]

    def _leave(self, scene: Scene, track_id: int, reason: str, row: int | None) -> list[Event]:
        since_s, label = self._inside.pop(track_id)
        self._left += 1
        if "leave" not in self.settings.report:
            return []
        data: dict[str, JsonValue] = {
            "track_id": track_id,
            "label": label,
            "reason": reason,
            "dwell_s": round(scene.time_s - since_s, 3),
            "count": self._left,
            "occupancy": len(self._inside),
        }
        return [self._event("zone_left", scene, data, row)]
