"""When a message may go over a metered link, and what the link has cost today."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from edgeai.clock import Clock, SystemClock
from edgeai.errors import DataError
from edgeai.sinks.link.settings import LinkSettings, limit_of, window_wait_s
from edgeai.sinks.outbox.message import DROP_ORDER, Message
from edgeai.types import JsonValue, Priority
from edgeai.whole_file import write_whole

_log = logging.getLogger(__name__)

HEADERS_BYTES: Final = (
    70  # of one message beside topic and payload: MQTT, TLS, TCP and IP, where each has a segment
)
_SAVE_EVERY_S: Final = 10.0
_MAX_STATE_BYTES: Final = 4096
_DAY_S: Final = 86400.0


def local_offset_s(wall_s: float) -> float:
    """Seconds that local time is ahead of UTC then."""
    return float(time.localtime(wall_s).tm_gmtoff)


class Meter:
    """Bytes sent today, by class, kept in a small file: a restart begins no new day.

    A day begins at local midnight. A clock that jumps back begins none, and one that jumps ahead begins one early, once.
    """

    def __init__(
        self,
        file: Path | None,
        *,
        clock: Clock | None = None,
        offset_s: Callable[[float], float] = local_offset_s,
    ) -> None:
        self._file = file
        self._clock = clock or SystemClock()
        self._offset_s = offset_s
        self._saved_s = -math.inf
        self.day = 0
        self.spent: dict[Priority, int] = dict.fromkeys(DROP_ORDER, 0)
        self.finished: tuple[int, dict[Priority, int]] | None = None
        """The day that ended and what it cost, until somebody takes it away."""
        self._load()

    def second_of_day(self) -> float:
        wall_s = self._clock.wall_s()
        return (wall_s + self._offset_s(wall_s)) % _DAY_S

    def spend(self, priority: Priority, bytes_: int) -> None:
        """bytes_: below 0 where less was sent than was thought."""
        self._turn_over()
        self.spent[priority] = max(0, self.spent[priority] + bytes_)
        if self._clock.monotonic_s() - self._saved_s >= _SAVE_EVERY_S:
            self.save()

    def left(self, priority: Priority, limit: int | None) -> float:
        """Bytes that may still be sent today."""
        self._turn_over()
        return math.inf if limit is None else limit - self.spent[priority]

    def save(self) -> None:
        self._saved_s = self._clock.monotonic_s()
        if self._file is not None:
            with contextlib.suppress(DataError):  # a full disk: the outbox says so
                write_whole(self._file, json.dumps({"day": self.day, "spent": self.spent}))

    def _turn_over(self) -> None:
        wall_s = self._clock.wall_s()
        day = int((wall_s + self._offset_s(wall_s)) // _DAY_S)
        if day > self.day:
            if self.day:
                self.finished = (self.day, dict(self.spent))
            self.day = day
            self.spent = dict.fromkeys(DROP_ORDER, 0)
            self.save()

    def _load(self) -> None:
        if self._file is None:
            return
        try:
            with self._file.open("rb") as file:
                state = json.loads(file.read(_MAX_STATE_BYTES))
            self.day = int(state["day"])
            for priority in DROP_ORDER:
                self.spent[priority] = max(0, int(state["spent"][priority]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("%s: cannot be read (%s); today's bytes count from 0", self._file, error)
            self.day = 0
            self.spent = dict.fromkeys(DROP_ORDER, 0)


class LinkGate:
    """The Gate of a link with LinkSettings. For the thread of its drain, `take_reports` too.

    ratio: of what a class's messages come to on the link, told by LinkTransport, so that a budget is in bytes sent.
    """

    def __init__(self, settings: LinkSettings, meter: Meter) -> None:
        self._settings = settings
        self.meter = meter
        self.ratio = 1.0
        self._over: set[Priority] = set()

    def wait_s(self, message: Message, *, now_s: float) -> float:
        priority = message.priority
        if priority == "alarm":
            return 0.0
        settings = self._settings
        if settings.gather_s:
            tick_s = now_s // settings.gather_s * settings.gather_s
            # put by an earlier process, on another clock: it has waited enough
            if tick_s < message.monotonic_s <= now_s:
                return tick_s + settings.gather_s - now_s
        if priority in settings.window_classes and settings.windows:
            wait_s = window_wait_s(settings.windows, self.meter.second_of_day())
            if wait_s > 0:
                return wait_s
        limit = limit_of(settings, priority)
        if limit is None or self.meter.left(priority, limit) >= self._cost(message):
            self._over.discard(priority)
            return 0.0
        if priority not in self._over:
            self._over.add(priority)
            _log.warning("link: today's %d bytes for class %s are used up; the rest waits", limit, priority)
        return _DAY_S - self.meter.second_of_day()

    def passed(self, message: Message) -> None:
        self.meter.spend(message.priority, self._cost(message))

    def take_reports(self) -> list[tuple[str, dict[str, JsonValue]]]:
        finished, self.meter.finished = self.meter.finished, None
        if finished is None:
            return []
        day, spent = finished
        limits = {priority: limit_of(self._settings, priority) for priority in DROP_ORDER}
        date = time.strftime("%Y-%m-%d", time.gmtime(day * _DAY_S))
        facts = {"day": date, "bytes": dict(spent), "limits": limits}
        return [("link_report", cast("dict[str, JsonValue]", facts))]

    def _cost(self, message: Message) -> int:
        size = len(message.topic.encode()) + len(message.payload) + HEADERS_BYTES
        return round(size * self.ratio) if message.priority == "event" else size
