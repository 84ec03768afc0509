"""Totals of rules on the disk: they outlive kill -9 and a power cut, and never stop what is counted."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import types
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from edgeai.clock import Clock, SystemClock
from edgeai.sqlite_file import check_header, means_corrupt, set_aside
from edgeai.types import JsonValue

_log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x4564546F  # "EdTo"
SCHEMA: Final = 1
KEEP: Final = 4096
"""So many rules are remembered, those of cameras that are gone among them; what was saved longest ago goes first."""
RETRY_DISK_S: Final = 10.0

# a row that is replaced gets a new rowid: their order is that of the last saves
_CREATE: Final = f"""
CREATE TABLE total (
  stream TEXT NOT NULL, rule TEXT NOT NULL, totals TEXT NOT NULL, wall_s REAL NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY (stream, rule));
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA};
"""
_OLDEST: Final = "DELETE FROM total WHERE rowid NOT IN (SELECT rowid FROM total ORDER BY rowid DESC LIMIT ?)"


class TotalsStore:
    """The newest totals of every stream's rules, in an SQLite file (WAL). `with` opens it; any thread.

    Save before the events that tell of a count are handed on: whenever the process dies, no count that anybody was told
    is ever told again; one that was saved and not told is left out, as its event died with the process.

    Nothing here raises: a disk that is full or gone is told once, as is its return, and counting goes on. A file that is
    corrupt, or another program's, is set aside as <name>.corrupt-<n>; what this process knows goes into the new one.
    """

    def __init__(self, path: Path | None, *, clock: Clock | None = None) -> None:
        """path: None remembers for this process only."""
        self.path = path
        self._clock = clock or SystemClock()
        self._newest: dict[str, dict[str, str]] = {}  # by stream and rule, as JSON
        self._waiting: set[str] = set()  # streams whose newest is not in the file
        self._fsync = False  # whether one of those is to outlive a power cut
        self._newest_lock = threading.Lock()
        self._disk_lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._failing = False
        self._retry_at_s = 0.0

    def open(self) -> None:
        """Open or make the file; what fails then is tried again."""
        if self.path is not None:
            with self._disk_lock:
                self._attempt({}, fsync=False)

    def close(self) -> None:
        """Write what waits, and close the file. Safe to call twice."""
        with self._disk_lock:
            self._retry_at_s = self._clock.monotonic_s()
            self._write_waiting()
            self._disconnect()

    def __enter__(self) -> TotalsStore:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def load(self, stream: str) -> dict[str, JsonValue]:
        """What was saved last of each of its rules, in this process or an earlier one, by what it was saved under."""
        with self._newest_lock:
            newest = dict(self._newest.get(stream, {}))
        return {rule: json.loads(totals) for rule, totals in newest.items()}

    def save(
        self, stream: str, totals: Mapping[str, Mapping[str, JsonValue]], *, durable: bool = True
    ) -> None:
        """Remember totals of the stream's rules by their identities; those it does not name stay as they are.

        Back when they are in the file; with durable when no power cut can undo that. For every batch of events, and once a
        second: what has not changed costs nothing, and a disk that failed is tried again.
        """
        told = {rule: json.dumps(of_rule) for rule, of_rule in totals.items()}
        with self._newest_lock:
            newest = self._newest.setdefault(stream, {})
            changed = any(newest.get(rule) != of_rule for rule, of_rule in told.items())
            if changed:
                newest.update(told)
                self._waiting.add(stream)
                self._fsync |= durable
        if (changed or self._waiting) and self.path is not None:
            with self._disk_lock:  # who comes while another thread writes his own waits for that
                self._write_waiting()

    def _write_waiting(self) -> None:
        """One commit for all that wait: of several threads, the first writes for the others."""
        if self._failing and self._clock.monotonic_s() < self._retry_at_s:
            return
        with self._newest_lock:
            if not self._waiting or self.path is None:
                return
            batch = {stream: dict(self._newest[stream]) for stream in self._waiting}
            fsync, self._fsync = self._fsync, False
            self._waiting.clear()
        if not self._attempt(batch, fsync=fsync):
            with self._newest_lock:
                self._waiting |= batch.keys()
                self._fsync |= fsync

    def _attempt(self, batch: Mapping[str, Mapping[str, str]], *, fsync: bool) -> bool:
        """Write, a second time where the file had to be set aside; whether it is written."""
        for _ in range(2):
            try:
                self._write(self._connected(), batch, fsync=fsync)
            except (sqlite3.Error, OSError) as error:
                if not self._failed(error):
                    return False
                with self._newest_lock:
                    batch = {stream: dict(newest) for stream, newest in self._newest.items()}
            else:
                if self._failing:
                    self._failing = False
                    _log.warning("totals %s: can be written again", self.path)
                return True
        return False

    def _write(self, db: sqlite3.Connection, batch: Mapping[str, Mapping[str, str]], *, fsync: bool) -> None:
        wall_s = self._clock.wall_s()
        rows = [
            (stream, rule, totals, wall_s, _crc(stream, rule, totals))
            for stream, newest in batch.items()
            for rule, totals in newest.items()
        ]
        # without FULL a commit outlives the process, not a power cut
        db.execute(f"PRAGMA synchronous={'FULL' if fsync else 'NORMAL'}")
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT OR REPLACE INTO total VALUES (?,?,?,?,?)", rows)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                db.execute("ROLLBACK")
            raise

    def _connected(self) -> sqlite3.Connection:
        """Raises OSError and sqlite3.Error."""
        if self._db is None:
            if self.path is None:
                raise sqlite3.ProgrammingError("there is no file")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _opened(self.path)
            self._learn(_rows_of(self._db))
        return self._db

    def _learn(self, rows: Iterable[_Row]) -> None:
        """Take over what this process has no newer totals of."""
        with self._newest_lock:
            for stream, rule, totals in rows:
                self._newest.setdefault(stream, {}).setdefault(rule, totals)

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _failed(self, error: Exception) -> bool:
        """Set a damaged file aside; True where a new one can be begun. Else it is tried again later."""
        self._disconnect()  # a handle on a disk that was unplugged never works again
        if self.path is not None and means_corrupt(error):
            self._learn(_salvaged(self.path))
            try:
                aside = set_aside(self.path)
            except OSError as second:
                error = second
            else:
                _log.error(
                    "totals %s: unusable (%s), set aside as %s; %d rules are known all the same, others count from 0",
                    self.path, error, aside.name, sum(map(len, self._newest.values())),
                )  # fmt: skip
                return True
        self._retry_at_s = self._clock.monotonic_s() + RETRY_DISK_S
        if not self._failing:
            self._failing = True
            _log.error("totals %s: cannot be kept (%s); counting goes on", self.path, error)
        return False


_Row: TypeAlias = tuple[str, str, str]
"""Stream, rule and totals."""


def _opened(path: Path) -> sqlite3.Connection:
    check_header(path)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    db.text_factory = _as_text
    try:
        tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        marks = tuple(
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if tables and marks != (APPLICATION_ID, SCHEMA):
            raise sqlite3.DatabaseError("another program's file, or of another version")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA journal_size_limit=1048576")
        if not tables:
            db.executescript("BEGIN IMMEDIATE;" + _CREATE + "COMMIT;")
        verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
        db.execute(_OLDEST, (KEEP,))
    except BaseException:
        db.close()
        raise
    return db


def _rows_of(db: sqlite3.Connection) -> Iterator[_Row]:
    """But for those that a flipped bit has damaged: SQLite has no checksums of its own. Raises sqlite3.Error."""
    for stream, rule, totals, crc in db.execute("SELECT stream, rule, totals, crc FROM total"):
        if crc == _crc(stream, rule, totals):
            yield stream, rule, totals
        else:
            _log.error("totals of %r are damaged on the disk: a rule counts from 0", stream)


def _salvaged(path: Path) -> list[_Row]:
    """What can be read of a damaged file, up to the damage."""
    rows: list[_Row] = []
    with (
        contextlib.suppress(sqlite3.Error, ValueError),
        contextlib.closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as db,
    ):
        db.text_factory = _as_text
        if db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            for row in _rows_of(db):
                rows.append(row)  # noqa: PERF402 (what came before an error is kept)
    return rows


def _as_text(value: bytes) -> str:
    """Text that is none any more fails its row's checksum, not the whole query."""
    return value.decode("utf-8", "replace")


def _crc(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode("utf-8", "surrogatepass"))
