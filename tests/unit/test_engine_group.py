"""Engines shared by cameras: equal shares, batches, and what happens when one hangs or fails."""

from __future__ import annotations

import threading
import time
from collections import Counter

import numpy as np
import pytest

from edgeai.errors import EngineError
from edgeai.schedule.group import FAILURES, EngineGroup
from edgeai.types import TensorSpec

PICTURE = np.zeros((2, 2, 3), np.uint8)
WAIT_S = 20.0


class FakeEngine:
    """An EdgeEngine for a group: what `act` does with the pictures of a call, then an output each."""

    label, reason = "fake/int8", "as asked"
    inputs = (TensorSpec("picture", (2, 2, 3), "uint8"),)

    def __init__(self, act=lambda pictures: None, *, max_batch=1):
        self.act, self.max_batch = act, max_batch
        self.batches, self.closed_in = [], []
        self.running = 0

    def run(self, inputs):
        return self.run_batch([inputs["picture"]])[0]

    def run_batch(self, pictures):
        assert not self.closed_in
        self.running += 1
        assert self.running == 1, "one call at a time"
        try:
            self.batches.append(len(pictures))
            self.act(pictures)
        finally:
            self.running -= 1
        return [{"sum": np.float32([picture.sum()])} for picture in pictures]

    def close(self):
        self.closed_in.append(threading.current_thread().name)


class FakeJob:
    """Always ready with `frames` pictures; counts what becomes of them."""

    def __init__(self, frames=10**9, picture=PICTURE, log=None, name="job"):
        self.left, self.picture, self.log, self.name = frames, picture, log if log is not None else [], name
        self.done, self.lost, self.failed = 0, Counter(), []
        self.inside = 0
        self.outputs = []

    def ready(self):
        return self.left > 0 and not self.failed

    def begin(self):
        self.inside += 1
        assert self.inside == 1, "one turn at a time"
        self.left -= 1
        self.log.append(self.name)
        if self.picture is None:
            self.inside = 0
        return self.picture

    def finish(self, outputs, engine_s):
        self.inside = 0
        self.outputs.append(float(outputs["sum"][0]))
        self.done += 1

    def lose(self, reason):
        self.inside = 0
        self.lost[reason] += 1

    def fail(self, error):
        self.failed.append(error)


def until(true, what="it"):
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, f"{what} did not come true"
        time.sleep(0.002)


def group_of(*engines, engine_s=WAIT_S):
    left = list(engines)
    group = EngineGroup(lambda: left.pop(0), label="fake", engine_s=engine_s)
    group.grow(len(engines))
    return group


@pytest.fixture
def closing():
    groups = []
    yield groups
    for group in groups:
        group.close()
        assert group.join(WAIT_S)


def test_all_who_are_ready_have_the_same_share(closing):
    log = []
    group = group_of(FakeEngine(lambda _: time.sleep(0.001)))
    closing.append(group)
    jobs = [FakeJob(name=name, log=log) for name in "abcd"]
    for job in jobs:
        group.add(job)
    until(lambda: sum(job.done for job in jobs) >= 100)
    counts = [job.done for job in jobs]
    assert max(counts) - min(counts) <= 1
    rounds = [set(log[at : at + 4]) for at in range(4, 80, 4)]
    assert all(len(each) == 4 for each in rounds), "none is served twice before all were served"


def test_who_comes_rarely_is_served_next(closing):
    log = []
    hold = threading.Semaphore(0)
    group = group_of(FakeEngine(lambda _: hold.acquire(timeout=WAIT_S)))
    closing.append(group)
    greedy = [FakeJob(name=name, log=log) for name in "abc"]
    rare = FakeJob(frames=0, name="rare", log=log)
    for job in (*greedy, rare):
        group.add(job)
    for _ in range(9):
        hold.release()
    until(lambda: len(log) == 10)
    rare.left = 1
    group.wake()
    hold.release()
    until(lambda: len(log) == 11)
    assert log[10] == "rare"
    for job in greedy:
        job.left = 0
    for _ in range(9):
        hold.release()


def test_a_camera_is_with_one_worker_at_a_time(closing):
    group = group_of(*(FakeEngine(lambda _: time.sleep(0.0005)) for _ in range(4)))
    closing.append(group)
    jobs = [FakeJob(frames=150) for _ in range(3)]
    for job in jobs:
        group.add(job)
    until(lambda: all(job.done == 150 for job in jobs))
    assert not any(job.failed for job in jobs)


def test_those_who_are_ready_are_run_at_once_where_the_engine_can(closing):
    gate = threading.Event()
    engine = FakeEngine(lambda _: gate.wait(WAIT_S), max_batch=4)
    group = group_of(engine)
    closing.append(group)
    jobs = [FakeJob(frames=1, picture=np.full((2, 2, 3), value, np.uint8)) for value in range(6)]
    idle = FakeJob(frames=1, picture=None)
    for job in (*jobs[:1], idle, *jobs[1:]):
        group.add(job)
    gate.set()
    until(lambda: all(job.done == 1 for job in jobs))
    assert sum(engine.batches) == 6
    assert max(engine.batches) <= 4
    assert [job.outputs for job in jobs] == [[12.0 * value] for value in range(6)]


def test_an_engine_that_hangs_is_replaced_and_its_camera_goes_on(closing):
    gate, begun = threading.Event(), threading.Event()

    def hang(pictures):
        begun.set()
        assert gate.wait(WAIT_S)

    hung, whole = FakeEngine(hang), FakeEngine()
    group = EngineGroup(iter([hung, whole]).__next__, label="fake", engine_s=0.05)
    closing.append(group)
    jobs = [FakeJob(frames=50), FakeJob(frames=50)]
    for job in jobs:
        group.add(job)
    assert begun.wait(WAIT_S)
    (worker,) = group.workers
    until(lambda: worker.pulse.hung(time.monotonic()))
    worker.replace(worker.pulse.hung(time.monotonic()))
    until(lambda: sum(job.done for job in jobs) == 99)
    assert sum((job.lost for job in jobs), Counter()) == {"hung": 1}
    assert group.replaced == 1
    assert [each.label for each in group.workers] == ["engine fake#1"]
    assert not hung.closed_in
    gate.set()  # it comes back: nothing of it reaches a job, and its engine goes
    until(lambda: hung.closed_in)
    assert sum(job.done for job in jobs) == 99


def test_an_engine_that_came_back_is_not_replaced(closing):
    gate = threading.Event()
    group = EngineGroup(iter([FakeEngine(lambda _: gate.wait(WAIT_S))]).__next__, label="f", engine_s=0.01)
    closing.append(group)
    job = FakeJob(frames=1)
    group.add(job)
    (worker,) = group.workers
    until(lambda: worker.pulse.hung(time.monotonic()))
    doing = worker.pulse.hung(time.monotonic())
    gate.set()
    until(lambda: job.done == 1)
    worker.replace(doing)
    assert (group.replaced, group.workers) == (0, (worker,))


def test_an_engine_that_fails_once_is_opened_again(closing, caplog):
    def fail(pictures):
        raise EngineError("the driver lost the device")

    bad, good = FakeEngine(fail), FakeEngine()
    group = EngineGroup(iter([bad, good]).__next__, label="fake", engine_s=WAIT_S)
    closing.append(group)
    job = FakeJob(frames=5)
    group.add(job)
    until(lambda: job.done == 4)
    assert job.lost == {"engine_failed": 1}
    assert not job.failed
    assert bad.closed_in == ["engine fake#0"]
    assert "opened again: the driver lost the device" in caplog.text


def test_a_camera_that_breaks_every_engine_ends_and_the_others_go_on(closing):
    def act(pictures):
        if any(picture[0, 0, 0] == 9 for picture in pictures):
            raise EngineError("no such picture")

    group = EngineGroup(lambda: FakeEngine(act, max_batch=4), label="fake", engine_s=WAIT_S)
    closing.append(group)
    poison = FakeJob(picture=np.full((2, 2, 3), 9, np.uint8))
    whole = [FakeJob(frames=50) for _ in range(2)]
    for job in (poison, *whole):
        group.add(job)
    until(lambda: poison.failed and all(job.left == 0 and not job.inside for job in whole))
    assert poison.lost == {"engine_failed": FAILURES - 1}
    assert all(job.done >= 49 for job in whole), "what failed once is run alone"
    assert not any(job.failed for job in whole)


def test_a_model_that_cannot_be_opened_again_ends_its_cameras(closing):
    gate = threading.Event()
    engines = iter([FakeEngine(lambda _: gate.wait(WAIT_S))])

    def open_engine():
        try:
            return next(engines)
        except StopIteration:
            raise EngineError("the file is gone") from None

    group = EngineGroup(open_engine, label="fake", engine_s=0.01)
    closing.append(group)
    job = FakeJob()
    group.add(job)
    (worker,) = group.workers
    until(lambda: worker.pulse.hung(time.monotonic()))
    worker.replace(worker.pulse.hung(time.monotonic()))
    until(lambda: job.failed)
    assert str(job.failed[0]) == "the file is gone"
    gate.set()


def test_a_fault_of_one_camera_leaves_the_others_alone(closing):
    class Faulty(FakeJob):
        def finish(self, outputs, engine_s):
            raise RuntimeError("a bug")

    group = group_of(FakeEngine())
    closing.append(group)
    faulty, whole = Faulty(), FakeJob(frames=20)
    group.add(faulty)
    group.add(whole)
    until(lambda: whole.done == 20 and faulty.failed)
    assert [str(error) for error in faulty.failed] == ["a bug"]


def test_engines_are_closed_in_their_threads_after_the_last_call():
    engines = [FakeEngine(), FakeEngine()]
    group = group_of(*engines)
    job = FakeJob(frames=10)
    group.add(job)
    until(lambda: job.done == 10)
    group.close()
    group.close()
    assert group.join(WAIT_S)
    assert [engine.closed_in for engine in engines] == [["engine fake#0"], ["engine fake#1"]]


def test_a_job_that_was_removed_has_no_more_turns(closing):
    group = group_of(FakeEngine())
    closing.append(group)
    job = FakeJob()
    group.add(job)
    until(lambda: job.done > 3)
    group.remove(job)
    until(lambda: job.inside == 0)
    time.sleep(0.02)
    done = job.done
    time.sleep(0.02)
    assert job.done == done
