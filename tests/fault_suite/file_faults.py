"""The outbox's file itself: overwritten at random places, and torn by a power cut."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeai.errors import OutboxError
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Message
from fault_suite.link import Link
from fault_suite.row import Row, judged
from fault_suite.stand import Child, Stand, StandError, Watcher
from fault_suite.tally import Put, Tally, read_arrival, tally

BEFORE, AFTER = 150, 60  # events put before and after the damage
MANY = 6000  # more than SQLite keeps in its page cache: what is damaged is read again
_WAL_HEADER, _FRAME_HEADER = 32, 24  # bytes, https://sqlite.org/fileformat2.html#the_write_ahead_log


def wal_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def damage(path: Path, rng: random.Random, *, within: int | None = None) -> None:
    """Random bytes over one to four runs of one to 64 bytes, in place; `within` the first so many bytes."""
    size = path.stat().st_size if path.exists() else 0
    size = min(size, within or size)
    if size == 0:
        return
    with path.open("r+b", buffering=0) as file:
        for _ in range(rng.randint(1, 4)):
            file.seek(rng.randrange(size))
            file.write(rng.randbytes(rng.randint(1, 64)))


@dataclass(frozen=True)
class Victim:
    """A device with its outbox, link away; what it has been told to put."""

    stand: Stand
    watcher: Watcher
    link: Link
    name: str
    database: Path

    def start(self) -> Child:
        return self.stand.child(self.link.port, self.name, outbox=str(self.database), retry_disk_s=0.2)


def _stopped(victim: Victim, path: Path, *, clean: bool, within: int | None = None) -> list[Put]:
    """Damage between two lives; `clean` for an orderly end, else kill -9 leaves a WAL."""
    first = victim.start()
    first.feed(BEFORE)
    first.wait_said("fed")
    first.close() if clean else first.kill()
    damage(path, victim.stand.rng, within=within)
    second = victim.start()
    second.feed(AFTER, first=BEFORE)
    second.wait_said("fed")
    return _drained(victim, second, first.puts)


def _many(stand: Stand) -> int:
    return BEFORE if stand.plan.short else MANY


def _running(victim: Victim, path: Path) -> list[Put]:
    """Damage under the hands of the process."""
    many = _many(victim.stand)
    child = victim.start()
    child.feed(many)
    child.wait_said("fed")
    damage(path, victim.stand.rng)
    child.feed(AFTER, first=many)
    child.wait_said("fed", times=2)
    return _drained(victim, child, [])


def _drained(victim: Victim, child: Child, earlier: list[Put]) -> list[Put]:
    """All puts, when what can arrive has arrived: from this life, and from one more that opens the file afresh."""
    victim.link.set("pass")
    child.ask("flush 15", "flushed")
    puts = earlier + child.puts
    child.close()
    last = victim.start()
    last.ask("flush 5", "flushed")
    victim.watcher.wait_for_all(victim.name, lambda: puts, 0.5)
    last.close()
    return puts


def _corrupt(
    stand: Stand, fault: str, act: Callable[[Victim], list[Put]], *, late_from: int = BEFORE
) -> Iterator[Row]:
    """Round after round on a new file. What was put after the damage is lost never; what was before only where it is said."""
    plan = stand.plan
    rounds = 2 if plan.short else min(20, plan.rounds)
    broker = stand.broker()
    watcher = stand.watcher(broker.port)
    total = tally([], [])
    silent = unsaid_after = aside = refused = 0
    for number in range(rounds):
        stand.tell(f"{fault}: {number + 1} of {rounds}")
        name = f"cam-{number:03d}"
        link = stand.use(Link(broker.port, mode="cut", rng=stand.rng))
        victim = Victim(stand, watcher, link, name, stand.path("outbox.db"))
        try:
            puts = act(victim)
        except StandError as error:
            refused += 1
            stand.tell(f"{fault}, round {number + 1}: {error}")
            continue
        count = tally(puts, watcher.of(name))
        own = watcher.own_types(name)
        said = own.count("outbox_set_aside") + own.count("outbox_log_damaged")
        aside += said > 0
        silent += count.lost if not said else 0
        late = {put.id for put in puts if put.number >= late_from}
        unsaid_after += len(late & set(count.lost_ids))
        total = total + count
    yield judged(
        fault,
        total,
        complete=False,
        demands=[
            (refused == 0, f"in {refused} of {rounds} rounds the device did not start or ended"),
            (silent == 0, f"{silent} lost without a word"),
            (unsaid_after == 0, f"{unsaid_after} lost of what was put after the damage"),
        ],
        note=f"{rounds} files, of {aside} it was said",
    )


def corrupt_stopped(stand: Stand) -> Iterator[Row]:
    yield from _corrupt(
        stand, "corrupt file, stopped", lambda victim: _stopped(victim, victim.database, clean=True)
    )


def corrupt_header(stand: Stand) -> Iterator[Row]:
    """The first 100 bytes, by which SQLite and we know whose file it is."""
    yield from _corrupt(
        stand,
        "corrupt file header",
        lambda victim: _stopped(victim, victim.database, clean=True, within=100),
    )


def corrupt_wal_stopped(stand: Stand) -> Iterator[Row]:
    yield from _corrupt(
        stand, "corrupt WAL, stopped", lambda victim: _stopped(victim, wal_of(victim.database), clean=False)
    )


def corrupt_running(stand: Stand) -> Iterator[Row]:
    yield from _corrupt(
        stand,
        "corrupt file, running",
        lambda victim: _running(victim, victim.database),
        late_from=_many(stand),
    )


def corrupt_wal_running(stand: Stand) -> Iterator[Row]:
    yield from _corrupt(
        stand,
        "corrupt WAL, running",
        lambda victim: _running(victim, wal_of(victim.database)),
        late_from=_many(stand),
    )


# ---- power cut ----


@dataclass(frozen=True)
class Snapshot:
    """What lay on the disk at a moment, and how many events had been reported as put by then. damaged: in the midst of
    what SQLite has written, so that messages beyond may be there and one between them not.
    """

    database: bytes
    wal: bytes
    reported: int
    damaged: bool = False


def _snapshot(child: Child, database: Path) -> Snapshot:
    """Stops the process, so that file and WAL are of one moment; what it had said is all read."""
    os.kill(child.pid, signal.SIGSTOP)
    try:
        reported = child.settled_put_count()
        return Snapshot(database.read_bytes(), wal_of(database).read_bytes(), reported)
    finally:
        os.kill(child.pid, signal.SIGCONT)


def frame_ends(wal: bytes) -> list[int]:
    """Where the frames of a WAL end."""
    if len(wal) < _WAL_HEADER:
        return []
    page = struct.unpack(">I", wal[8:12])[0]
    return list(range(_WAL_HEADER, len(wal) + 1, page + _FRAME_HEADER))


def _readable(folder: Path, database: bytes, wal: bytes) -> list[Message] | str:
    """What an outbox makes of the two files, or why it makes nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "outbox.db"
    path.write_bytes(database)
    if wal:
        wal_of(path).write_bytes(wal)
    try:
        with Outbox(path) as outbox:
            found = outbox.peek(1_000_000)
    except OutboxError as error:
        return f"refused: {error}"
    return "taken for corrupt" if list(folder.glob("*corrupt*")) else found


def torn_wal(stand: Stand) -> Iterator[Row]:
    """Copies of file and WAL while the process writes; then the WAL of the copy is torn at every kind of place.

    A cut below what had been synced is no power cut that can happen: what is left must still be a beginning of the order,
    without a hole. Damage behind it is one that can: there all that was reported must be there too.
    """
    fault = "power cut, torn WAL"
    plan, rng = stand.plan, stand.rng
    copies, tears = (2, 12) if plan.short else (20, 60)
    with Link(1, mode="cut") as link:
        database = stand.path("outbox.db")
        child = stand.child(link.port, "cam-001", outbox=str(database))
        lost = holes = tried = 0
        problems: list[str] = []
        for number in range(copies):
            stand.tell(f"{fault}: copy {number + 1} of {copies}")
            child.wait_put(child.put_count)
            child.feed(40, first=40 * number)
            child.wait_said("fed", times=number + 1)
            synced = _snapshot(child, database)
            child.feed(40, rate_per_s=400, first=40 * (number + copies))
            child.wait_put(synced.reported + rng.randint(1, 39))
            torn = _snapshot(child, database)
            child.wait_put(80 * (number + 1))
            for one in _tears(synced, torn, rng, tears):
                tried += 1
                found = _readable(stand.folder / "copy", one.database, one.wal)
                if isinstance(found, str):
                    problems.append(found)
                    continue
                holes += not one.damaged and not _is_beginning(found)
                lost += max(0, one.reported - len(found))
        child.kill()
    yield judged(
        fault,
        Tally(tried, tried - len(problems), lost, 0, holes, 0, 0, 0),
        demands=[(not problems, f"{len(problems)} of {tried} torn files: {problems[0] if problems else ''}")],
        note="put and got are torn copies; lost and swap are events in them",
    )


def _tears(synced: Snapshot, torn: Snapshot, rng: random.Random, n: int) -> Iterator[Snapshot]:
    """Of the later moment: as it was, cut anywhere, and changed behind what the earlier moment had synced."""
    yield torn
    ends = frame_ends(torn.wal)
    same = torn.wal[: len(synced.wal)] == synced.wal and torn.database == synced.database
    for _ in range(n):
        # classes of places: anywhere, at a frame's end, around it, in its header
        where = rng.choice(
            [
                rng.randint(0, len(torn.wal)),
                rng.choice(ends or [0]),
                rng.choice(ends or [0]) + rng.randint(-8, 8),
                rng.choice(ends or [0]) + rng.randint(0, _FRAME_HEADER),
            ]
        )
        where = max(0, min(len(torn.wal), where))
        must = synced.reported if same and where >= len(synced.wal) else 0
        yield Snapshot(torn.database, torn.wal[:where], must)
        if same and len(torn.wal) > len(synced.wal):
            start = rng.randrange(len(synced.wal), len(torn.wal))
            run = rng.choice([1, 8, 512])
            change = rng.choice([bytes(run), rng.randbytes(run)])
            changed = torn.wal[:start] + change + torn.wal[start + run :]
            yield Snapshot(torn.database, changed, synced.reported, damaged=True)


def _is_beginning(found: list[Message]) -> bool:
    """1, 2, 3 ... without a hole, every payload whole."""
    if [message.seq for message in found] != list(range(1, len(found) + 1)):
        return False
    return not any(
        read_arrival(0.0, message.topic, message.payload).damaged
        for message in found
        if "_device" not in message.topic
    )
