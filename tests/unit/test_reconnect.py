"""Cameras that go away and come back, and cameras that are looked at every few minutes only."""

from __future__ import annotations

import itertools
import logging
import threading
import time

import numpy as np
import pytest

from edgeai.clock import FakeClock
from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.pulse import Pulse
from edgeai.sources.connection import TRANSITIONS, Backoff
from edgeai.sources.reconnect import Reconnecting
from edgeai.sources.settings import CaptureSettings
from edgeai.sources.source import Source
from edgeai.sources.stills import TimedStills
from edgeai.types import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)
REFUSED = SourceMissingError("connection refused")


class Camera(Source[Frame]):
    """Opens, or raises `opening`; gives `frames` pictures, `apart_s` from each other, then raises `error` or ends."""

    live = True

    def __init__(self, clock, *, opening=None, frames=3, apart_s=0.1, error=None, first_index=0):
        self.clock, self.opening, self.frames, self.apart_s = clock, opening, frames, apart_s
        self.error, self.first_index = error, first_index
        self.opened = self.closed = 0
        self.cancelled = False
        self.capped = 2

    def open(self):
        self.opened += 1
        if self.opening is not None:
            raise self.opening

    def close(self):
        self.closed += 1

    def cancel(self):
        self.cancelled = True

    def __iter__(self):
        for index in range(self.frames):
            self.clock.advance(self.apart_s)
            yield Frame(IMAGE, self.first_index + index, index * self.apart_s, "s")
        if self.error is not None:
            raise self.error


class Bench:
    """A clock, the cameras in their order, and what was told of them; the last one goes on for ever."""

    def __init__(self, *cameras, kind=Reconnecting, **settings):
        self.clock = FakeClock(wall_s=1_700_000_000.0)
        self.cameras = [Camera(self.clock, **camera) for camera in cameras]
        self.made = []
        self.told = []
        self.source = kind(
            self._make,
            label="camera gate",
            capture=CaptureSettings(**settings),
            pulse=Pulse(),
            on_change=self.told.append,
            clock=self.clock,
            chance=lambda: 1.0,
        )

    def _make(self):
        assert all(camera.closed == 1 for camera in self.made), "never two at once"
        camera = self.cameras[len(self.made)]
        self.made.append(camera)
        return camera

    def frames(self, count):
        return list(itertools.islice(self.source, count))


def test_every_state_knows_every_happening():
    happenings = set(TRANSITIONS["opening"])
    assert all(set(row) == happenings for row in TRANSITIONS.values())
    assert all(to in TRANSITIONS for row in TRANSITIONS.values() for to in row.values())
    assert set(TRANSITIONS["ended"].values()) == {"ended"}


def test_waits_double_from_one_to_thirty_seconds_and_chance_takes_half_at_most():
    most = Backoff(1.0, 30.0, lambda: 1.0)
    assert [most.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    least = Backoff(1.0, 30.0, lambda: 0.0)
    assert [least.next_s() for _ in range(8)] == [1, 1, 2, 4, 8, 15, 15, 15]
    least.reset()
    assert least.next_s() == 1


def test_frames_run_on_over_a_connection_that_was_lost(caplog):
    caplog.set_level(logging.INFO)
    bench = Bench({"error": SourceError("cable")}, {"opening": REFUSED}, {"opening": REFUSED}, {"frames": 99})
    frames = bench.frames(6)
    assert [frame.index for frame in frames] == list(range(6))
    # three frames a tenth apart, waits of 1, 2 and 4 seconds, and on
    assert [frame.time_s for frame in frames] == pytest.approx([0.1, 0.2, 0.3, 7.4, 7.5, 7.6])
    assert [facts.state for facts in bench.told] == [
        "live",
        *["waiting", "opening"] * 3,
        *("live", "ended"),
    ]
    assert bench.source.facts.connections == 2
    assert (bench.source.facts.failures, bench.source.facts.problem) == (3, "")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "camera gate: lost, tried again until it is back: cable",
        "camera gate: back after 7.1 s",
    ]
    assert [camera.closed for camera in bench.made[:3]] == [1, 1, 1]
    assert bench.source.capped == 8


def test_a_camera_that_was_never_there_is_told_once(caplog):
    caplog.set_level(logging.INFO)
    bench = Bench(*[{"opening": REFUSED}] * 20, {"frames": 9})
    bench.frames(1)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "camera gate: not there, tried again until it is back: connection refused"
    assert lines[1].startswith("camera gate: found after ")
    assert len(lines) == 2
    lost = [facts for facts in bench.told if facts.state == "waiting"]
    assert [facts.retry_in_s for facts in lost][:7] == [1, 2, 4, 8, 16, 30, 30]
    assert all(facts.lost for facts in lost)


def test_one_that_takes_connections_and_drops_them_is_not_hammered():
    bench = Bench(*[{"frames": 1, "error": SourceError("dropped")}] * 6, {"frames": 9})
    bench.frames(7)
    waits = [facts.retry_in_s for facts in bench.told if facts.state == "waiting"]
    assert waits == [1, 2, 4, 8, 16, 30]


def test_after_a_connection_that_lasted_the_wait_is_the_first_again():
    bench = Bench(*[{"opening": REFUSED}] * 5, {"frames": 200, "error": SourceError("x")}, {"frames": 9})
    bench.frames(201)
    waits = [facts.retry_in_s for facts in bench.told if facts.state == "waiting"]
    assert waits[-2:] == [16, 1]


def test_the_end_of_a_stream_is_a_loss_too():
    bench = Bench({"frames": 2}, {"frames": 9})
    assert len(bench.frames(3)) == 3
    assert bench.told[1].problem == "it ended"


def test_a_fault_of_a_driver_is_said_and_tried_again(caplog):
    bench = Bench(*[{"frames": 1, "error": RuntimeError("a bug")}] * 3, {"frames": 9})
    assert len(bench.frames(4)) == 4
    assert bench.told[1].problem == "a fault of the program: RuntimeError: a bug"
    assert caplog.text.count("Traceback") == 1


def test_an_address_that_is_wrong_stays_wrong():
    def make():
        raise SourceFormatError("no such kind")

    source = Reconnecting(make, label="c", capture=CaptureSettings(), pulse=Pulse(), clock=FakeClock())
    source.open()
    with pytest.raises(SourceFormatError):
        next(iter(source))


def test_the_pulse_is_held_around_what_may_hang_and_nothing_else():
    bench = Bench({"frames": 3}, open_s=15, stall_s=4)
    seen = []
    real = bench.source._pulse.begin
    bench.source._pulse.begin = lambda what, limit_s: (seen.append((what, limit_s)), real(what, limit_s))[1]
    frames = iter(bench.source)
    next(frames)
    assert bench.source._pulse._doing is None
    assert seen == [("opening the camera", 15.5), ("reading the camera", 4.5)]


def in_thread(source):
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(source), daemon=True)
    thread.start()
    return thread, frames


def until(true):
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def real_clock(make, kind=Reconnecting, **settings):
    told = []
    source = kind(make, label="c", capture=CaptureSettings(**settings), pulse=Pulse(), on_change=told.append)
    return source, told


def test_retry_now_ends_the_wait_and_the_next_one_is_short_again():
    made = []

    def make():
        made.append(Camera(FakeClock(), opening=REFUSED))
        return made[-1]

    source, told = real_clock(make, retry_s=600, retry_max_s=900)
    thread, _ = in_thread(source)
    for attempt in range(1, 4):
        until(lambda n=attempt: len(made) == n and told and told[-1].state == "waiting")
        assert told[-1].retry_in_s == pytest.approx(600, abs=301)
        source.retry_now()
    until(lambda: len(made) == 4)
    source.cancel()
    thread.join(20)
    assert not thread.is_alive()
    assert told[-1].state == "ended"


def test_cancelling_ends_the_wait_and_the_read():
    gate = threading.Event()

    class Waits(Camera):
        def __iter__(self):
            gate.wait(20)
            raise SourceError("cancelled")

        def cancel(self):
            gate.set()

    source, told = real_clock(lambda: Waits(FakeClock()))
    thread, _ = in_thread(source)
    until(lambda: source._source is not None)
    source.cancel()
    thread.join(20)
    assert not thread.is_alive()
    assert [facts.state for facts in told] == ["ended"]


def test_stills_come_on_the_clock_and_in_between_nothing_is_open():
    cameras = [{"frames": 99, "apart_s": 0.5}] * 4
    bench = Bench(*cameras, kind=TimedStills, every_s=600, settle_s=2)
    walls = []
    for frame in itertools.islice(bench.source, 4):
        walls.append(round(bench.clock.wall_s() % 3600, 1))
        assert frame.index >= 4  # the exposure has settled
        assert bench.made[-1].closed == 0
    # the wall clock began 13 min 20 s past the hour; each has half a second to the first frame and two to settle
    assert walls == [802.5, 1202.5, 1802.5, 2402.5]
    assert [camera.closed for camera in bench.made[:3]] == [1, 1, 1]
    assert [facts.state for facts in bench.told if facts.state in ("asleep", "live")][:4] == [
        *("live", "asleep"),
        *("live", "asleep"),
    ]
    assert not any(facts.lost for facts in bench.told)


def test_a_still_that_fails_is_tried_again_at_once(caplog):
    bench = Bench(
        {"opening": REFUSED},
        {"frames": 1, "error": SourceError("broke off")},
        {"frames": 99},
        {"frames": 99},
        kind=TimedStills,
        every_s=600,
        settle_s=0.2,
    )
    bench.frames(2)
    states = [facts.state for facts in bench.told]
    assert states.count("waiting") == 2
    assert states.count("asleep") == 1


def test_a_clock_that_is_set_makes_no_burst_and_no_long_silence():
    cameras = [{"frames": 99, "apart_s": 0.01}] * 40
    bench = Bench(*cameras, kind=TimedStills, every_s=600, settle_s=0)
    times = []
    jumps = itertools.cycle((3601.0, -7200.0, 299.9, -0.5))
    for frame in itertools.islice(bench.source, 40):
        times.append(frame.time_s)
        bench.clock.jump_wall(next(jumps))
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) >= 299
    assert max(gaps) <= 901


def test_a_still_can_be_had_now():
    made = []

    def make():
        clock = FakeClock()
        made.append(Camera(clock, frames=9))
        return made[-1]

    source, told = real_clock(make, kind=TimedStills, every_s=6000, settle_s=0)
    thread, frames = in_thread(source)
    until(lambda: told and told[-1].state == "asleep")
    source.retry_now()
    until(lambda: len(frames) == 2)
    source.cancel()
    thread.join(20)
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
