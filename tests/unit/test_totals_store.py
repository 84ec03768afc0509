"""Totals on the disk: what was saved is there again, whatever happens to the file; and nothing of it stops counting."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading

import pytest

from edgeai.clock import FakeClock
from edgeai.store import TotalsStore
from edgeai.store.totals import RETRY_DISK_S

GATE = {"line gate": {"in": 3, "out": 1}}
YARD = {"zone yard": {"entered": 7, "left": 7}, "track": {"started": 9}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "totals.db"


def saved(path, **streams):
    with TotalsStore(path) as store:
        for stream, totals in streams.items():
            store.save(stream, totals)


def loaded(path, stream):
    with TotalsStore(path) as store:
        return store.load(stream)


def test_what_was_saved_is_there_in_the_next_process(path):
    saved(path, gate=GATE, yard=YARD)
    assert loaded(path, "gate") == GATE
    assert loaded(path, "yard") == YARD
    assert loaded(path, "nobody") == {}


def test_the_newest_totals_of_each_rule_are_kept(path):
    with TotalsStore(path) as store:
        store.save("yard", YARD)
        store.save("yard", {"track": {"started": 10}})
        assert store.load("yard") == {**YARD, "track": {"started": 10}}
    assert loaded(path, "yard") == {**YARD, "track": {"started": 10}}, "a rule it did not name stays"


@pytest.mark.parametrize("durable", [True, False])
def test_they_are_in_the_file_when_save_returns(path, durable):
    with TotalsStore(path) as store:
        store.save("gate", GATE, durable=durable)
        with TotalsStore(path) as other:
            assert other.load("gate") == GATE


def test_without_a_file_they_are_remembered_by_the_process(tmp_path):
    with TotalsStore(None) as store:
        store.save("gate", GATE)
        assert store.load("gate") == GATE
    assert not list(tmp_path.iterdir())


def test_what_has_not_changed_is_not_written_again(path):
    with TotalsStore(path) as store:
        store.save("gate", GATE)
        with contextlib.closing(sqlite3.connect(path)) as db:
            before = db.execute("PRAGMA data_version").fetchone()
            store.save("gate", GATE)
            assert db.execute("PRAGMA data_version").fetchone() == before
            store.save("gate", {"line gate": {"in": 4, "out": 1}})
            assert db.execute("PRAGMA data_version").fetchone() != before


def test_many_threads_each_find_theirs_in_the_file(path):
    """A commit for another thread may hold one's own totals: it must not return before that is over."""
    with TotalsStore(path) as store, TotalsStore(None):
        faults = []

        def work(stream):
            with contextlib.closing(sqlite3.connect(path)) as db:
                for n in range(1, 31):
                    store.save(stream, {"r": {"n": n}}, durable=False)
                    (text,) = db.execute("SELECT totals FROM total WHERE stream = ?", (stream,)).fetchone()
                    if text != f'{{"n": {n}}}':
                        faults.append((stream, n, text))

        threads = [threading.Thread(target=work, args=(f"c{k}",)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not faults
    assert all(loaded(path, f"c{k}") == {"r": {"n": 30}} for k in range(6))


def test_a_file_that_is_no_database_is_set_aside_and_told_once(path, caplog):
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 100)
    with TotalsStore(path) as store:
        assert store.load("gate") == {}
        store.save("gate", GATE)
    assert loaded(path, "gate") == GATE
    assert path.with_name("totals.db.corrupt-1").read_bytes().startswith(b"no database")
    assert len(caplog.records) == 1
    assert "set aside" in caplog.text


def test_another_programs_database_is_kept_whole(path):
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE total (stream, rule, totals, crc)")
        db.commit()
    saved(path, gate=GATE)
    assert loaded(path, "gate") == GATE
    with contextlib.closing(sqlite3.connect(path.with_name("totals.db.corrupt-1"))) as db:
        assert db.execute("PRAGMA table_info(total)").fetchall()


def test_one_damaged_row_costs_no_other(path, caplog):
    saved(path, gate=GATE, yard=YARD)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE total SET totals = '{\"in\": 9}' WHERE stream = 'gate'")
        db.commit()
    assert loaded(path, "gate") == {}
    assert "totals of 'gate' are damaged" in caplog.text
    assert loaded(path, "yard") == YARD
    saved(path, gate=GATE)
    assert loaded(path, "gate") == GATE


def test_a_file_that_is_damaged_under_way_is_made_anew_with_all_that_is_known(path, caplog, monkeypatch):
    saved(path, yard=YARD)
    write, faults = TotalsStore._write, [sqlite3.DatabaseError("database disk image is malformed")]

    def fails_once(self, *args, **kwargs):
        if faults:
            raise faults.pop()
        write(self, *args, **kwargs)

    with TotalsStore(path) as store:
        store.save("gate", GATE)
        monkeypatch.setattr(TotalsStore, "_write", fails_once)
        store.save("gate", {"line gate": {"in": 4, "out": 1}})
    assert "set aside" in caplog.text
    assert "3 rules are known all the same" in caplog.text
    assert loaded(path, "yard") == YARD
    assert loaded(path, "gate") == {"line gate": {"in": 4, "out": 1}}


def test_any_damage_costs_totals_at_most(path):
    """Bytes flipped anywhere: it opens, invents nothing, and keeps what comes next."""
    many = {f"rule {n}": {"in": n} for n in range(200)}
    saved(path, gate=many)
    whole, random_ = path.read_bytes(), random.Random(1)
    for _ in range(120):
        for each in path.parent.iterdir():
            each.unlink()
        data = bytearray(whole)
        # headers of the file and of its pages, and anything
        for place in (random_.randrange(100), random_.randrange(len(data))):
            data[place] ^= 1 << random_.randrange(8)
        path.write_bytes(data)
        with TotalsStore(path) as store:
            found = store.load("gate")
            assert found.items() <= many.items()
            store.save("yard", YARD)
        assert loaded(path, "yard") == YARD
        assert loaded(path, "gate").items() <= many.items()


def test_a_folder_that_cannot_be_made_is_told_once_and_tried_again(path, caplog):
    clock = FakeClock()
    path.parent.write_text("in the way")
    with TotalsStore(path, clock=clock) as store:
        for n in range(5):
            store.save("gate", {"line gate": {"in": n}})
            clock.advance(RETRY_DISK_S + 1)
        assert store.load("gate") == {"line gate": {"in": 4}}
        assert len(caplog.records) == 1
        assert "counting goes on" in caplog.text
        path.parent.unlink()
        store.save("gate", {"line gate": {"in": 4}})  # nothing new, but it waits
        assert "can be written again" in caplog.text
    assert loaded(path, "gate") == {"line gate": {"in": 4}}


def test_a_failing_disk_is_not_asked_at_every_save(path, monkeypatch):
    clock = FakeClock()
    path.parent.write_text("in the way")
    asked = []
    monkeypatch.setattr("edgeai.store.totals._opened", lambda path: asked.append(path))
    mkdir = type(path).mkdir
    monkeypatch.setattr(
        type(path), "mkdir", lambda self, *args, **kw: asked.append(self) or mkdir(self, *args, **kw)
    )
    with TotalsStore(path, clock=clock) as store:
        asked.clear()
        for n in range(100):
            store.save("gate", {"line gate": {"in": n}})
        assert not asked
        clock.advance(RETRY_DISK_S + 1)
        store.save("gate", {"line gate": {"in": 100}})
        assert asked


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_told_and_counting_goes_on(path, caplog):
    saved(path, gate=GATE)
    path.chmod(0o400)
    path.parent.chmod(0o500)
    with TotalsStore(path) as store:
        store.save("gate", {"line gate": {"in": 9}})
    path.parent.chmod(0o700)
    assert "counting goes on" in caplog.text


def test_it_can_be_closed_twice_and_opened_again(path):
    store = TotalsStore(path)
    store.open()
    store.save("gate", GATE)
    store.close()
    store.close()
    store.open()
    assert store.load("gate") == GATE
    store.close()
