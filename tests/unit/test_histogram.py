"""Durations counted by bound: exact for one who adds, readable for all others."""

from __future__ import annotations

import math
import threading

import pytest

from edgeai.metrics import STAGES, Histogram, StageTimes


def test_a_duration_counts_at_the_least_bound_that_holds_it():
    times = Histogram((0.1, 1.0))
    for each in (0.05, 0.1, 0.11, 1.0, 1.01, 1e9):
        times.add(each)
    read = times.read()
    assert (read.counts, read.count, read.cumulative()) == ((2, 2, 2), 6, [2, 4, 6])
    assert read.sum_s == pytest.approx(sum((0.05, 0.1, 0.11, 1.0, 1.01, 1e9)))


@pytest.mark.parametrize("wrong", [-1.0, -0.0, math.nan, -math.inf], ids=str)
def test_a_clock_that_went_wrong_takes_no_counter_back(wrong):
    times = Histogram((0.1,))
    times.add(wrong)
    assert (times.counts, times.sum_s) == ([1, 0], 0.0)


def test_what_was_read_does_not_change():
    times = Histogram((1.0,))
    before = times.read()
    times.add(0.5)
    assert (before.count, times.read().count) == (0, 1)


def test_two_of_the_same_bounds_add_up():
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.add(0.5)
    other.add(2.0)
    both = one.read() + other.read()
    assert (both.counts, both.sum_s) == ((1, 1), 2.5)
    with pytest.raises(ValueError, match="bounds"):
        both + Histogram((2.0,)).read()


def test_one_adds_while_others_read():
    times, n = Histogram((0.1, 0.2)), 20_000
    over = threading.Event()
    wrong = []

    def read():
        last = 0
        while not over.is_set():
            seen = times.read()
            # the sum may lack the newest one, and nothing else
            if seen.count < last or not -1e-6 <= seen.count * 0.15 - seen.sum_s <= 0.15 * 50:
                wrong.append(seen)
            last = seen.count

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    for _ in range(n):
        times.add(0.15)
    over.set()
    for each in readers:
        each.join()
    assert not wrong
    assert times.read().counts == (0, n, 0)


def test_a_stream_has_a_histogram_of_each_stage():
    times = StageTimes()
    assert tuple(times.stages) == STAGES
    times.stages["engine"].add(0.01)
    assert [each.read().count for each in times.stages.values()] == [
        int(stage == "engine") for stage in STAGES
    ]
