"""What a device tells of itself: health and information about the device, counts of each stream."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from edgeai import __version__
from edgeai.clock import Clock, clock_synced
from edgeai.config import HealthSettings
from edgeai.hardware import fact_text, read_hardware
from edgeai.sinks.payload import iso_utc
from edgeai.sinks.store_and_forward import Counters
from edgeai.stream import TOTALS_EVERY_S, Overrides, State, Stream
from edgeai.types import DEVICE_STREAM, Event, JsonValue

_MIB: Final = 1 << 20


@dataclass(slots=True)
class _Meter:
    """Items a second between two readings, the first of them when the stream was first seen."""

    frames: int
    since_s: float

    def read(self, frames: int, now_s: float) -> float:
        gone_s, came = now_s - self.since_s, frames - self.frames
        self.frames, self.since_s = frames, now_s
        return round(came / gone_s, 2) if gone_s > 0 else 0.0


@dataclass(slots=True)
class _Told:
    """Of one stream: what was last told of its totals, and when."""

    of_health: _Meter
    of_totals: _Meter
    totals: dict[str, JsonValue] = field(default_factory=dict)
    at_s: float = 0.0


class Health:
    """A chore of the runtime: `step` tells what is due. Nothing here is done on a stream's thread.

    Events, all of priority "telemetry": "info" at the start and when the streams are others, "health" every settings.every_s and, a second after
    the last at the soonest, when a stream's state or overrides have changed, both of the stream "_device";
    "totals" of a stream when they have changed, once a second at most, and with every health.
    """

    def __init__(
        self,
        settings: HealthSettings,
        *,
        streams: Callable[[], Sequence[Stream]],
        state: Callable[[Stream], State],
        send: Callable[[Sequence[Event]], None],
        counters: Callable[[], Counters] | None,
        folder: Path,
        clock: Clock,
    ) -> None:
        """state: what a stream does. counters: of the sink, None for one that has none. folder: whose disk is told; it need not be there yet."""
        self._settings = settings
        self._streams = streams
        self._state = state
        self._send = send
        self._counters = counters
        self._folder = folder
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._health_due_s = self._began_s + settings.every_s
        self._health_at_s = self._began_s
        self._told_state: list[tuple[str, State, Overrides]] = [
            (each.name, state(each), each.overrides) for each in streams()
        ]
        self._informed_of: tuple[Stream, ...] | None = None
        self._told: dict[str, _Told] = {}
        self._process = psutil.Process()
        self._process.cpu_percent(None)  # each call tells of the time since the one before

    def step(self) -> None:
        """Tell what is due now."""
        now_s = self._clock.monotonic_s()
        events: list[Event] = []
        streams = tuple(self._streams())
        if streams != self._informed_of:
            self._informed_of = streams
            events.append(self._event("info", self._info(), now_s))
        state = [(each.name, self._state(each), each.overrides) for each in streams]
        changed = state != self._told_state and now_s - self._health_at_s >= TOTALS_EVERY_S
        due = now_s >= self._health_due_s or changed
        if due:
            self._told_state, self._health_at_s = state, now_s
            self._health_due_s = now_s + self._settings.every_s
            events.append(self._event("health", self._health(now_s), now_s))
        for stream in streams:
            events += self._totals(stream, now_s, due=due)
        if events:
            self._send(events)

    def close(self) -> None:
        """Tell the last counts and the last health; at the run's end, while the sink is still open."""
        self._health_due_s = self._clock.monotonic_s()
        self.step()

    def _event(self, kind: str, data: dict[str, JsonValue], now_s: float) -> Event:
        return Event(kind, DEVICE_STREAM, now_s - self._began_s, data, priority="telemetry")

    def _totals(self, stream: Stream, now_s: float, *, due: bool) -> list[Event]:
        told = self._known(stream, now_s)
        totals = stream.totals
        changed = totals != told.totals and now_s - told.at_s >= TOTALS_EVERY_S
        if not due and not changed:
            return []
        told.totals, told.at_s = totals, now_s
        data: dict[str, JsonValue] = {
            "rules": totals,
            "fps": told.of_totals.read(stream.report.frames, now_s),
        }
        return [Event("totals", stream.name, stream.time_s, data, priority="telemetry")]

    def _known(self, stream: Stream, now_s: float) -> _Told:
        frames = stream.report.frames
        known = self._told.get(stream.name)
        if known is None or frames < known.of_totals.frames:  # a new one, or another of that name
            known = _Told(_Meter(0, self._began_s if known is None else now_s), _Meter(0, now_s))
            self._told[stream.name] = known
        return known

    def _info(self) -> dict[str, JsonValue]:
        hardware = read_hardware(ask_gpu=False)
        streams: list[JsonValue] = [
            {"name": each.name, "kind": each.kind, "model": each.bundle, "runs": each.model}
            for each in self._streams()
        ]
        return {
            "board": hardware.label,
            "version": __version__,
            "os": hardware.system,
            "python": platform.python_version(),
            "streams": streams,
        }

    def _health(self, now_s: float) -> dict[str, JsonValue]:
        streams = self._streams()
        data: dict[str, JsonValue] = {
            "uptime_s": round(now_s - self._began_s, 1),
            "streams": {each.name: self._of_stream(each, now_s) for each in streams},
            "cpu_percent": self._process.cpu_percent(None),
            "memory": {
                "rss_mb": self._process.memory_info().rss // _MIB,
                "free_mb": psutil.virtual_memory().available // _MIB,
            },
            "disk": {"free_mb": _free_mb(self._folder)},
            "models": {each.name: each.bundle for each in streams},
            "clock": {"synced": clock_synced(), "wall_time": iso_utc(self._clock.wall_s())},
            "temperature_c": _temperature_c(),
        }
        if self._counters is not None:
            data.update(sink_facts(self._counters()))
        return data

    def _of_stream(self, stream: Stream, now_s: float) -> JsonValue:
        frames = stream.report.frames
        percentiles = stream.latencies.percentiles_ms()
        latency: JsonValue = None
        if percentiles is not None:
            latency = {
                name: round(each, 3) for name, each in zip(("p50", "p90", "p99"), percentiles, strict=True)
            }
        return {
            "fps": self._known(stream, now_s).of_health.read(frames, now_s),
            "latency_ms": latency,
            "frames": frames,
            "dropped": stream.dropped(),
            "state": self._state(stream),
            "overrides": stream.overrides.to_json(),
        }


def sink_facts(counters: Counters) -> dict[str, JsonValue]:
    """What health tells of the way to the broker."""
    outbox: dict[str, JsonValue] = {
        "pending": counters.pending,
        "pending_bytes": _optional(counters, "pending_bytes"),
        "oldest_s": _optional(counters, "oldest_s"),
        "on_disk": counters.on_disk,
        "dropped": {str(name): count for name, count in counters.dropped.items()},
    }
    mqtt: dict[str, JsonValue] = {
        "connected": counters.connected,
        "connections": counters.connections,
        "refused": counters.refused,
    }
    return {"outbox": outbox, "mqtt": mqtt}


def _optional(counters: Counters, name: str) -> JsonValue:
    value: JsonValue = getattr(counters, name, None)
    return round(value, 1) if isinstance(value, float) else value


def _free_mb(folder: Path) -> int | None:
    """MiB free where `folder` is, or will be; None where nobody tells."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free // _MIB
        except OSError:
            continue
    return None


def _temperature_c(root: Path = Path("/")) -> float | None:
    """The hottest of the kernel's thermal zones; None without one. A zone that is off says nonsense, or fails."""
    found = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp")):
        text = fact_text(zone).strip()
        if text.lstrip("-").isdecimal() and -40_000 < int(text) < 150_000:
            found.append(int(text) / 1000)
    return round(max(found), 1) if found else None
