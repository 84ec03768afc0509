"""The newest frame wins: what is dropped is counted, what breaks is heard of, what hangs is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edgeai.clock import FakeClock
from edgeai.errors import SourceError, SourceMissingError
from edgeai.sources.latest import Latest
from edgeai.sources.source import Source
from edgeai.types import Frame

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Scripted(Source[Frame]):
    """Gives `count` frames; before frame k waits for gates[k], after it sets told[k]; ends with `error`."""

    def __init__(self, count: int, *, gates=None, error: BaseException | None = None) -> None:
        self.count = count
        self.gates: dict[int, threading.Event] = gates or {}
        self.error = error
        self.told = [threading.Event() for _ in range(count + 1)]
        self.opened = 0
        self.closed = threading.Event()

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed.set()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            if index in self.gates:
                self.gates[index].wait(10)
            self.told[index].set()
            yield Frame(IMAGE, index, index / 10, "s")
        self.told[self.count].set()
        if self.error is not None:
            raise self.error


def test_a_slow_reader_gets_the_newest_and_the_rest_is_counted():
    gate = threading.Event()
    source = Scripted(100, gates={50: gate})
    with Latest(source) as latest:
        frames = iter(latest)
        gate.set()
        source.told[100].wait(10)
        found = [frame.index for frame in frames]
    assert found[-1] == 99
    assert found == sorted(set(found))
    assert latest.captured == 100
    assert latest.dropped == 100 - len(found)


def test_a_fast_reader_gets_every_frame():
    gates = {index: threading.Event() for index in range(20)}
    with Latest(Scripted(20, gates=gates)) as latest:
        frames = iter(latest)
        for index in range(20):
            gates[index].set()
            assert next(frames).index == index
        assert list(frames) == []
    assert (latest.captured, latest.dropped) == (20, 0)


@pytest.mark.parametrize("error", [SourceError("the cable is out"), ValueError("a fault"), MemoryError()])
def test_an_error_comes_out_in_the_reader_after_the_last_frame(error):
    with Latest(Scripted(3, error=error)) as latest:
        found = []
        with pytest.raises(type(error)) as caught:
            for frame in latest:
                found.append(frame.index)  # noqa: PERF401 - the error must find what came before
        assert caught.value is error
        assert found[-1] == 2
        with pytest.raises(type(error)):
            next(iter(latest))


def test_an_error_of_opening_comes_out_of_opening():
    class Missing(Scripted):
        def open(self) -> None:
            raise SourceMissingError("no camera")

    latest = Latest(Missing(1))
    with pytest.raises(SourceMissingError), latest:
        pass
    latest.close()


def test_the_source_is_closed_by_its_own_thread():
    for count in (0, 5):
        source = Scripted(count)
        with Latest(source) as latest:
            list(latest)
        assert source.closed.wait(10)


def test_closing_wakes_a_reader_that_waits():
    gate = threading.Event()
    latest = Latest(Scripted(2, gates={1: gate}), join_s=0.01)
    latest.open()
    frames, found = iter(latest), []
    assert next(frames).index == 0
    reader = threading.Thread(target=lambda: found.extend(frames))
    reader.start()
    latest.close()
    reader.join(10)
    assert not reader.is_alive()
    assert found == []
    gate.set()


def test_a_thread_left_behind_disturbs_nobody():
    gate = threading.Event()
    source = Scripted(2, gates={1: gate}, error=SourceError("late"))
    latest = Latest(source, join_s=0.01)
    latest.open()
    assert next(iter(latest)).index == 0
    latest.close()
    hung = next(thread for thread in threading.enumerate() if thread.name == "capture")
    latest.source = Scripted(3)
    latest.open()
    gate.set()
    hung.join(10)
    found = [frame.index for frame in latest]
    assert found[-1] == 2
    latest.close()


def test_when_the_newest_came():
    clock = FakeClock()
    clock.advance(7.0)
    with Latest(Scripted(1), clock=clock) as latest:
        list(latest)
        assert latest.newest_s == 7.0
