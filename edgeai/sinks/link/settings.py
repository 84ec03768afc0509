"""A metered or thin link: what it may cost a day, when it is used, how it is packed."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field

from edgeai.sinks.mqtt.settings import Settings
from edgeai.types import Priority

Encoding: TypeAlias = Literal["gzip", "zstd"]
_DAY_MIN: Final = 24 * 60


def _check_window(text: str) -> str:
    found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", text, re.ASCII)
    if found is None:
        raise ValueError(f"must be hours like 05:30-06:30, is {text[:40]!r}")
    hours, minutes = (int(found[1]), int(found[3])), (int(found[2]), int(found[4]))
    if max(hours) > 23 or max(minutes) > 59:
        raise ValueError(f"must be hours from 00:00 to 23:59, is {text!r}")
    if found[1] + found[2] == found[3] + found[4]:
        raise ValueError(f"must begin and end at different times, is {text!r}")
    return text


Window: TypeAlias = Annotated[str, AfterValidator(_check_window)]
Bytes: TypeAlias = Annotated[int, Field(ge=0, le=1 << 40)]


class DailyBytes(Settings):
    """Bytes a day for each class, on the local calendar; no limit where absent. Alarms are counted and never held.

    event, telemetry, image: bytes a day of this class.
    """

    event: Bytes | None = None
    telemetry: Bytes | None = None
    image: Bytes | None = None


class LinkSettings(Settings):
    """daily_bytes: what is over it waits for the next day. gather_s: events wait so long at most and travel together,
    alarms never. windows: local times of day, as in "05:30-06:30", when window_classes travel. window_classes: they travel
    only in the windows. compress: events that travel together are packed into one message; zstd needs the zstandard
    library. thumbnail_px: a picture's small copy of this width goes first.
    """

    daily_bytes: DailyBytes = DailyBytes()
    gather_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    windows: tuple[Window, ...] = ()
    window_classes: tuple[Literal["event", "telemetry", "image"], ...] = ("image",)
    compress: Encoding | None = None
    thumbnail_px: Annotated[int, Field(ge=16, le=640)] | None = None


def limit_of(settings: LinkSettings, priority: Priority) -> int | None:
    """Bytes a day of a class, None for no limit."""
    limits: dict[Priority, int | None] = {
        "event": settings.daily_bytes.event,
        "telemetry": settings.daily_bytes.telemetry,
        "image": settings.daily_bytes.image,
    }
    return limits.get(priority)


def window_wait_s(windows: tuple[Window, ...], second_of_day: float) -> float:
    """Seconds until one of the windows is open, 0 while one is. They may pass midnight.

    >>> window_wait_s(("05:30-06:30", "23:00-01:00"), 5 * 3600)
    1800.0
    >>> window_wait_s(("23:00-01:00",), 1800.0)
    0.0
    """
    waits = []
    for window in windows:
        begin_s, end_s = (60.0 * (60 * int(t[:2]) + int(t[3:])) for t in window.split("-"))
        length_s = (end_s - begin_s) % (60.0 * _DAY_MIN)
        since_s = (second_of_day - begin_s) % (60.0 * _DAY_MIN)
        waits.append(0.0 if since_s < length_s else 60.0 * _DAY_MIN - since_s)
    return min(waits, default=0.0)
