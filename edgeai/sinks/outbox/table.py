"""Messages in an SQLite file (WAL) or in memory: one table, every change one transaction, kept within a size.

A power cut can tear the end of the WAL; its checksums make SQLite stop before the torn frame, so what a durable
write reported is there and nothing half-written is (https://sqlite.org/wal.html, https://sqlite.org/atomiccommit.html).
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Final

from edgeai.errors import OutboxError
from edgeai.sinks.outbox.message import DROP_ORDER, RANK, Lane, Message
from edgeai.sinks.outbox.seal import OVERHEAD_BYTES, Seal, SealError

SCHEMA: Final = 2
_MOST_SCHEMAS: Final = 50  # beyond it a number is no schema's, but damage
APPLICATION_ID: Final = 0x45644F42  # "EdOB": tells our file from another program's database
_NO_CRC: Final = -1  # of a row that an earlier schema wrote
ROW_OVERHEAD_BYTES: Final = (
    64  # row and index beside topic and payload, measured on 100,000 rows of 400 bytes
)
_CHUNK: Final = 500  # variables of one statement; SQLite before 3.32 allows 999

_CREATE: Final = f"""
CREATE TABLE message (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
  retain INTEGER NOT NULL, rank INTEGER NOT NULL, stream TEXT NOT NULL, wall_s REAL NOT NULL,
  monotonic_s REAL NOT NULL, size INTEGER NOT NULL);
CREATE INDEX message_by_rank ON message (rank, seq);
PRAGMA application_id = {APPLICATION_ID};
"""
# what makes a file of each schema one of the next; a new file goes through all of them
_UPGRADES: Final[dict[int, str]] = {
    1: """
ALTER TABLE message ADD COLUMN destination TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN crc INTEGER NOT NULL DEFAULT -1;
CREATE INDEX message_by_lane ON message (destination, rank, stream, seq);
CREATE INDEX message_latest ON message (destination, topic) WHERE latest = 1;
CREATE TABLE untold (rank INTEGER PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, value BLOB NOT NULL);
""",
}
_COLUMNS: Final = (
    "seq, topic, payload, qos, retain, rank, stream, wall_s, monotonic_s, latest, destination, sealed, crc"
)
# all of these statements are made of constants: values are always bound
_INSERT: Final = f"INSERT INTO message ({_COLUMNS}, size) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608
_PEEK: Final = f"SELECT {_COLUMNS} FROM message WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_PEEK_LANE: Final = (
    f"SELECT {_COLUMNS} FROM message WHERE destination = ? AND rank = ? AND stream = ? AND seq > ? "  # noqa: S608
    "ORDER BY seq LIMIT ?"
)
_FORWARDS: Final = f"SELECT {_COLUMNS} FROM message ORDER BY seq"  # noqa: S608
_FORWARDS_1: Final = _FORWARDS.replace("latest, destination, sealed, crc", "0, '', 0, -1")
_FIND: Final = "SELECT seq, rank, size FROM message WHERE seq IN "
_OLDER_LATEST: Final = (
    "SELECT seq FROM message WHERE latest = 1 AND destination = ? AND topic = ? AND seq < ?"
)
_UNTOLD: Final = "INSERT INTO untold (rank, count) VALUES (?, ?) ON CONFLICT (rank) DO UPDATE SET count = count + excluded.count"


class ForeignFileError(Exception):
    """The file is a sound database that another program, or a newer edgeai, made."""


def size_of(message: Message) -> int:
    """Bytes that a message counts for."""
    return len(message.payload) + len(message.topic) + ROW_OVERHEAD_BYTES


class MessageTable:
    """Not thread-safe: its owner locks. path None: in memory.

    Errors of SQLite come out as they are: sqlite3.DatabaseError itself for a corrupt file, its child
    sqlite3.OperationalError for a disk that is full, gone or read-only. Counters move with a commit only.
    """

    def __init__(self, path: Path | None, *, seal: Seal | None = None) -> None:
        """Raises SealError where the file holds messages that `seal` does not open; and ForeignFileError."""
        self._seal = seal
        self._db = sqlite3.connect(
            path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5
        )
        try:
            self._prepare(in_memory=path is None)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, *, in_memory: bool) -> None:
        # the file is asked whose it is before anything changes it: journal_mode already would
        tables = self._scalar("SELECT COUNT(*) FROM sqlite_master")
        ours = self._scalar("PRAGMA application_id") == APPLICATION_ID
        version = self._scalar("PRAGMA user_version") if tables else 1
        if tables and not (ours and 1 <= version <= SCHEMA):
            if self._looks_like_ours() and not (ours and SCHEMA < version <= _MOST_SCHEMAS):
                raise sqlite3.DatabaseError("its header is damaged")
            raise ForeignFileError(
                f"it has schema {version}, known is {SCHEMA}" if ours else "it is another program's database"
            )
        if not in_memory:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA journal_size_limit=4194304")
        self._db.execute("PRAGMA synchronous=FULL")
        self._durable = True
        changes = ("" if tables else _CREATE) + "".join(_UPGRADES[old] for old in range(version, SCHEMA))
        if changes:
            self._db.executescript(f"BEGIN IMMEDIATE; {changes} PRAGMA user_version = {SCHEMA}; COMMIT;")
        # not quick_check: messages are found by way of the indexes, and one that has lost a row keeps it for ever
        verdict = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
        self._check_seal()
        self.count = dict.fromkeys(range(len(DROP_ORDER)), 0)
        self.bytes = dict(self.count)
        for rank, count, size in self._db.execute(
            "SELECT rank, COUNT(*), SUM(size) FROM message GROUP BY rank"
        ):
            self.count[rank] = count
            self.bytes[rank] = size

    def _looks_like_ours(self) -> bool:
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(message)")}
        return {"seq", "topic", "payload", "qos", "rank", "monotonic_s", "size"} <= columns

    def touch(self) -> None:
        """Write something, durably, to learn whether the disk takes it. Raises sqlite3.Error."""
        self._db.execute("INSERT OR REPLACE INTO fact VALUES ('touched', randomblob(8))")

    def log_frames(self) -> int:
        """How many frames of the write-ahead log SQLite has taken over."""
        return int(self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])

    def _check_seal(self) -> None:
        row = self._db.execute("SELECT value FROM fact WHERE name = 'seal'").fetchone()
        if row is None or (self._seal is not None and self._seal.fits(bytes(row[0]))):
            fits = row is not None
        elif self._scalar("SELECT COUNT(*) FROM message WHERE sealed = 1"):
            raise SealError("its messages are sealed with a key that is not in outbox.key_file")
        else:
            fits = False
        if self._seal is not None and not fits:
            self._db.execute("INSERT OR REPLACE INTO fact VALUES ('seal', ?)", (self._seal.check_value(),))

    @property
    def total_count(self) -> int:
        return sum(self.count.values())

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes.values())

    @property
    def last_seq(self) -> int:
        """The highest number ever stored, 0 for none: kept by AUTOINCREMENT after the row itself is gone."""
        return self._scalar("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence")

    def write(
        self,
        insert: Sequence[Message],
        delete: Iterable[int] = (),
        *,
        max_bytes: int,
        durable: bool = True,
        untold: Mapping[int, int] | None = None,
    ) -> tuple[int, list[int]]:
        """Insert, delete by number, then drop what exceeds `max_bytes`, all in one transaction.

        A message that is `latest` takes the place of earlier ones on its topic. What is dropped is added to `untold`,
        and so are the counts by rank in that argument (below 0: they have been told).
        durable: back only when it is on the disk. Without it a power cut can undo the change, never tear it.
        Returns how many of `delete` were there, and the rank of each message that was dropped.
        """
        if durable != self._durable:
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        count, size = dict(self.count), dict(self.bytes)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if insert:
                self._insert(insert, count, size)
            deleted = self._delete(delete, count, size)
            dropped = self._trim(max_bytes, count, size)
            changes = Counter(dropped)
            changes.update(untold or {})
            self._db.executemany(_UNTOLD, sorted(changes.items()))
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                self._db.execute("ROLLBACK")
            raise
        self.count, self.bytes = count, size
        return deleted, dropped

    def peek(self, n: int, *, after: int = 0) -> list[Message]:
        """The first `n` messages with a number above `after`, in order of number."""
        rows = self._db.execute(_PEEK, (after, n))
        return [_message(row, self._seal) for row in rows]

    def peek_lane(self, lane: Lane, n: int, *, after: int) -> list[Message]:
        """The first `n` messages of a lane with a number above `after`, in order of number."""
        return [_message(row, self._seal) for row in self._db.execute(_PEEK_LANE, (*lane, after, n))]

    def lanes(self) -> dict[Lane, int]:
        """Every lane that holds messages, with its highest number."""
        rows = self._db.execute(
            "SELECT destination, rank, stream, MAX(seq) FROM message GROUP BY destination, rank, stream"
        )
        return {Lane(destination, rank, stream): seq for destination, rank, stream, seq in rows}

    def count_by_destination(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT destination, COUNT(*) FROM message GROUP BY destination"))

    def untold(self) -> dict[int, int]:
        """By rank, how many were dropped and not yet told; only those above 0."""
        return dict(self._db.execute("SELECT rank, count FROM untold WHERE count > 0"))

    def older_than(
        self, *, monotonic_s: float, first_seq: int, wall_s: float, sane_wall_s: float
    ) -> list[int]:
        """Numbers of messages from `first_seq` on that were put before `monotonic_s`, and of earlier ones that were
        put between `sane_wall_s` and `wall_s`, and so on two clocks.
        """
        rows = self._db.execute(
            "SELECT seq FROM message WHERE (seq >= ? AND monotonic_s < ?) OR (seq < ? AND wall_s >= ? AND wall_s < ?)",
            (first_seq, monotonic_s, first_seq, sane_wall_s, wall_s),
        )
        return [seq for (seq,) in rows]

    def ranks_of(self, seqs: Sequence[int]) -> dict[int, int]:
        """Those of `seqs` that are there, each with its rank in DROP_ORDER."""
        return {seq: rank for seq, rank, _ in self._found(seqs)}

    def close(self) -> None:
        self._db.close()

    def _insert(self, messages: Sequence[Message], count: dict[int, int], size: dict[int, int]) -> None:
        rows = []
        for message in messages:
            rank, bytes_ = RANK[message.priority], size_of(message)
            payload = message.payload
            if self._seal is not None:
                payload = self._seal.seal(payload, _context(message.seq, message.topic))
                bytes_ += OVERHEAD_BYTES
            count[rank] += 1
            size[rank] += bytes_
            head = (message.seq, message.topic, payload, message.qos, int(message.retain), rank)
            times = (message.wall_s, message.monotonic_s)
            rest = (int(message.latest), message.destination, int(self._seal is not None))
            row = (*head, message.stream, *times, *rest)
            rows.append((*row, _crc(row), bytes_))
        self._db.executemany(_INSERT, rows)
        for message in messages:
            if message.latest:
                older = self._db.execute(_OLDER_LATEST, (message.destination, message.topic, message.seq))
                self._delete([seq for (seq,) in older], count, size)

    def _delete(self, seqs: Iterable[int], count: dict[int, int], size: dict[int, int]) -> int:
        found = self._found(list(seqs))
        for _, rank, bytes_ in found:
            count[rank] -= 1
            size[rank] -= bytes_
        self._db.executemany("DELETE FROM message WHERE seq = ?", [(seq,) for seq, _, _ in found])
        return len(found)

    def _found(self, seqs: Sequence[int]) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        for start in range(0, len(seqs), _CHUNK):
            part = seqs[start : start + _CHUNK]
            marks = ",".join("?" * len(part))
            found += self._db.execute(f"{_FIND}({marks})", part).fetchall()
        return found

    def _trim(self, max_bytes: int, count: dict[int, int], size: dict[int, int]) -> list[int]:
        dropped: list[int] = []
        excess = sum(size.values()) - max_bytes
        for rank in range(len(DROP_ORDER)):
            if excess <= 0:
                break
            doomed: list[tuple[int]] = []
            for seq, bytes_ in self._db.execute(
                "SELECT seq, size FROM message WHERE rank = ? ORDER BY seq", (rank,)
            ):
                if excess <= 0:
                    break
                doomed.append((seq,))
                excess -= bytes_
                size[rank] -= bytes_
            count[rank] -= len(doomed)
            self._db.executemany("DELETE FROM message WHERE seq = ?", doomed)
            dropped += [rank] * len(doomed)
        return dropped

    def _scalar(self, statement: str) -> int:
        value = self._db.execute(statement).fetchone()[0]
        return int(value)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file for reading beside the process that has it. Raises OutboxError where there is none, or another program's."""
    if not path.is_file():
        raise OutboxError(f"no outbox at {path}", next_step="nothing was ever put, or state_dir is another")
    try:
        with contextlib.closing(
            sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True, timeout=5)
        ) as db:
            if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise OutboxError(f"{path} is no outbox: it is another program's database")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA:
                raise OutboxError(
                    f"outbox {path} has schema {version}, known is {SCHEMA}",
                    next_step="run the device once with this edgeai" if version < SCHEMA else "update edgeai",
                )
            yield db
    except sqlite3.Error as error:
        raise OutboxError(f"outbox {path} cannot be read: {error}") from error


def read_messages(db: sqlite3.Connection, seal: Seal | None) -> Iterator[Message]:
    """All of them, in order. Raises sqlite3.DatabaseError for one that is damaged or does not open."""
    for row in db.execute(_FORWARDS):
        yield _message(row, seal)


def read_summary(db: sqlite3.Connection) -> list[tuple[Lane, int, int, float]]:
    """Of each lane: how many messages, their bytes, and the Unix time when the first was put."""
    rows = db.execute(
        "SELECT destination, rank, stream, COUNT(*), SUM(size), MIN(wall_s) FROM message "
        "GROUP BY destination, rank, stream ORDER BY destination, rank DESC, stream"
    )
    return [(Lane(*row[:3]), row[3], row[4], row[5]) for row in rows]


def parse_rows(
    db: sqlite3.Connection, columns: Set[str], seal: Seal | None, *, backwards: bool = False
) -> Iterator[Message]:
    """Messages of a file that may be damaged, but for rows that are. columns: those its table has, of any schema.

    Raises sqlite3.Error where it cannot be read further.
    """
    statement = _FORWARDS if "crc" in columns else _FORWARDS_1
    for row in db.execute(f"{statement} DESC" if backwards else statement):
        with contextlib.suppress(sqlite3.DatabaseError):
            yield _message(row, seal)


def _crc(row: tuple[object, ...]) -> int:
    """Of a row's columns up to `sealed`: SQLite has no checksums of its own, and would hand out a flipped bit."""
    payload = row[2]
    rest = repr((*row[:2], *row[3:])).encode("utf-8", "surrogatepass")
    return zlib.crc32(payload if isinstance(payload, bytes) else b"", zlib.crc32(rest))


def _context(seq: int, topic: str) -> bytes:
    """What a sealed payload is bound to: it opens in its own row only."""
    return f"{seq} {topic}".encode()


def _message(row: tuple[object, ...], seal: Seal | None) -> Message:
    """Raises sqlite3.DatabaseError for a row that a flipped bit has damaged."""
    match row:
        case (
            int(seq), str(topic), bytes(payload), 0 | 1 | 2 as qos, int(retain), 0 | 1 | 2 | 3 as rank,
            str(stream), float(wall_s), float(monotonic_s), int(latest), str(destination), int(sealed), int(crc),
        ) if crc in (_NO_CRC, _crc(row[:-1])):  # fmt: skip
            if sealed:
                try:
                    if seal is None:
                        raise SealError("sealed, and there is no key")
                    payload = seal.open(payload, _context(seq, topic))
                except SealError as error:
                    raise sqlite3.DatabaseError(f"row {seq}: {error}") from None
            return Message(
                seq, topic, payload, qos, bool(retain), DROP_ORDER[rank], stream, wall_s, monotonic_s,
                bool(latest), destination,
            )  # fmt: skip
    raise sqlite3.DatabaseError(f"row {row[0]!r} is damaged")
