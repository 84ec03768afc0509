"""How much may be on the way: against a model of a link with a queue."""

import math
from collections import deque

import pytest

from edgeai.sinks.delivery.flight import QUEUE_TARGET_S, FlightWindow
from edgeai.sinks.pace import Pace


def send_over(rate_bytes_s, delay_s, *, seconds, size=500):
    """A saturated link with an endless queue: (bytes a second carried, delays of the queue in the second half)."""
    window = FlightWindow()
    flying = deque()
    now_s = free_s = 0.0
    carried = open_bytes = 0
    delays = []
    while now_s < seconds:
        while open_bytes + size <= max(window.limit_bytes, size):
            free_s = max(free_s, now_s) + size / rate_bytes_s
            flying.append((now_s, free_s + delay_s))
            open_bytes += size
        sent_s, done_s = flying.popleft()
        now_s = max(now_s, done_s)
        open_bytes -= size
        carried += size
        window.acked(size, now_s - sent_s, now_s)
        if now_s > seconds / 2:
            delays.append(now_s - sent_s - delay_s - size / rate_bytes_s)
    return carried / now_s, delays


@pytest.mark.parametrize(
    ("rate_bytes_s", "delay_s"), [(2_000, 0.3), (20_000, 0.05), (1_000_000, 0.02), (1_000_000, 0.3)]
)
def test_the_link_is_used_and_its_queue_stays_short(rate_bytes_s, delay_s):
    reached, delays = send_over(rate_bytes_s, delay_s, seconds=60)
    assert reached > 0.85 * rate_bytes_s
    assert sorted(delays)[len(delays) * 9 // 10] < 2 * QUEUE_TARGET_S + 2 * 500 / rate_bytes_s


def test_a_fast_link_opens_the_window_within_some_rounds():
    window = FlightWindow()
    for round_ in range(13):
        window.acked(int(window.limit_bytes), 0.001, 0.001 * round_)
    assert window.limit_bytes > 4 << 20


def test_it_shrinks_once_a_round_and_never_to_nothing():
    window = FlightWindow()
    window.acked(100_000, 0.1, 0.1)
    before = window.limit_bytes
    for n in range(100):
        window.acked(100, 5.0, 0.2 + n * 1e-3)
    assert window.limit_bytes >= before / 2
    for n in range(100):
        window.acked(100, 5.0, 10.0 + 6 * n)
    assert window.limit_bytes >= 1024


def test_a_link_that_has_become_slower_for_good_is_believed_after_two_minutes():
    window = FlightWindow()
    window.acked(100, 0.1, 0.0)
    for second in range(1, 200):
        window.acked(100, 0.6, float(second))
    before = window.limit_bytes
    window.acked(100, 0.6, 200.0)
    assert window.limit_bytes > before


def test_a_pace_is_kept_in_short_bursts():
    pace = Pace(100.0)
    now_s, sent = 0.0, 0
    while now_s < 10.0:
        wait_s = pace.wait_s(now_s)
        if wait_s:
            now_s += wait_s
        else:
            pace.take()
            sent += 1
    assert sent == pytest.approx(1010, abs=2)


def test_no_pace_never_waits():
    pace = Pace(None)
    for _ in range(10):
        pace.take()
    assert pace.wait_s(0.0) == 0.0
    assert math.isfinite(Pace(5.0).wait_s(3.0))
