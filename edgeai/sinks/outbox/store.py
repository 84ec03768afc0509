"""Messages on the disk, in memory while the disk fails, and on the disk again when it is back. Never raises for it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, TypeAlias

from edgeai.clock import Clock
from edgeai.errors import OutboxError
from edgeai.sinks.outbox.damage import frames_beyond, read_log, salvage, salvage_log
from edgeai.sinks.outbox.files import locked
from edgeai.sinks.outbox.message import Lane, Message
from edgeai.sinks.outbox.seal import Seal, SealError
from edgeai.sinks.outbox.table import ForeignFileError, MessageTable
from edgeai.sqlite_file import check_header, means_corrupt, set_aside
from edgeai.types import JsonValue

_log = logging.getLogger(__name__)

_ALL: Final = 1 << 60
# numbers given while the file has never been read lie above all that it can hold
_UNSEEN_BASE: Final = 1 << 41
_MAX_INCIDENTS: Final = 100

Incident: TypeAlias = tuple[str, dict[str, JsonValue]]


class MessageStore:
    """A MessageTable on the disk with one in memory behind it. Not thread-safe: its owner locks.

    The disk fails (full, read-only, gone): messages go to memory, `memory_bytes` at most, and every `retry_disk_s` an
    attempt is made to move them to the disk. The file is corrupt: it is set aside as <name>.corrupt-<n>, a new one is
    begun, and what can be read of the old one goes into it; so it is with one that is sealed with another key, of which
    nothing can be read. Each is said once.

    rewinds: how often messages below numbers already read came into view; a reader then begins anew.
    incidents: what happened to the file, each as an event's type and facts, for whoever takes them away.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        memory_bytes: int,
        retry_disk_s: float,
        clock: Clock,
        seal: Seal | None = None,
    ) -> None:
        self.path = path
        self._seal = seal
        self.rewinds = 0
        self.incidents: deque[Incident] = deque(maxlen=_MAX_INCIDENTS)
        self._max_bytes = max_bytes
        self._memory_bytes = memory_bytes
        self._retry_disk_s = retry_disk_s
        self._clock = clock
        self._memory = MessageTable(None)
        self._disk: MessageTable | None = None
        self._degraded = False
        self._retry_at_s = 0.0
        self._owed: set[int] = set()  # deleted, but still in a file that cannot be written
        self._unseen_count = 0  # messages in a file that had to be closed
        self._identity = (0, 0)
        self._lock_file: IO[str] | None = None

    def open(self) -> int:
        """Open or make the file; the highest number that was ever in it. Raises OutboxError where the path is a folder
        or another program's database, or where another process has it open.
        """
        if self.path.is_dir():
            raise OutboxError(
                f"outbox {self.path} is a folder", next_step="name a file in it, such as outbox.db"
            )
        try:
            return self._open_disk().last_seq
        except OutboxError:
            self._release()
            raise
        except (sqlite3.Error, OSError) as error:
            self._disk_failed(error)
            return _UNSEEN_BASE + max(0, int(1e3 * self._clock.wall_s()))

    def close(self) -> None:
        if self._degraded:
            self._return_to_disk()
        if self._memory.total_count:
            _log.error(
                "outbox %s: %d messages that waited in memory are lost", self.path, self._memory.total_count
            )
        self._memory.close()
        self._release()

    @property
    def degraded(self) -> bool:
        """True while the disk fails."""
        return self._degraded

    @property
    def count(self) -> int:
        on_disk = self._disk.total_count if self._disk is not None else self._unseen_count
        return max(0, on_disk - len(self._owed)) + self._memory.total_count

    @property
    def size_bytes(self) -> int:
        return (self._disk.total_bytes if self._disk is not None else 0) + self._memory.total_bytes

    @property
    def limit_bytes(self) -> int:
        return self._memory_bytes if self._degraded else self._max_bytes

    def insert(self, batch: Sequence[Message]) -> list[int]:
        """Store all of `batch`, durably where the disk works; the ranks of what was dropped for it."""
        self.retry_if_due()
        for _ in range(2):  # a second time on the new file, where the first was corrupt or removed
            if self._disk is None or self._degraded:
                break
            try:
                self._check_identity()
                return self._disk.write(batch, max_bytes=self._max_bytes)[1]
            except (sqlite3.Error, OSError) as error:
                self._disk_failed(error)
        return self._memory.write(batch, max_bytes=self._memory_bytes)[1]

    def peek(self, n: int, *, after: int, lane: Lane | None = None) -> list[Message]:
        """The first `n` messages, of one lane or of all, with numbers above `after`, in order."""
        self.retry_if_due()
        found = _peek(self._memory, n, after, lane) if self._memory.total_count else []
        if self._disk is not None:
            try:
                on_disk = _peek(self._disk, n + len(self._owed), after, lane)
            except (sqlite3.Error, OSError) as error:
                self._disk_failed(error)
            else:
                found += [message for message in on_disk if message.seq not in self._owed]
                found.sort(key=lambda message: message.seq)
        return found[:n]

    def lanes(self) -> dict[Lane, int]:
        """Every lane that holds messages, with its highest number."""
        lanes = self._memory.lanes()
        if self._disk is not None:
            with contextlib.suppress(sqlite3.Error):  # a failing disk is met, and said, by the next peek
                for lane, seq in self._disk.lanes().items():
                    lanes[lane] = max(seq, lanes.get(lane, 0))
        return lanes

    def count_by_destination(self) -> dict[str, int]:
        """How many messages wait for each destination; delivered ones too while the disk cannot be written."""
        counts = Counter(self._memory.count_by_destination())
        if self._disk is not None:
            with contextlib.suppress(sqlite3.Error):
                counts.update(self._disk.count_by_destination())
        return dict(counts)

    def untold(self) -> dict[int, int]:
        """By rank, how many were dropped and not yet told. Kept with the messages, so that a crash forgets none."""
        counts = Counter(self._memory.untold())
        if self._disk is not None:
            with contextlib.suppress(sqlite3.Error):
                counts.update(self._disk.untold())
        return dict(counts)

    def set_told(self, counts: Mapping[int, int]) -> None:
        """Take what was told off `untold`."""
        left = dict(counts)
        for table in (self._memory, self._disk):
            if table is None:
                continue
            with contextlib.suppress(sqlite3.Error, OSError):
                here = {rank: min(n, left.get(rank, 0)) for rank, n in table.untold().items()}
                table.write(
                    (), max_bytes=_ALL, durable=False, untold={rank: -n for rank, n in here.items() if n}
                )
                for rank, n in here.items():
                    left[rank] = left.get(rank, 0) - n

    def delete(self, seqs: Sequence[int]) -> int:
        """Forget messages; how many of them were there. Not forced to the disk: a power cut may bring them back."""
        return len(self._delete(seqs))

    def expire(self, *, monotonic_s: float, first_seq: int, wall_s: float, sane_wall_s: float) -> list[int]:
        """Drop what MessageTable.older_than finds; the ranks of it."""
        ranks: list[int] = []
        for table in (self._memory, self._disk):
            if table is None:
                continue
            with contextlib.suppress(sqlite3.Error):  # a failing disk is met, and said, by the next insert
                too_old = table.older_than(
                    monotonic_s=monotonic_s, first_seq=first_seq, wall_s=wall_s, sane_wall_s=sane_wall_s
                )
                dropped = self._delete(too_old) if too_old else []
                if dropped:
                    table.write((), max_bytes=_ALL, durable=False, untold=Counter(dropped))
                ranks += dropped
        return ranks

    def discard(self, lanes: Sequence[Lane]) -> list[int]:
        """Drop everything in these lanes; the ranks of it."""
        ranks: list[int] = []
        for lane in lanes:
            found = self.peek(_ALL, after=0, lane=lane)
            ranks += self._delete([message.seq for message in found])
        with contextlib.suppress(
            sqlite3.Error, OSError
        ):  # a failing disk is met, and said, by the next insert
            (self._disk or self._memory).write((), max_bytes=_ALL, durable=False, untold=Counter(ranks))
        return ranks

    def present(self, seqs: Sequence[int]) -> set[int]:
        """Those of `seqs` that are stored."""
        found = set(self._memory.ranks_of(seqs))
        if self._disk is not None:
            found |= set(self._disk.ranks_of(seqs)) - self._owed
        return found

    def _delete(self, seqs: Sequence[int]) -> list[int]:
        ranks = self._memory.ranks_of(seqs) if self._memory.total_count else {}
        if ranks:
            self._memory.write((), list(ranks), max_bytes=self._memory_bytes)
        if self._disk is None:
            # the file is closed: what memory does not know must be in it
            owed = set(seqs) - set(ranks) - self._owed
            self._owed |= owed
            return list(ranks.values()) + [0] * len(owed)
        try:
            on_disk = self._disk.ranks_of([seq for seq in seqs if seq not in self._owed])
        except sqlite3.Error as error:
            self._disk_failed(error)
            return list(ranks.values())
        if on_disk and not self._degraded:
            try:
                self._disk.write((), list(on_disk), max_bytes=self._max_bytes, durable=False)
            except (sqlite3.Error, OSError) as error:
                self._owed |= set(on_disk)
                self._disk_failed(error)
        else:
            self._owed |= set(on_disk)
        return list(ranks.values()) + list(on_disk.values())

    # ---- the disk comes and goes ----

    def _open_disk(self) -> MessageTable:
        """Raises OutboxError for what a person must mend, OSError and sqlite3.Error for a disk that fails."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._lock_file is None:
            self._lock_file = locked(self.path)
        try:
            check_header(self.path)
            log = read_log(self.path)
            disk = MessageTable(self.path, seal=self._seal)
            self._save_beyond(disk, log)
        except SealError as error:
            disk = self._begin_anew(str(error), salvaging=False)
        except ForeignFileError as error:
            raise OutboxError(
                f"outbox {self.path} cannot be used: {error}", next_step="name another file for the outbox"
            ) from error
        except sqlite3.DatabaseError as error:
            if not means_corrupt(error):
                raise
            disk = self._begin_anew(str(error))
        self._disk = disk
        self._identify()
        self._unseen_count = 0
        return disk

    def _save_beyond(self, disk: MessageTable, log: bytes) -> None:
        """SQLite takes over the log as far as it is whole; behind a damaged place there may be more."""
        beyond = frames_beyond(log, disk.log_frames()) if log else 0
        if not beyond:
            return
        found = salvage_log(self.path, log, self._seal)
        there = disk.ranks_of([message.seq for message in found])
        saved = [message for message in found if message.seq not in there]
        disk.write(saved, max_bytes=max(self._max_bytes, disk.total_bytes))
        self.incidents.append(("outbox_log_damaged", {"pages": beyond, "saved": len(saved)}))
        _log.warning(
            "outbox %s: its log breaks off, by a power cut or damage; %d messages beyond that place could be read",
            self.path,
            len(saved),
        )

    def _identify(self) -> None:
        stat = self.path.stat()
        self._identity = (stat.st_dev, stat.st_ino)

    def _disk_failed(self, error: Exception) -> None:
        """Begin a new file where this one is corrupt; else go on in memory, said once."""
        if means_corrupt(error) and self._disk is not None:
            self._disk.close()
            self._disk = None
            try:
                self._disk = self._begin_anew(str(error))
                self._identify()
            except (sqlite3.Error, OSError) as second:
                error = second
            else:
                return
        self._retry_at_s = self._clock.monotonic_s() + self._retry_disk_s
        if not self._degraded:
            self._degraded = True
            self.incidents.append(
                ("outbox_degraded", {"error": str(error), "memory_bytes": self._memory_bytes})
            )
            _log.warning(
                "outbox %s: cannot be written (%s); messages wait in memory, %d bytes at most",
                self.path,
                error,
                self._memory_bytes,
            )

    def retry_if_due(self) -> None:
        """Go back to the disk where it fails and the time for another attempt has come."""
        if self._degraded and self._clock.monotonic_s() >= self._retry_at_s:
            self._return_to_disk()

    def _return_to_disk(self) -> None:
        try:
            disk = self._disk or self._open_disk()
            disk.touch()  # where nothing waits, nothing else would be written
            waiting = self._memory.peek(_ALL)
            # a commit that ended in an I/O error may have reached the file all the same
            there = disk.ranks_of([message.seq for message in waiting])
            disk.write(
                [message for message in waiting if message.seq not in there],
                sorted(self._owed),
                max_bytes=max(self._max_bytes, disk.total_bytes + self._memory_bytes),
                untold=(untold := self._memory.untold()),
            )
            self._memory.write(
                (),
                [message.seq for message in waiting],
                max_bytes=self._memory_bytes,
                untold={rank: -n for rank, n in untold.items()},
            )
        except (sqlite3.Error, OSError, OutboxError) as error:
            if self._disk is not None and "full" not in str(error):
                # a handle on a disk that was unplugged never works again: the next attempt opens the file anew
                self._unseen_count = self._disk.total_count
                self._disk.close()
                self._disk = None
            self._disk_failed(error)
            return
        self._owed.clear()
        self._degraded = False
        self.rewinds += 1
        self.incidents.append(("outbox_recovered", {"moved": len(waiting)}))
        _log.warning("outbox %s: can be written again, %d messages went to it", self.path, len(waiting))

    def _check_identity(self) -> None:
        """Move to a new file where somebody removed or replaced ours: what goes to it now, nobody finds again."""
        with contextlib.suppress(FileNotFoundError):
            stat = self.path.stat()
            if (stat.st_dev, stat.st_ino) == self._identity:
                return
        if self._disk is not None:
            self._memory.write(self._disk.peek(_ALL), max_bytes=self._memory_bytes)
            self._disk.close()
            self._disk = None
        self._owed.clear()
        self._degraded = True
        _log.warning(
            "outbox %s: the file was removed or replaced while in use; beginning a new one", self.path
        )
        self._return_to_disk()
        if self._disk is None:
            raise OSError("the file was removed")

    def _begin_anew(self, reason: str, *, salvaging: bool = True) -> MessageTable:
        """Set the file aside and save into a new one what can be read of it."""
        target = set_aside(self.path)
        saved = (
            [message for message in salvage(target, self._seal) if message.seq not in self._owed]
            if salvaging
            else []
        )
        self._owed.clear()
        _log.error(
            "outbox %s: %s, set aside as %s; a new one begins with the %d messages that could be read",
            self.path,
            f"corrupt ({reason})" if salvaging else reason,
            target.name,
            len(saved),
        )
        self.incidents.append(
            ("outbox_set_aside", {"reason": reason, "file": target.name, "saved": len(saved)})
        )
        disk = MessageTable(self.path, seal=self._seal)
        disk.write(saved, max_bytes=self._max_bytes)
        return disk

    def _release(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def _peek(table: MessageTable, n: int, after: int, lane: Lane | None) -> list[Message]:
    return table.peek(n, after=after) if lane is None else table.peek_lane(lane, n, after=after)
