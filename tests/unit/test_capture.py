"""A camera's thread: the newest frame or every one, what breaks is heard of, what hangs is left behind and replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgeai.clock import FakeClock
from edgeai.errors import SourceError, SourceMissingError
from edgeai.pulse import Pulse
from edgeai.sources.capture import MAX_BAD_IN_A_ROW, Capture
from edgeai.sources.source import Source
from edgeai.types import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)
WAIT_S = 20.0


class Scripted(Source[Frame]):
    """Gives `count` frames; waits for gates[k] before frame k, its pulse held meanwhile; ends with `error`."""

    def __init__(self, count, *, gates=None, error=None, images=None, opening=None):
        self.count, self.error, self.opening = count, error, opening
        self.gates = gates or {}
        self.images = images or {}
        self.pulse: Pulse | None = None
        self.closed_in = []
        self.cancelled = threading.Event()

    def open(self) -> None:
        if self.opening is not None:
            raise self.opening

    def close(self) -> None:
        self.closed_in.append(threading.current_thread().name)

    def cancel(self) -> None:
        self.cancelled.set()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if index in self.gates:
                with self.pulse.during("a read", 0.05):
                    assert self.gates[index].wait(WAIT_S)
            yield Frame(self.images.get(index, IMAGE), index, index / 10, "s")
        if self.error is not None:
            raise self.error


def capture_of(*sources, **settings):
    """A capture whose n-th source is the n-th of these."""
    left = list(sources)

    def make(pulse):
        source = left.pop(0)
        source.pulse = pulse
        return source

    return Capture(make, label="camera s", **settings)


def until(true, what="it"):
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, f"{what} did not come true"
        time.sleep(0.002)


def taken_from(capture):
    """Take until it is over."""
    frames = []
    while not capture.over:
        taken = capture.take()
        if taken is None:
            time.sleep(0.001)
        else:
            frames.append(taken.frame)
    return frames


def test_who_is_slow_gets_the_newest_and_the_rest_is_counted():
    capture = capture_of(Scripted(100))
    capture.open()
    until(lambda: capture.captured == 100)
    assert capture.take().frame.index == 99
    assert capture.take() is None
    until(lambda: capture.over)
    assert capture.dropped == 99


def test_every_frame_is_handed_over_where_that_was_asked_for():
    capture = capture_of(Scripted(50), every=True)
    capture.open()
    assert [frame.index for frame in taken_from(capture)] == list(range(50))
    assert (capture.captured, capture.dropped, capture.error) == (50, 0, None)


def test_it_wakes_for_each_frame_and_for_the_end():
    woken = []
    capture = capture_of(Scripted(3), wake=lambda: woken.append(1))
    capture.open()
    until(lambda: len(woken) >= 4)


@pytest.mark.parametrize("error", [SourceError("the cable is out"), ValueError("a fault"), MemoryError()])
def test_an_error_is_known_after_the_last_frame(error):
    capture = capture_of(Scripted(3, error=error), every=True)
    capture.open()
    assert len(taken_from(capture)) == 3
    assert capture.error is error


def test_an_error_of_opening_comes_out_of_opening():
    source = Scripted(1, opening=SourceMissingError("no camera"))
    capture = capture_of(source)
    with pytest.raises(SourceMissingError):
        capture.open()
    capture.close()
    assert len(source.closed_in) == 1


def test_the_source_is_closed_by_its_own_thread():
    source = Scripted(2)
    capture = capture_of(source, every=True)
    capture.open()
    taken_from(capture)
    until(lambda: source.closed_in)
    capture.close()
    assert source.closed_in == ["camera s capture"]


def test_closing_leaves_a_read_that_hangs_behind():
    gate = threading.Event()
    source = Scripted(2, gates={1: gate}, error=SourceError("late"))
    capture = capture_of(source, join_s=0.01)
    capture.open()
    until(lambda: capture.ready)
    capture.close()
    assert capture.over
    assert source.cancelled.is_set()
    assert not source.closed_in
    gate.set()
    until(lambda: source.closed_in)
    assert capture.error is None
    assert capture.captured == 1


def test_one_that_waits_to_hand_over_ends_too():
    source = Scripted(5)
    capture = capture_of(source, every=True)
    capture.open()
    until(lambda: capture.ready)
    capture.close()
    until(lambda: source.closed_in)
    assert capture.captured == 1


def test_a_read_that_hangs_is_replaced_and_time_and_index_run_on():
    gate, clock = threading.Event(), FakeClock()
    hung, fresh = Scripted(9, gates={3: gate}, error=SourceError("late")), Scripted(3)
    hung.capped, fresh.capped, hung.bad = 4, 5, 1
    capture = capture_of(hung, fresh, clock=clock, every=True)
    capture.open()
    until(lambda: capture.ready)
    before = [capture.take().frame]
    for _ in range(2):
        until(lambda: capture.ready)
        before.append(capture.take().frame)
    until(lambda: hung.pulse.hung(time.monotonic()))
    clock.advance(7.0)
    capture.replace(hung.pulse.hung(time.monotonic()))
    assert capture.pulse is fresh.pulse
    after = taken_from(capture)
    assert [frame.index for frame in (*before, *after)] == [0, 1, 2, 3, 4, 5]
    assert [frame.time_s for frame in after] == pytest.approx([7.2, 7.3, 7.4])
    assert (capture.abandoned, capture.captured) == (1, 6)
    assert (capture.capped, capture.bad) == (9, 1)
    assert hung.cancelled.is_set()
    gate.set()  # it comes back, and disturbs nobody
    until(lambda: hung.closed_in)
    assert capture.error is None
    assert capture.captured == 6


def test_what_came_back_is_not_replaced():
    gate = threading.Event()
    source = Scripted(3, gates={1: gate})
    capture = capture_of(source)
    capture.open()
    until(lambda: source.pulse.hung(time.monotonic()))
    doing = source.pulse.hung(time.monotonic())
    gate.set()
    until(lambda: capture.captured == 3)
    capture.replace(doing)
    assert capture.abandoned == 0


def test_a_replacement_that_cannot_be_opened_ends_it():
    gate = threading.Event()
    hung = Scripted(3, gates={1: gate})
    capture = capture_of(hung, Scripted(1, opening=SourceMissingError("gone")))
    capture.open()
    until(lambda: hung.pulse.hung(time.monotonic()))
    with pytest.raises(SourceMissingError):
        capture.replace(hung.pulse.hung(time.monotonic()))
    capture.take()
    assert capture.over
    assert isinstance(capture.error, SourceMissingError)
    gate.set()


def test_pictures_that_are_none_are_left_out_and_counted(caplog):
    images = {
        1: np.zeros((0, 0, 3), np.uint8),
        2: np.zeros((2, 2, 7), np.uint8),
        3: None,
        4: np.zeros((2, 2), np.float32),
        5: np.zeros((2, 3), np.uint8),  # grey is one
        6: np.full((2, 3, 3), 0x1234, np.uint16),
        7: np.zeros((4, 4, 3), np.uint8)[::2, ::-1],
    }
    capture = capture_of(Scripted(8, images=images), every=True)
    capture.open()
    frames = taken_from(capture)
    assert [frame.index for frame in frames] == [0, 5, 6, 7]
    for frame in frames:
        assert frame.image.ndim == 3 and frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
    assert frames[2].image[0, 0, 0] == 0x12
    assert capture.bad == 4
    assert caplog.text.count("left out and counted") == 1


def test_a_source_that_gives_nothing_but_such_pictures_ends():
    images = dict.fromkeys(range(MAX_BAD_IN_A_ROW + 5), np.zeros((0, 2, 3), np.uint8))
    capture = capture_of(Scripted(len(images), images=images))
    capture.open()
    until(lambda: capture.over)
    assert isinstance(capture.error, SourceError)


def test_when_the_newest_came():
    clock = FakeClock()
    clock.advance(7.0)
    capture = capture_of(Scripted(1), clock=clock, every=True)
    capture.open()
    until(lambda: capture.ready)
    assert capture.newest_s == 7.0
    assert capture.take().arrived_s == 7.0
