"""Whatever is added: buckets rise, nothing is lost, and each bucket is what counting by hand gives."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edgeai.metrics import Histogram

bounds = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20, unique=True).map(sorted)
durations = st.lists(st.floats(0, 1e7, allow_nan=False), max_size=60)


@given(bounds, durations)
def test_buckets_are_those_of_counting_by_hand(upper, seconds):
    times = Histogram(upper)
    for each in seconds:
        times.add(each)
    read = times.read()
    cumulative = read.cumulative()
    assert cumulative == sorted(cumulative)
    assert cumulative == [sum(each <= bound for each in seconds) for bound in (*upper, math.inf)]
    assert read.count == len(seconds)
    assert math.isclose(read.sum_s, sum(seconds), abs_tol=1e-9)


@given(bounds, durations, durations)
def test_adding_two_is_one_of_all(upper, ones, others):
    one, other, both = Histogram(upper), Histogram(upper), Histogram(upper)
    for each in ones:
        one.add(each)
        both.add(each)
    for each in others:
        other.add(each)
        both.add(each)
    together = one.read() + other.read()
    assert together.counts == both.read().counts
    assert math.isclose(together.sum_s, both.sum_s, rel_tol=1e-9, abs_tol=1e-9)
