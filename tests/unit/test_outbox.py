import contextlib
import logging
import math
import sqlite3
import subprocess
import sys
import threading

import pytest

from edgeai.clock import FakeClock
from edgeai.errors import OutboxError
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft, Lane
from edgeai.sinks.outbox.table import ROW_OVERHEAD_BYTES

SIZE = 100  # bytes that one draft of `draft` counts for


def draft(priority="event", body=b"", stream="gate"):
    return Draft("t", body or b"x" * (SIZE - ROW_OVERHEAD_BYTES - 1), priority=priority, stream=stream)


def seqs(outbox):
    return [message.seq for message in outbox.peek(10_000)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


@pytest.fixture
def clock():
    return FakeClock()


def test_put_peek_ack(path):
    with Outbox(path) as outbox:
        assert outbox.put(Draft("a/b", b"one", qos=0, retain=True, priority="alarm", stream="s")) == 1
        assert outbox.put_many([draft(), draft()]) == [2, 3]
        first, second = outbox.peek(2)
        assert (first.seq, first.topic, first.payload, first.qos, first.retain) == (1, "a/b", b"one", 0, True)
        assert (first.priority, first.stream, second.seq) == ("alarm", "s", 2)
        assert [message.seq for message in outbox.peek(5, after=1)] == [2, 3]
        assert outbox.pending == 3
        assert outbox.ack([2, 99]) == 1
        assert outbox.ack([2]) == 0
        assert seqs(outbox) == [1, 3]


def test_what_was_put_is_there_after_opening_again_and_numbers_go_on(path):
    with Outbox(path) as outbox:
        outbox.put_many([draft(), draft(), draft()])
        outbox.ack([1, 2, 3])
    with Outbox(path) as outbox:
        assert outbox.pending == 0
        assert outbox.put(draft()) == 4
    with Outbox(path) as outbox:
        assert seqs(outbox) == [4]


def test_a_body_learns_its_number(path):
    with Outbox(path) as outbox:
        outbox.put(draft())
        outbox.put_many(
            [Draft("t", lambda seq, place: b"%d" % seq), Draft("t", lambda seq, place: b"%d" % seq)]
        )
        assert [message.payload for message in outbox.peek(9, after=1)] == [b"2", b"3"]


def test_a_body_that_fails_stores_nothing_of_its_batch_and_uses_no_number(path):
    def fail(seq, place):
        raise ValueError("no")

    with Outbox(path) as outbox:
        with pytest.raises(ValueError, match="no"):
            outbox.put_many([draft(), Draft("t", fail)])
        assert outbox.pending == 0
        assert outbox.put(draft()) == 1


def test_a_closed_outbox_says_so(path):
    outbox = Outbox(path)
    with pytest.raises(OutboxError, match="not open"):
        outbox.put(draft())
    outbox.open()
    outbox.open()
    outbox.close()
    outbox.close()
    with pytest.raises(OutboxError, match="not open"):
        outbox.put(draft())
    assert (outbox.peek(1), outbox.ack([1]), outbox.pending) == ([], 0, 0)


@pytest.mark.parametrize(
    "bounds", [{"max_bytes": 0}, {"memory_bytes": -1}, {"max_age_s": 0}, {"max_age_s": math.nan}]
)
def test_senseless_bounds_are_refused(path, bounds):
    with pytest.raises(OutboxError, match="above 0"):
        Outbox(path, **bounds)


def test_the_drop_order_is_class_then_age(path, caplog):
    with Outbox(path, max_bytes=6 * SIZE) as outbox:
        for priority in ("alarm", "event", "telemetry", "image", "image", "event"):
            outbox.put(draft(priority))
        assert sum(outbox.dropped.values()) == 0
        outbox.put(draft("alarm"))
        assert seqs(outbox) == [1, 2, 3, 5, 6, 7]
        outbox.put_many([draft("alarm"), draft("alarm")])
        assert seqs(outbox) == [1, 2, 6, 7, 8, 9]
        outbox.put(draft("telemetry"))  # the least of all that is there: itself
        assert seqs(outbox) == [1, 2, 6, 7, 8, 9]
        outbox.put_many([draft("alarm")] * 3)
        assert seqs(outbox) == [7, 8, 9, 11, 12, 13]
        assert outbox.dropped == {"image": 2, "telemetry": 2, "event": 2, "alarm": 1}
        assert outbox.pending_bytes == 6 * SIZE
    assert [record.message.count("full") for record in caplog.records] == [1]  # said once


def test_a_message_larger_than_the_outbox_is_refused_and_drops_nothing(path):
    with Outbox(path, max_bytes=5 * SIZE) as outbox:
        outbox.put(draft())
        with pytest.raises(OutboxError, match="holds 500"):
            outbox.put(draft(body=b"x" * 500))
        assert seqs(outbox) == [1]


def test_what_is_too_old_goes_and_is_counted(path, clock, caplog):
    with Outbox(path, max_age_s=100, clock=clock) as outbox:
        outbox.put(draft("alarm"))
        clock.advance(60)
        outbox.put(draft("event"))
        clock.advance(50)
        assert seqs(outbox) == [2]
        assert outbox.dropped["alarm"] == 1
        assert "older than 100 s" in caplog.text


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0, -1.7e9, 1e9])
def test_a_jump_of_the_wall_clock_drops_nothing(path, clock, jump_s):
    with Outbox(path, max_age_s=3600, clock=clock) as outbox:
        outbox.put(draft())
        clock.jump_wall(jump_s)
        clock.advance(1000)
        outbox.put(draft())
        assert seqs(outbox) == [1, 2]


def test_age_goes_on_while_the_process_is_down(path):
    clock = FakeClock()
    with Outbox(path, max_age_s=3600, clock=clock) as outbox:
        outbox.put(draft())
    later = FakeClock(wall_s=clock.wall_s() + 3000)
    with Outbox(path, max_age_s=3600, clock=later) as outbox:
        assert seqs(outbox) == [1]
        later.advance(1000)
        assert seqs(outbox) == []
        assert outbox.dropped["event"] == 1


@pytest.mark.parametrize(
    ("put_s", "open_s"), [(1000.0, 1.7e9), (1.7e9, 1000.0)], ids=["put unset", "opened unset"]
)
def test_a_clock_that_was_never_set_ages_nothing_at_once(path, put_s, open_s):
    with Outbox(path, max_age_s=3600, clock=FakeClock(wall_s=put_s)) as outbox:
        outbox.put(draft())
    clock = FakeClock(wall_s=open_s)
    with Outbox(path, max_age_s=3600, clock=clock) as outbox:
        assert seqs(outbox) == [1]
        clock.advance(3500)
        assert seqs(outbox) == [1]
        clock.advance(600)  # its age counts from opening then
        assert seqs(outbox) == []


def test_many_threads_share_commits_and_lose_nothing(path, monkeypatch):
    commits = []
    with Outbox(path) as outbox:
        insert = outbox._store.insert
        monkeypatch.setattr(
            outbox._store, "insert", lambda batch: commits.append(len(batch)) or insert(batch)
        )
        stored = []

        def put(number):
            stored.extend(outbox.put(draft(stream=f"{number}", body=b"%d" % turn)) for turn in range(50))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(stored) == list(range(1, 401))
        assert sum(commits) == 400
        assert len(commits) < 400
        for number in range(8):
            own = [int(message.payload) for message in outbox.peek(999) if message.stream == f"{number}"]
            assert own == list(range(50))


# ---- files that are not what they should be ----


def test_a_folder_in_its_place_is_told(tmp_path):
    with pytest.raises(OutboxError, match="is a folder"):
        Outbox(tmp_path).open()


def test_another_programs_database_is_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE precious (x)")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(OutboxError, match="another program's database"):
        Outbox(path).open()
    assert path.read_bytes() == before


def test_a_newer_schema_is_left_alone(path):
    with Outbox(path) as outbox:
        outbox.put(draft())
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    with pytest.raises(OutboxError, match="schema 3, known is 2"):
        Outbox(path).open()


def test_a_second_process_is_told_who_has_it(path):
    with Outbox(path):
        code = f"from edgeai.sinks.outbox import Outbox; Outbox({str(path)!r}).open()"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "is in use by process" in other.stderr
        with pytest.raises(OutboxError, match="in use"):
            Outbox(path).open()
    with Outbox(path) as outbox:
        assert outbox.put(draft()) == 1


def test_a_file_that_is_no_database_is_set_aside_and_said_once(path, caplog):
    path.write_bytes(b"garbage " * 1000)
    with Outbox(path) as outbox:
        outbox.put(draft())
        assert seqs(outbox) == [1]
    assert path.with_name("outbox.db.corrupt-1").read_bytes() == b"garbage " * 1000
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_empty_file_is_a_new_outbox(path):
    path.touch()
    with Outbox(path) as outbox:
        assert outbox.put(draft()) == 1


def test_torn_pages_are_set_aside_and_the_sound_rest_is_saved(path, caplog):
    with Outbox(path) as outbox:
        outbox.put_many([draft(body=b"%06d" % number * 50) for number in range(1, 1001)])
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(raw)
    with Outbox(path) as outbox:
        saved = outbox.peek(2000)
        assert 500 < len(saved) < 1000
        assert all(message.payload == b"%06d" % message.seq * 50 for message in saved)
        assert outbox.put(draft()) == 1001
    assert "could be read" in caplog.text
    assert path.with_name("outbox.db.corrupt-1").exists()


def test_corruption_met_while_running_begins_a_new_file(path):
    with Outbox(path) as outbox:
        outbox.put_many([draft(body=b"%06d" % number * 50) for number in range(1, 1001)])
        outbox._store._disk._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (path.stat().st_size - 4096))
        outbox._store._disk._db.execute("PRAGMA shrink_memory")
        outbox._store._disk._db.execute("PRAGMA cache_size = 1")
        for number in range(50):
            outbox.put(draft(body=b"new %d" % number))
            outbox.peek(100)
        assert [message.payload for message in outbox.peek(9999)][-50:] == [b"new %d" % n for n in range(50)]
        assert outbox.on_disk
    assert path.with_name("outbox.db.corrupt-1").exists()


def test_no_more_than_five_corpses_are_kept(path):
    for number in range(8):
        path.write_bytes(b"garbage %d" % number * 100)
        with Outbox(path):
            pass
        path.unlink()
    assert len(list(path.parent.glob("*.corrupt-?"))) == 5


# ---- disks that fail ----


def limit(outbox, pages):
    """As a full disk: SQLite answers "database or disk is full" beyond so many pages."""
    outbox._store._disk._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_means_memory_and_back(path, clock, caplog):
    with Outbox(path, clock=clock, retry_disk_s=5) as outbox:
        outbox.put(draft())
        limit(outbox, 1)
        outbox.put_many([draft(body=b"y" * 20_000) for _ in range(3)])
        assert not outbox.on_disk
        assert seqs(outbox) == [1, 2, 3, 4]
        assert outbox.pending == 4
        assert outbox.ack([1, 3]) == 2  # one on the disk that cannot be written, one in memory
        assert outbox.ack([1, 3]) == 0
        assert seqs(outbox) == [2, 4]
        assert outbox.pending == 2
        rewinds = outbox.rewinds
        clock.advance(5)
        outbox.put(draft())
        assert not outbox.on_disk
        limit(outbox, 100_000)
        clock.advance(5)
        outbox.put(draft())
        assert outbox.on_disk
        assert outbox.rewinds > rewinds
        assert seqs(outbox) == [2, 4, 5, 6]
    told = [record.message for record in caplog.records]
    assert len(told) == 2, told
    assert "full" in told[0]
    assert "3 messages went to it" in told[1]
    with Outbox(path, clock=clock) as outbox:
        assert seqs(outbox) == [2, 4, 5, 6]


def test_a_disk_that_becomes_read_only_is_opened_anew(path, clock, caplog):
    with Outbox(path, clock=clock, retry_disk_s=5) as outbox:
        outbox.put_many([draft(), draft()])
        outbox._store._disk._db.execute("PRAGMA query_only = 1")  # of this connection only
        outbox.put(draft())
        assert outbox.ack([1]) == 1
        clock.advance(5)
        outbox.put(draft())
        assert (outbox.on_disk, outbox.pending) == (False, 3)
        assert outbox.ack([2]) == 1  # in a file that is closed by now
        assert outbox.pending == 2
        clock.advance(5)
        assert seqs(outbox) == [3, 4]
        assert (outbox.on_disk, outbox.pending) == (True, 2)
    assert "readonly" in caplog.records[0].message
    assert len(caplog.records) == 2


def test_memory_is_bounded_too(path, clock):
    with Outbox(path, clock=clock, memory_bytes=5 * SIZE) as outbox:
        limit(outbox, 1)
        outbox.put_many([draft(body=b"y" * 400)] + [draft("image")] * 600)
        outbox.put_many([draft()] * 20)
        assert outbox.pending == 5
        assert outbox.dropped["image"] == 600
        assert outbox.dropped["event"] == 16


def test_a_disk_that_is_not_there_at_first(tmp_path, clock, caplog):
    blocker = tmp_path / "mount"
    blocker.write_text("a file where a folder belongs")
    path = blocker / "outbox.db"
    with Outbox(path, clock=clock, retry_disk_s=5) as outbox:
        first = outbox.put(draft())
        assert not outbox.on_disk
        assert seqs(outbox) == [first]
        blocker.unlink()
        clock.advance(5)
        second = outbox.put(draft())
        assert outbox.on_disk
        assert (seqs(outbox), second) == ([first, first + 1], first + 1)
    assert len(caplog.records) == 2
    with Outbox(path, clock=clock) as outbox:
        assert seqs(outbox) == [first, second]


def test_messages_of_an_earlier_run_come_into_view_with_the_disk(tmp_path, clock):
    folder = tmp_path / "mount"
    with Outbox(folder / "outbox.db", clock=clock) as outbox:
        outbox.put_many([draft(), draft()])
    away = folder.rename(tmp_path / "unmounted")
    folder.write_text("")
    with Outbox(folder / "outbox.db", clock=clock, retry_disk_s=5) as outbox:
        new = outbox.put(draft())
        assert seqs(outbox) == [new]
        folder.unlink()
        away.rename(folder)
        clock.advance(5)
        assert seqs(outbox) == [1, 2, new]
        assert outbox.rewinds == 1


def test_messages_in_memory_at_the_end_are_told(tmp_path, caplog):
    blocker = tmp_path / "mount"
    blocker.write_text("")
    with Outbox(blocker / "outbox.db") as outbox:
        outbox.put(draft())
    assert "1 messages that waited in memory are lost" in caplog.text


def test_a_file_that_is_removed_while_in_use_is_made_again(path, caplog):
    with Outbox(path) as outbox:
        outbox.put_many([draft(), draft()])
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink()
        outbox.put(draft())
        assert outbox.on_disk
        assert seqs(outbox) == [1, 2, 3]
    with Outbox(path) as outbox:
        assert seqs(outbox) == [1, 2, 3]
    assert "removed or replaced" in caplog.text


def test_ctrl_c_in_the_committing_thread_keeps_what_others_wait_for(path, monkeypatch):
    with Outbox(path) as outbox:
        insert = outbox._store.insert

        def interrupted(batch):
            monkeypatch.setattr(outbox._store, "insert", insert)
            raise KeyboardInterrupt

        monkeypatch.setattr(outbox._store, "insert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            outbox.put(draft(body=b"one"))
        outbox.put(draft(body=b"two"))
        assert [message.payload for message in outbox.peek(9)] == [b"one", b"two"]


OLD_SCHEMA = """
CREATE TABLE message (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
  retain INTEGER NOT NULL, rank INTEGER NOT NULL, stream TEXT NOT NULL, wall_s REAL NOT NULL,
  monotonic_s REAL NOT NULL, size INTEGER NOT NULL);
CREATE INDEX message_by_rank ON message (rank, seq);
PRAGMA application_id = 1164201794;
PRAGMA user_version = 1;
"""


def write_old(path, n=3):
    """An outbox as version 0.1.0 of its schema had it."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA journal_mode=WAL;" + OLD_SCHEMA)
        for number in range(1, n + 1):
            row = ("t", b"old %d" % number, 1, 0, 2, "gate", 1_700_000_000.0, 5.0, 70)
            db.execute(
                "INSERT INTO message (topic, payload, qos, retain, rank, stream, wall_s, monotonic_s, size) "
                "VALUES (?,?,?,?,?,?,?,?,?)",
                row,
            )
        db.commit()


def test_an_outbox_of_an_earlier_version_is_taken_over(path):
    write_old(path)
    with Outbox(path, max_age_s=math.inf) as outbox:
        assert [message.payload for message in outbox.peek(9)] == [b"old 1", b"old 2", b"old 3"]
        assert [message.lane for message in outbox.peek(1)] == [Lane("", 2, "gate")]
        assert outbox.put(draft()) == 4
        assert outbox.pending_by_destination == {"": 4}
    with Outbox(path, max_age_s=math.inf) as outbox:
        assert seqs(outbox) == [1, 2, 3, 4]


def test_a_corrupt_outbox_of_an_earlier_version_is_saved_too(path):
    write_old(path, n=400)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 6 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with Outbox(path, max_age_s=math.inf) as outbox:
        ((type_, facts),) = outbox.take_incidents()
        assert (type_, facts["saved"]) == ("outbox_set_aside", outbox.pending)
        assert 200 < outbox.pending < 400


def test_the_oldest_tells_how_long_it_waits(path, clock):
    with Outbox(path, clock=clock) as outbox:
        assert outbox.oldest_s == 0.0
        outbox.put(draft())
        clock.advance(10)
        outbox.put(draft())
        clock.jump_wall(86400)
        assert outbox.oldest_s == 10.0
    with Outbox(path, clock=clock) as outbox:
        assert outbox.oldest_s == 86410.0


def test_numbers_in_a_stream_count_events_only_and_none_that_was_not_stored(path):
    def told(seq, place):
        return b"%d/%d" % (seq, place)

    def fail(seq, place):
        raise ValueError("no")

    with Outbox(path) as outbox:
        outbox.put_many([Draft("t", told, stream="a"), Draft("t", told, stream="b")])
        outbox.put(Draft("t", told, stream="a", latest=True))
        outbox.put(Draft("t", b"picture", stream="a"))
        with pytest.raises(ValueError, match="no"):
            outbox.put_many([Draft("t", told, stream="a"), Draft("t", fail, stream="a")])
        outbox.put(Draft("t", told, stream="a"))
        assert [m.payload for m in outbox.peek(9)] == [b"1/1", b"2/1", b"3/0", b"picture", b"5/2"]


# ---- damage ----


def fill(path, n=300):
    with Outbox(path) as outbox:
        outbox.put_many([draft(body=b"%04d" % number * 40) for number in range(n)])
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("place", [0, 15, 16, 18, 19, 28, 32, 44, 47, 56, 59, 60, 62, 63, 68, 71, 96])
@pytest.mark.parametrize("value", [0x00, 0x5A, 0xFF])
def test_a_damaged_header_loses_nothing(path, place, value):
    content = fill(path)
    if content[place] == value:
        return
    content[place] = value
    path.write_bytes(content)
    with Outbox(path) as outbox:
        assert len(outbox.peek(1000)) == 300
        assert outbox.on_disk
        outbox.put(draft())
        assert outbox.pending == 301


def test_a_flipped_bit_in_a_payload_is_not_sent(path):
    content = fill(path)
    place = content.index(b"0100" * 40) + 7
    content[place] ^= 0x10
    path.write_bytes(content)
    with Outbox(path) as outbox:
        outbox.peek(1000)
        found = outbox.peek(1000)
        assert len(found) == 299
        assert 101 not in [message.seq for message in found]
        assert [type_ for type_, _ in outbox.take_incidents()] == ["outbox_set_aside"]


def test_a_topic_that_is_no_text_any_more_costs_its_row_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        fill(path)
        db.execute("UPDATE message SET topic = CAST(x'ff80' AS TEXT) WHERE seq = 7")
        db.commit()
    with Outbox(path) as outbox:
        outbox.peek(1000)
        assert len(outbox.peek(1000)) == 299
        assert outbox.on_disk


def killed_with_a_log(path, n=40):
    """Database and log as kill -9 leaves them, a commit for each message."""
    with Outbox(path) as outbox:
        for number in range(n):
            outbox.put(draft(body=b"%04d" % number * 40))
        return path.read_bytes(), path.with_name(path.name + "-wal").read_bytes()


def opened(path, database, log):
    path.write_bytes(database)
    path.with_name(path.name + "-wal").write_bytes(log)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    with Outbox(path) as outbox:
        return [message.seq for message in outbox.peek(1000)], outbox.take_incidents()


def test_the_log_is_read_beyond_a_damaged_place_and_that_is_told(path):
    database, log = killed_with_a_log(path)
    whole, nothing = opened(path, database, log)
    assert (len(whole), nothing) == (40, [])
    place = len(log) // 4
    damaged = log[:place] + b"\xff" * 40 + log[place + 40 :]
    found, ((type_, facts),) = opened(path, database, damaged)
    assert type_ == "outbox_log_damaged"
    assert facts["saved"] > 20
    assert found[-1] == 40
    assert len(found) > 35


def test_a_torn_end_of_the_log_is_no_damage(path):
    database, log = killed_with_a_log(path)
    found, said = opened(path, database, log[:-100])
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= 39
    assert said == []


def test_an_idle_reader_finds_the_disk_again(path, clock):
    with Outbox(path, clock=clock) as outbox:
        outbox.put(draft())
        outbox._store._disk_failed(sqlite3.OperationalError("disk I/O error"))
        assert not outbox.on_disk
        outbox.retry_disk()
        assert not outbox.on_disk
        clock.advance(10)
        outbox.retry_disk()
        assert outbox.on_disk


def test_a_commit_that_failed_and_is_there_all_the_same_is_no_obstacle(path, clock):
    with Outbox(path, clock=clock) as outbox:
        disk = outbox._store._disk
        write = disk.write

        def fail_afterwards(*args, **kwargs):
            write(*args, **kwargs)
            raise sqlite3.OperationalError("disk I/O error")

        disk.write = fail_afterwards
        outbox.put_many([draft(), draft()])
        disk.write = write
        clock.advance(10)
        outbox.put(draft())
        assert outbox.on_disk
        assert seqs(outbox) == [1, 2, 3]
