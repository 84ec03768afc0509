"""Counting across a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
from pydantic import model_validator

from edgeai.stages.geometry import Anchor, Fraction, Point, position_along, signed_distance
from edgeai.stages.rules.rule import Rule, RuleSettings, Scene, Seen, count_of, parts_of
from edgeai.types import Event, JsonValue

_BY_CLASS: Final = "by_class"


class LineSettings(RuleSettings):
    """A counting line.

    a, b: its ends, [x, y] as fractions of the frame from the top left. forward: the name of crossing from the left of one
    who goes from a to b to the right. backward: the name of the other direction. anchor: the point of a box that crosses.
    hysteresis: how far from the line, in frame heights, a track must get for its side to be believed.
    """

    _IDENTITY: ClassVar = (*RuleSettings._IDENTITY, "forward", "backward")

    kind: Literal["line"] = "line"
    a: Point
    b: Point
    forward: str = "in"
    backward: str = "out"
    anchor: Anchor = "bottom"
    hysteresis: Fraction = 0.01

    @model_validator(mode="after")
    def _has_length(self) -> LineSettings:
        if self.a == self.b:
            raise ValueError("a and b must be different points")
        if self.forward == self.backward:
            raise ValueError("forward and backward must be different names")
        if _BY_CLASS in (self.forward, self.backward):
            raise ValueError(
                f"no direction can be called {_BY_CLASS!r}: totals have that beside the directions"
            )
        return self


@dataclass(slots=True)
class _LineMemory:
    """Of the track's last point: distance from the line, right of it positive, and place along it, a 0 to b 1.

    side: -1 or 1, the last that was believed, 0 before the first. net: passages through a-b since, with direction.
    """

    distance: float
    place: float
    side: int
    net: int = 0


class LineRule(Rule):
    """Counts tracks that get across the line from a to b, by direction.

    A track is believed to be on a side once it is farther than `hysteresis` from the line. Between two believed
    sides its path may wobble over the line: what counts is the sum of its passages through the stretch from a to b,
    so jitter and stops on the line count once or not at all, and a way round the end counts nothing.
    A track that first appears within the hysteresis has no side yet: it must be seen clear of the line before.
    """

    settings: LineSettings

    def __init__(self, settings: LineSettings, *, labels: Sequence[str]) -> None:
        self.settings = settings
        super().__init__(labels)
        self._memory: dict[int, _LineMemory] = {}
        self._counts = {settings.forward: 0, settings.backward: 0}
        self._by_class: dict[str, dict[str, int]] = {}

    def update(self, scene: Scene) -> list[Event]:
        events = []
        seen = self._seen(scene, self.settings.anchor)
        if seen:
            # in units of the frame's height, so that an angle is an angle
            stretch = np.array((scene.aspect, 1.0))
            a, b = np.array(self.settings.a) * stretch, np.array(self.settings.b) * stretch
            points = np.array([one.point for one in seen]) * stretch
            distances, places = signed_distance(points, a, b).tolist(), position_along(points, a, b).tolist()
            for one, distance, place in zip(seen, distances, places, strict=True):
                direction = self._move(one.track_id, distance, place)
                if direction:
                    events.append(self._count(scene, one, direction))
        for track_id in scene.ended:
            self._memory.pop(track_id, None)
        return events

    def totals(self) -> dict[str, JsonValue]:
        by_class: dict[str, JsonValue] = {label: dict(counts) for label, counts in self._by_class.items()}
        return {**self._counts, _BY_CLASS: by_class}

    def _restore(self, totals: Mapping[str, JsonValue]) -> None:
        counts = {direction: count_of(totals, direction) for direction in self._counts}
        by_class = {}
        for label, of_class in parts_of(totals, _BY_CLASS, self.labels).items():
            if not isinstance(of_class, dict):
                raise TypeError(f"{label!r} has no counts")
            by_class[label] = {direction: count_of(of_class, direction) for direction in counts}
        for direction, count in counts.items():
            if sum(of_class[direction] for of_class in by_class.values()) != count:
                raise ValueError(f"the classes do not add up to {direction!r}")
        self._counts, self._by_class = counts, by_class

    def _move(self, track_id: int, distance: float, place: float) -> str:
        """Take the track's next point; the direction it has now crossed in, or ""."""
        clear = abs(distance) > self.settings.hysteresis
        side = 1 if distance > 0.0 else -1
        memory = self._memory.get(track_id)
        if memory is None:
            self._memory[track_id] = _LineMemory(distance, place, side if clear else 0)
            return ""
        memory.net += _passage(memory.distance, memory.place, distance, place)
        memory.distance, memory.place = distance, place
        if not clear:
            return ""
        crossed = memory.side == -side and memory.net * side > 0
        memory.side, memory.net = side, 0
        if not crossed:
            return ""
        return self.settings.forward if side > 0 else self.settings.backward

    def _count(self, scene: Scene, one: Seen, direction: str) -> Event:
        self._counts[direction] += 1
        of_class = self._by_class.setdefault(one.label, dict.fromkeys(self._counts, 0))
        of_class[direction] += 1
        data: dict[str, JsonValue] = {
            "track_id": one.track_id,
            "label": one.label,
            "direction": direction,
            "count": self._counts[direction],
            "totals": {**self._counts},
        }
        return self._event("line_crossed", scene, data, one.row)


def _passage(before: float, from_place: float, after: float, to_place: float) -> int:
    """1 or -1 where a step from distance `before` to `after` passes through a-b to its right or left, else 0.

    A point on the line belongs to its left, always: coming to the line and going on are one passage together,
    coming and going back are none.
    """
    if (before > 0.0) == (after > 0.0):
        return 0
    place = from_place + before / (before - after) * (to_place - from_place)
    if not 0.0 <= place <= 1.0:
        return 0
    return 1 if after > 0.0 else -1
