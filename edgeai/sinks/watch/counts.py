"""What a watcher counts by device and stream, and what can be said of numbers that did not come.

`seq` is the number that the device's outbox gave a message, whatever it is and wherever it goes. So a gap in it tells
of a loss only to one who sees all of a device's messages; and even then a newer reading that took the place of a
waiting one (telemetry), and what went to another destination, have used up numbers, and streams overtake each other.
Where the envelope holds `stream_seq`, which counts the events of one stream on their way to one destination, a gap in
that is an event that did not come: dropped by a full outbox, lost, or still on its way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from edgeai.sinks.watch.sequence import MAX_NUMBER, SequenceTracker

if TYPE_CHECKING:
    from edgeai.sinks.watch.messages import Sighting

MAX_ROWS: Final = 512
MAX_TRACKERS: Final = 2048
MAX_LATENCIES: Final = 2000

K = TypeVar("K")
V = TypeVar("V")


class Recent(OrderedDict[K, V], Generic[K, V]):
    """A mapping that forgets what has not been asked for longest."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def put(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)


@dataclass(slots=True)
class Row:
    """One stream of one device. events: different ones. missing: by stream_seq, None where there is none.

    latencies_s: the newest 2,000, of devices that do not call their clock wrong; unsure: some of them do not know.
    """

    device: str
    stream: str
    events: int = 0
    duplicates: int = 0
    late: int = 0
    wrong: int = 0
    missing: int | None = None
    unsure: bool = False
    first_s: float = 0.0
    last_s: float = 0.0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_LATENCIES))

    @property
    def rate_hz(self) -> float | None:
        """Events a second between the first and the last one; None for fewer than two."""
        span_s = self.last_s - self.first_s
        return (self.events - 1) / span_s if self.events > 1 and span_s > 0 else None


@dataclass(frozen=True, slots=True)
class DeviceNumbers:
    """The numbers of one start of a device that were seen, and how many between them were not."""

    device: str
    boot_id: str
    lowest: int
    highest: int
    unseen: int
    exact: bool


class Counts:
    """gaps: whether all of a device's messages are seen, so that unseen numbers are told."""

    def __init__(self, *, gaps: bool) -> None:
        self._gaps = gaps
        self._rows: Recent[tuple[str, str], Row] = Recent(MAX_ROWS)
        self._of_device: Recent[tuple[str, str, int], SequenceTracker] = Recent(MAX_TRACKERS)
        self._of_stream: Recent[tuple[str, str, str, int], SequenceTracker] = Recent(MAX_TRACKERS)
        self._newest: Recent[tuple[str, str, str, str], int] = Recent(MAX_TRACKERS)
        self._with_own: Recent[str, None] = Recent(MAX_TRACKERS)  # devices that count each stream's events
        self._connection = 0
        self.messages = 0

    def restart(self) -> None:
        """After messages may have passed by: a counter goes on where it is seen next."""
        self._connection += 1

    def follow(self, seen: Sighting) -> list[str]:
        """Take in the numbers of an event that came for the first time; its marks."""
        envelope, marks = seen.envelope, []
        device, boot_id = seen.device, str(envelope["boot_id"])[:64]
        seq, own = _number(envelope.get("seq")), _number(envelope.get("stream_seq"))
        if own is not None:
            self._with_own.put(device, None)
        if seq is not None:
            order = (device, boot_id, seen.kind, seen.stream)
            newest = self._newest.get(order, -1)
            if seq < newest:
                marks.append("late")
            self._newest.put(order, max(seq, newest))
            if self._gaps:
                skipped = self._tracker(self._of_device, (device, boot_id, self._connection)).see(seq).skipped
                if skipped and device not in self._with_own:
                    marks.append(f"gap {skipped}")
        if own is not None:
            key = (device, boot_id, seen.stream, self._connection)
            row, tracker = self._row(seen), self._tracker(self._of_stream, key)
            before = tracker.missing
            if skipped := tracker.see(own).skipped:
                marks.append(f"gap {skipped}")
            row.missing = (row.missing or 0) + tracker.missing - before
        return marks

    def add(self, seen: Sighting) -> None:
        """Count what is shown."""
        self.messages += 1
        if "retained" in seen.marks or not (seen.device and (seen.envelope or seen.picture or seen.problem)):
            return
        row = self._row(seen)
        if seen.problem:
            row.wrong += 1
        elif "duplicate" in seen.marks:
            row.duplicates += 1
        else:
            row.events += 1
            row.late += "late" in seen.marks
            row.first_s = row.first_s or seen.arrived_s
            row.last_s = seen.arrived_s
            if seen.latency_s is not None and seen.clock_synced is not False:
                row.latencies_s.append(seen.latency_s)
                row.unsure = row.unsure or seen.clock_synced is None

    @property
    def rows(self) -> list[Row]:
        """By device and stream; those of the newest 512 streams that something came of."""
        found = (row for row in self._rows.values() if row.events or row.duplicates or row.wrong)
        return sorted(found, key=lambda row: (row.device, row.stream))

    @property
    def devices(self) -> list[DeviceNumbers]:
        """By device, its starts in the order in which they were seen; none unless `gaps`."""
        return [
            DeviceNumbers(
                device, boot_id, tracker.lowest, tracker.highest, tracker.missing, exact=tracker.exact
            )
            for (device, boot_id, _), tracker in self._of_device.items()
        ]

    def _row(self, seen: Sighting) -> Row:
        key = (seen.device, seen.stream)
        row = self._rows.get(key) or Row(*key)
        self._rows.put(key, row)
        return row

    @staticmethod
    def _tracker(among: Recent[K, SequenceTracker], key: K) -> SequenceTracker:
        tracker = among.get(key) or SequenceTracker()
        among.put(key, tracker)
        return tracker


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_NUMBER:
        return value
    return None
