"""Which commands were taken and what was answered: an SQLite file that outlives kill -9 and a power cut."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from edgeai.errors import SinkError

_log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x45644A6C  # "EdJl"
SCHEMA: Final = 1
KEEP: Final = 4096

_CREATE: Final = f"""
CREATE TABLE command (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, answer BLOB,
  told INTEGER NOT NULL DEFAULT 0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA};
"""

T = TypeVar("T")


class JournalError(SinkError):
    """The journal cannot be read or written, so that no command may be carried out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that was taken. answer: the payload of its acknowledgement, None before it is known."""

    id: str
    name: str
    answer: bytes | None


class CommandJournal:
    """The newest `keep` commands by id. Every change is on the disk when its method returns (WAL, synchronous=FULL).

    A file that is corrupt or somebody else's is set aside as <name>.corrupt and a new one begun: what it knew is
    forgotten, which is said. For one process, any thread.
    """

    def __init__(self, path: Path | str, *, keep: int = KEEP) -> None:
        self.path = Path(path)
        self._keep = keep
        self._lock = threading.Lock()
        self._closed = True
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Raises JournalError where the file cannot be opened or made; whatever follows tries again then."""
        with self._lock:
            self._closed = False
            self._connected()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def __enter__(self) -> CommandJournal:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def find(self, command_id: str) -> Entry | None:
        """Raises JournalError, as all that follow."""
        rows = self._rows("SELECT id, name, answer FROM command WHERE id = ?", (command_id,))
        return rows[0] if rows else None

    def begin(self, command_id: str, name: str) -> None:
        """Note that it is taken, before anything is done for it; the oldest go."""

        def work(db: sqlite3.Connection) -> None:
            with _transaction(db):
                number = db.execute(
                    "INSERT INTO command (id, name) VALUES (?, ?)", (command_id, name)
                ).lastrowid
                db.execute("DELETE FROM command WHERE n <= ?", ((number or 0) - self._keep,))

        self._with(work)

    def finish(self, command_id: str, answer: bytes) -> None:
        """Note the answer, before it is sent."""
        self._with(
            lambda db: db.execute("UPDATE command SET answer = ? WHERE id = ?", (answer, command_id)).rowcount
        )

    def told(self, command_id: str) -> None:
        """Note that the answer is in the outbox."""
        self._with(lambda db: db.execute("UPDATE command SET told = 1 WHERE id = ?", (command_id,)).rowcount)

    def unfinished(self) -> list[Entry]:
        """Those without an answer, the oldest first."""
        return self._rows("SELECT id, name, answer FROM command WHERE answer IS NULL ORDER BY n")

    def untold(self) -> list[Entry]:
        """Those whose answer may not have reached the outbox, the oldest first."""
        return self._rows(
            "SELECT id, name, answer FROM command WHERE answer IS NOT NULL AND NOT told ORDER BY n"
        )

    def _rows(self, statement: str, values: tuple[str, ...] = ()) -> list[Entry]:
        found = self._with(lambda db: db.execute(statement, values).fetchall())
        return [
            Entry(str(each[0]), str(each[1]), None if each[2] is None else bytes(each[2])) for each in found
        ]

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            db = self._connected()
            try:
                return work(db)
            except sqlite3.Error as error:
                raise JournalError(f"the journal of commands cannot be used: {error}") from None

    def _connected(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        if self._closed:
            raise JournalError(f"the journal of commands {self.path} is not open")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _opened(self.path)
            except sqlite3.OperationalError:  # the disk, not the file
                raise
            except sqlite3.DatabaseError as error:
                self._set_aside(error)
                self._db = _opened(self.path)
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal of commands cannot be opened: {error}") from None
        return self._db

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).unlink()
        _log.error(
            "the journal of commands %s is not usable (%s): set aside as %s; commands that were carried out before are forgotten",
            self.path, error, aside.name,
        )  # fmt: skip


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        tables = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        marks = tuple(
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if tables and marks != (APPLICATION_ID, SCHEMA):
            raise sqlite3.DatabaseError("another program's file, or of another version")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA journal_size_limit=1048576")
        db.execute("PRAGMA synchronous=FULL")
        if not tables:
            db.executescript("BEGIN IMMEDIATE;" + _CREATE + "COMMIT;")
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
    except BaseException:
        db.close()
        raise
    return db
