"""The last known value of every metric, and which of them changed: report by exception."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgeai.sinks.sparkplug.catalogue import Catalogue, MetricFacts
from edgeai.sinks.sparkplug.datatypes import Scalar
from edgeai.types import JsonValue

MAX_TEXT: Final = 1024
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Known:
    """value None: null. timestamp_ms: when it was taken, on the wall clock; None for one that was never heard of."""

    facts: MetricFacts
    value: Scalar
    timestamp_ms: int | None


@dataclass(slots=True)
class _Slot:
    value: Scalar
    timestamp_ms: int | None = None
    monotonic_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class Changes:
    """number rises with every change, from 1; no two have the same."""

    number: int
    metrics: tuple[Known, ...]


class Values:
    """Thread-safe: streams write on their threads, and the connection reads all at its births."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._lock = threading.Lock()
        self._number = 0
        self._slots = {
            device: {name: _Slot(facts.initial) for name, facts in catalogue.metrics(device).items()}
            for device in ("", *catalogue.devices)
        }

    def update(
        self, device: str, told: Mapping[str, JsonValue], *, wall_s: float, monotonic_s: float
    ) -> Changes | None:
        """Take values by name; what of them is new, None where nothing is.

        Names that are not in the catalogue are passed over, and so is what is older (`monotonic_s`) than what is known:
        threads overtake one another. A value that does not fit its metric's type counts as null.
        """
        known = self._slots.get(device)
        if known is None:
            return None
        timestamp_ms = max(0, round(wall_s * 1e3))
        changed = []
        with self._lock:
            for name, raw in told.items():
                slot = known.get(name)
                if slot is None or monotonic_s < slot.monotonic_s:
                    continue
                facts = self.catalogue.metrics(device)[name]
                value = fit(facts, raw)
                slot.monotonic_s = monotonic_s
                if slot.value == value and (slot.value is None) == (value is None):
                    continue
                slot.value, slot.timestamp_ms = value, timestamp_ms
                changed.append(Known(facts, value, timestamp_ms))
            if not changed:
                return None
            self._number += 1
            return Changes(self._number, tuple(changed))

    def count(self, device: str, name: str) -> int:
        """One more than the value of a counter that only this process moves."""
        with self._lock:
            slot = self._slots.get(device, {}).get(name)
            return slot.value + 1 if slot is not None and isinstance(slot.value, int) else 1

    def snapshot(self) -> tuple[int, dict[str, tuple[Known, ...]]]:
        """The number of the last change, and all values as they are after it, by device ("" for the node)."""
        with self._lock:
            return self._number, {
                device: tuple(
                    Known(self.catalogue.metrics(device)[name], slot.value, slot.timestamp_ms)
                    for name, slot in slots.items()
                )
                for device, slots in self._slots.items()
            }


def fit(facts: MetricFacts, raw: JsonValue) -> Scalar:
    """The value as its metric's type has it, rounded to its step; None for one that does not fit."""
    if facts.type == "Boolean":
        return raw if isinstance(raw, bool) else None
    if facts.type == "String":
        return raw[:MAX_TEXT].encode(errors="replace").decode() if isinstance(raw, str) else None
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        return None
    if facts.type == "Int64":
        whole = round(raw)
        return whole if -_INT64 <= whole < _INT64 else None
    return round(round(raw / facts.step) * facts.step, 6) if facts.step else float(raw)
