"""What is told of a camera that goes away and comes back."""

from __future__ import annotations

from edgeai.sources.connection import ConnectionFacts
from edgeai.types import Event, JsonValue


def connection_event(
    before: ConnectionFacts | None, now: ConnectionFacts, *, stream: str, time_s: float, lost_s: float
) -> Event | None:
    """The event of a change from one state to another; None where it is neither lost nor back.

    before: None at the beginning. time_s: on the stream's clock. lost_s: how long it was away, in seconds.
    """
    was_lost = before is not None and before.lost
    if now.lost and not was_lost:
        data: dict[str, JsonValue] = {"reason": now.problem, "connections": now.connections}
        return Event("camera_lost", stream, time_s, data)
    if was_lost and now.state == "live":
        return Event(
            "camera_back",
            stream,
            time_s,
            {"lost_s": round(max(0.0, lost_s), 1), "connections": now.connections},
        )
    return None
