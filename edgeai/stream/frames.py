"""What is special about the time of a frame's events, and about frames that stand for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeai.stages.tracker import TrackerSettings
from edgeai.types import Event


def of_stills(tracker: TrackerSettings) -> TrackerSettings:
    """One picture is all there is: what is on it counts, unless the configuration says otherwise."""
    if "confirm_hits" in tracker.model_fields_set:
        return tracker
    return tracker.model_copy(update={"confirm_hits": 1})


def captured_at(events: Sequence[Event], arrived_s: float) -> list[Event]:
    """The same, their times those of the frame's capture: what happened did so then, not when it was found out."""
    return [
        replace(
            event,
            monotonic_s=arrived_s,
            wall_time_s=event.wall_time_s - max(0.0, event.monotonic_s - arrived_s),
        )
        for event in events
    ]
