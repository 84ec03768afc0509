"""The cache of built plans: made once, whole or built again, bounded, and of use on a disk that is full."""

from __future__ import annotations

import os
import threading

import pytest

from edgeai.engines.plans import cache as module
from edgeai.engines.plans.cache import PlanCache
from edgeai.engines.plans.sealed import BrokenSealError, read_facts, read_sealed, write_sealed
from edgeai.errors import EngineError

PLAN = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "engines", max_bytes=1 << 20)


def provide(cache, key="k", plan=PLAN, built=None):
    def build():
        if built is not None:
            built.append(key)
        return plan

    return cache.provide(key, build, facts={"tensorrt": "10.3.0"}, name="model.onnx")


def test_built_once_and_read_after(cache):
    built = []
    assert provide(cache, built=built) == PLAN
    assert provide(cache, built=built) == PLAN
    assert built == ["k"]
    (kept,) = cache.kept()
    assert kept.facts["name"] == "model.onnx"
    assert kept.facts["tensorrt"] == "10.3.0"
    cache.forget("k")
    cache.forget("k")
    assert provide(cache, built=built) == PLAN
    assert built == ["k", "k"]


def test_any_flipped_byte_and_any_cut_means_built_again(cache, tmp_path, caplog):
    provide(cache)
    (path,) = tmp_path.rglob("*.plan")
    whole = path.read_bytes()
    places = [0, 5, 20, 60, whole.index(b"\n", 20), len(whole) - len(PLAN), len(whole) - 1]
    broken = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in places]
    broken += [b"", whole[:10], whole[: len(whole) // 2], whole[:-1], whole + b"x", b"\0" * len(whole)]
    for content in broken:
        path.write_bytes(content)
        built = []
        assert provide(cache, built=built) == PLAN
        # a byte of the facts that nothing hangs on may go unseen, one of the plan never does
        assert built == ["k"] or read_sealed(path).content == PLAN
    assert "is broken" in caplog.text
    assert path.read_bytes()[: len(b"edgeai sealed")] == b"edgeai sealed"


def test_the_least_recently_used_goes_first(tmp_path):
    cache = PlanCache(tmp_path, max_bytes=35_000)
    for number, key in enumerate("abc"):
        provide(cache, key)
        (path,) = tmp_path.rglob(f"{key}.plan")
        os.utime(path, (1000 + number, 1000 + number))
    provide(cache, "a")  # used again: b is the oldest now
    provide(cache, "d")
    assert {each.key for each in cache.kept()} == {"a", "c", "d"}
    large = PlanCache(tmp_path, max_bytes=100)
    provide(large, "e")
    assert {each.key for each in large.kept()} == {"e"}  # the one in use stays, however large


def test_two_threads_build_once(cache):
    entered, go = threading.Event(), threading.Event()
    built, got = [], []

    def build():
        built.append(1)
        entered.set()
        assert go.wait(30)
        return PLAN

    def work():
        got.append(cache.provide("k", build, facts={}, name="model.onnx"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert built == [1]
    assert got == [PLAN] * 3


def test_a_build_that_fails_leaves_the_next_its_turn(cache):
    def fail():
        raise EngineError("cannot be built")

    with pytest.raises(EngineError, match="cannot be built"):
        cache.provide("k", fail, facts={}, name="model.onnx")
    assert provide(cache) == PLAN


def test_a_full_disk_costs_the_keeping_only(cache, tmp_path, monkeypatch, caplog):
    def full(path, content, facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_sealed", full)
    assert provide(cache) == PLAN
    assert "cannot be kept (No space left on device): it works now and is built again" in caplog.text
    cache.keep_timing("t", b"x")
    assert cache.timing("t") == b""
    assert not list(tmp_path.rglob("*.plan"))


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "engines").write_text("a file")
    assert provide(PlanCache(tmp_path / "engines", max_bytes=1)) == PLAN
    assert "plans are built at every start" in caplog.text


def test_what_a_killed_writer_left_is_swept(cache, tmp_path):
    provide(cache)
    left = tmp_path / "engines" / "plans" / ".k.plan.abc.part"
    left.write_bytes(b"half")
    cache.forget("k")
    provide(cache)
    assert not left.exists()
    cache.keep_timing("t", b"times")
    left = tmp_path / "engines" / "timing" / ".t.timing.abc.part"
    left.write_bytes(b"half")
    cache.keep_timing("t", b"other times")
    assert not left.exists()


def test_timing_caches_are_kept_whole_or_not_used(cache, tmp_path):
    assert cache.timing("t") == b""
    cache.keep_timing("t", b"")
    assert not list(tmp_path.rglob("*.timing"))
    cache.keep_timing("t", b"times")
    assert cache.timing("t") == b"times"
    (path,) = tmp_path.rglob("*.timing")
    path.write_bytes(path.read_bytes().replace(b"times", b"tames"))
    assert cache.timing("t") == b""


def test_clear(cache, tmp_path):
    assert cache.clear() == (0, 0)
    provide(cache)
    cache.keep_timing("t", b"times")
    count, size = cache.clear()
    assert (count, size > len(PLAN)) == (1, True)
    assert cache.timing("t") == b"times"
    assert cache.clear(everything=True)[0] == 1
    assert cache.kept() == []


def test_a_seal_tells_what_is_wrong(tmp_path):
    path = tmp_path / "x"
    write_sealed(path, b"content", {"a": 1})
    assert read_facts(path)["a"] == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BrokenSealError, match="6 of 7 bytes"):
        read_sealed(path)
    path.write_bytes(b"\xff" * 100_000)
    with pytest.raises(BrokenSealError, match="beginning"):
        read_facts(path)
    path.write_bytes(b"edgeai sealed 1\n[1]\n")
    with pytest.raises(BrokenSealError):
        read_sealed(path)


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, at):
    from pathlib import Path

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    write_sealed(tmp_path / "x", b"old", {})
    if at == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    elif at == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    content = b"new" if at != "write" else memoryview(b"")  # a write that raises: no bytes to hash
    with pytest.raises((OSError, TypeError)):
        write_sealed(tmp_path / "x", content if at != "write" else None, {})
    monkeypatch.undo()
    assert read_sealed(tmp_path / "x").content == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
