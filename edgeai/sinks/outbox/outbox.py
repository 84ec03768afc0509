"""Messages that wait for delivery, on the disk: put, peek, ack. What `put` reported survives kill -9 and a power cut."""

from __future__ import annotations

import logging
import math
import threading
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from edgeai.clock import Clock, SystemClock
from edgeai.errors import OutboxError
from edgeai.sinks.outbox.message import DROP_ORDER, RANK, Draft, Lane, Message
from edgeai.sinks.outbox.seal import Seal
from edgeai.sinks.outbox.store import Incident, MessageStore
from edgeai.sinks.outbox.table import size_of
from edgeai.types import Priority

_log = logging.getLogger(__name__)

# a wall clock that says less was never set (a Pi without a battery begins in 1970): no age can be told from it
_SANE_WALL_S: Final = 1_577_836_800.0  # 2020-01-01


class Outbox:
    """An ordered queue in an SQLite file (WAL, synchronous=FULL), for one process and any number of its threads.

    - `put` and `put_many` return when the messages are on the disk. Threads that put at the same time share one
      commit; no put waits for more than the commit in progress and its own.
    - A message leaves on `ack` only, unless the bounds push it out: more than `max_bytes` (image, telemetry, event,
      alarm; the oldest first within a class) or older than `max_age_s`. Every one is counted in `dropped`.
    - Age runs on the monotonic clock while the process lives, so that a jump of the wall clock drops nothing.
    - Where the disk fails (full, read-only, gone) messages wait in memory, `memory_bytes` at most, and go to the disk
      when it can be written again. A corrupt file is set aside as <name>.corrupt-<n> and a new one begun.
    - With `seal` payloads are encrypted in the file; topics, names of streams and times are not.

    max_bytes counts topics, payloads and 64 bytes a message; the file may be half as large again.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int = 64 << 20,
        max_age_s: float = 7 * 86400.0,
        memory_bytes: int = 8 << 20,
        retry_disk_s: float = 5.0,
        seal: Seal | None = None,
        clock: Clock | None = None,
    ) -> None:
        if max_bytes < 1 or memory_bytes < 1 or not max_age_s > 0:
            raise OutboxError(
                f"max_bytes, memory_bytes and max_age_s must be above 0, got {max_bytes}, {memory_bytes}, {max_age_s}"
            )
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._memory_bytes = min(memory_bytes, max_bytes)
        self._retry_disk_s = retry_disk_s
        self._seal = seal
        self._clock = clock or SystemClock()
        # taken in this order where both are
        self._store_lock = threading.Lock()  # the store and all that is not named below
        self._queue_lock = threading.Lock()  # numbers and queue; never held while the disk is written
        self._queue: list[Message] = []
        self._queued_seq = 0
        self._stored_seq = 0
        self._first_seq = 1
        self._store: MessageStore | None = None
        self._lanes: dict[Lane, int] = {}
        self._places: dict[tuple[str, str], int] = {}  # by destination and stream; of the queue's lock
        self._expire_at_s = self._opened_monotonic_s = self._opened_wall_s = 0.0
        self._dropped: dict[Priority, int] = dict.fromkeys(DROP_ORDER, 0)
        self._overfull = False

    def open(self) -> None:
        """Open or make the file; nothing where it is open. Raises OutboxError where the path is a folder or another
        program's database, or another process has it open; a disk that cannot be written is a warning only.
        """
        with self._store_lock:
            if self._store is not None:
                return
            store = MessageStore(
                self.path,
                max_bytes=self._max_bytes,
                memory_bytes=self._memory_bytes,
                retry_disk_s=self._retry_disk_s,
                clock=self._clock,
                seal=self._seal,
            )
            last_seq = store.open()
            self._opened_monotonic_s = self._expire_at_s = self._clock.monotonic_s()
            self._opened_wall_s = self._clock.wall_s()
            self._queued_seq = self._stored_seq = last_seq
            self._first_seq = last_seq + 1
            self._lanes = store.lanes()
            self._places.clear()
            self._store = store

    def close(self) -> None:
        """Close the file; what waits stays in it. Safe to call twice."""
        with self._store_lock:
            if self._store is None:
                return
            self._store_queue(self._store)
            self._store.close()
            self._store = None

    def __enter__(self) -> Outbox:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def put(self, draft: Draft) -> int:
        """Store one message; its number. Raises as put_many does."""
        return self.put_many((draft,))[0]

    def put_many(self, drafts: Sequence[Draft]) -> list[int]:
        """Store messages, all or none, with one commit; their numbers, which follow each other without a gap.

        Raises OutboxError where the outbox is closed or a message alone exceeds max_bytes, and whatever a draft's
        body raises; nothing is stored then.
        """
        if not drafts:
            return []
        with self._queue_lock:
            wall_s, monotonic_s = self._clock.wall_s(), self._clock.monotonic_s()
            places: dict[tuple[str, str], int] = {}
            messages = [
                self._numbered(draft, seq, self._place(draft, places), wall_s, monotonic_s)
                for seq, draft in enumerate(drafts, self._queued_seq + 1)
            ]
            if self._store is None:
                raise OutboxError(f"outbox {self.path} is not open", next_step="use it inside `with`")
            self._queue += messages
            self._queued_seq = last_seq = messages[-1].seq
            self._places.update(places)
        with self._store_lock:
            if self._stored_seq < last_seq:  # else the thread before has stored ours too
                if self._store is None:
                    raise OutboxError(f"outbox {self.path} was closed")
                self._store_queue(self._store)
        return [message.seq for message in messages]

    def peek(self, n: int, *, after: int = 0, lane: Lane | None = None) -> list[Message]:
        """The first `n` messages, of one lane or of all, with numbers above `after`, in order; they stay."""
        with self._store_lock:
            if self._store is None:
                return []
            self._expire(self._store)
            rewinds = self._store.rewinds
            found = self._store.peek(n, after=after, lane=lane)
            if self._store.rewinds != rewinds:
                self._look_at_lanes(self._store)
            return found

    @property
    def lanes(self) -> Mapping[Lane, int]:
        """The newest number stored in each lane; what it names may be gone by now. Another object after each change."""
        return self._lanes

    def ack(self, seqs: Iterable[int]) -> int:
        """Delete delivered messages; how many of them were there. A power cut may bring them back, hence the ids in
        the payloads.
        """
        wanted = list(seqs)
        with self._store_lock:
            return self._store.delete(wanted) if self._store is not None and wanted else 0

    def discard(self, destination: str) -> int:
        """Drop everything on its way to a destination, counted as dropped; how many there were."""
        with self._store_lock:
            if self._store is None:
                return 0
            ranks = self._store.discard([lane for lane in self._lanes if lane.destination == destination])
            self._lanes = {lane: seq for lane, seq in self._lanes.items() if lane.destination != destination}
            self._count(ranks)
            return len(ranks)

    @property
    def pending(self) -> int:
        """Messages that wait, on the disk and in memory."""
        with self._store_lock:
            return self._store.count if self._store is not None else 0

    @property
    def pending_by_destination(self) -> dict[str, int]:
        """Messages that wait, by destination; only those for which some do."""
        with self._store_lock:
            return self._store.count_by_destination() if self._store is not None else {}

    @property
    def pending_bytes(self) -> int:
        with self._store_lock:
            return self._store.size_bytes if self._store is not None else 0

    @property
    def oldest_s(self) -> float:
        """How long the oldest message waits, in seconds; 0 where none waits. On the monotonic clock for what this
        process put, else on the wall clock, as far as that can be believed.
        """
        with self._store_lock:
            found = self._store.peek(1, after=0) if self._store is not None else []
        if not found:
            return 0.0
        oldest = found[0]
        up_s = self._clock.monotonic_s() - self._opened_monotonic_s
        if oldest.seq >= self._first_seq:
            return max(0.0, self._clock.monotonic_s() - oldest.monotonic_s)
        return (
            max(up_s, self._opened_wall_s + up_s - oldest.wall_s) if oldest.wall_s >= _SANE_WALL_S else up_s
        )

    def take_incidents(self) -> list[Incident]:
        """What happened to the file since the last call: degraded, recovered, set aside."""
        store = self._store
        if (
            store is None or not store.incidents
        ):  # asked at every step of a drain: a commit must not hold that up
            return []
        with self._store_lock:
            if self._store is None:
                return []
            taken = list(self._store.incidents)
            self._store.incidents.clear()
            return taken

    @property
    def untold(self) -> dict[Priority, int]:
        """Messages dropped and not yet reported, by class; those of earlier runs are remembered in the file."""
        with self._store_lock:
            counts = self._store.untold() if self._store is not None else {}
        return {DROP_ORDER[rank]: count for rank, count in sorted(counts.items())}

    def set_told(self, counts: Mapping[Priority, int]) -> None:
        """Take what a stored report tells off `untold`."""
        with self._store_lock:
            if self._store is not None and counts:
                self._store.set_told({RANK[priority]: count for priority, count in counts.items()})

    @property
    def first_seq(self) -> int:
        """What was put since opening has numbers from here on; the times of earlier messages are on another clock."""
        return self._first_seq

    @property
    def newest_seq(self) -> int:
        """The number of the newest message stored, delivered or not."""
        return self._stored_seq

    @property
    def dropped(self) -> dict[Priority, int]:
        """Messages pushed out by size or age since opening, by class."""
        return dict(self._dropped)

    def retry_disk(self) -> None:
        """Look whether a failing disk is back, at most every `retry_disk_s`; every put and peek does, an idle drain asks."""
        if self.on_disk:
            return
        with self._store_lock:
            store = self._store
            if store is not None and store.degraded:
                rewinds = store.rewinds
                store.retry_if_due()
                if store.rewinds != rewinds:
                    self._look_at_lanes(store)

    @property
    def on_disk(self) -> bool:
        """False while the disk fails and messages wait in memory."""
        store = self._store
        return store is not None and not store.degraded

    @property
    def rewinds(self) -> int:
        """Changes when messages below numbers already peeked came into view: a reader then begins anew."""
        store = self._store
        return store.rewinds if store is not None else 0

    def _place(self, draft: Draft, taken: dict[tuple[str, str], int]) -> int:
        if draft.latest or isinstance(draft.body, bytes):
            return 0
        key = (draft.destination, draft.stream)
        taken[key] = place = taken.get(key, self._places.get(key, 0)) + 1
        return place

    def _numbered(self, draft: Draft, seq: int, place: int, wall_s: float, monotonic_s: float) -> Message:
        body = draft.body if isinstance(draft.body, bytes) else draft.body(seq, place)
        if draft.happened_s is not None:
            monotonic_s = min(monotonic_s, draft.happened_s)
        message = Message(
            seq, draft.topic, body, draft.qos, draft.retain, draft.priority, draft.stream, wall_s, monotonic_s,
            draft.latest, draft.destination,
        )  # fmt: skip
        if size_of(message) > self._memory_bytes:
            raise OutboxError(
                f"a message on {draft.topic} has {size_of(message)} bytes, the outbox holds {self._memory_bytes}",
                next_step="raise the outbox's max_bytes or send less",
            )
        return message

    def _store_queue(self, store: MessageStore) -> None:
        with self._queue_lock:
            batch, self._queue = self._queue, []
        if not batch:
            return
        try:
            self._expire(store)
            rewinds = store.rewinds
            dropped = store.insert(batch)
        except BaseException:
            # Ctrl-C in the thread that happened to commit must not lose what other threads wait for
            stored = store.present([message.seq for message in batch])
            with self._queue_lock:
                self._queue[:0] = [message for message in batch if message.seq not in stored]
            raise
        lanes = {message.lane: message.seq for message in batch}
        self._lanes = self._lanes | lanes  # a new one: readers have no lock
        self._stored_seq = batch[-1].seq
        if store.rewinds != rewinds:
            self._look_at_lanes(store)
        self._count(dropped)
        self._tell_fullness(store, bool(dropped))

    def _look_at_lanes(self, store: MessageStore) -> None:
        """A disk that is back may hold lanes of an earlier run."""
        self._lanes = self._lanes | {
            lane: max(seq, self._lanes.get(lane, 0)) for lane, seq in store.lanes().items()
        }

    def _expire(self, store: MessageStore) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._expire_at_s or math.isinf(self._max_age_s):
            return
        self._expire_at_s = now_s + min(60.0, self._max_age_s / 10)
        up_s = now_s - self._opened_monotonic_s
        # what an earlier process put has an age on the wall clock only, read once at opening; where that cannot be
        # right, the age counts from opening
        outlived = up_s > self._max_age_s
        ranks = store.expire(
            monotonic_s=now_s - self._max_age_s,
            first_seq=self._first_seq,
            wall_s=math.inf if outlived else self._opened_wall_s + up_s - self._max_age_s,
            sane_wall_s=-math.inf if outlived else _SANE_WALL_S,
        )
        if ranks:
            self._count(ranks)
            _log.warning(
                "outbox %s: dropped %d messages older than %g s", self.path, len(ranks), self._max_age_s
            )

    def _count(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            self._dropped[DROP_ORDER[rank]] += 1

    def _tell_fullness(self, store: MessageStore, dropping: bool) -> None:
        if dropping and not self._overfull:
            self._overfull = True
            _log.warning(
                "outbox %s: full (%d bytes), dropping images first, alarms last", self.path, store.limit_bytes
            )
        elif self._overfull and not dropping and store.size_bytes < 0.9 * store.limit_bytes:
            self._overfull = False
            _log.warning("outbox %s: has room again; dropped so far: %s", self.path, self._dropped)
