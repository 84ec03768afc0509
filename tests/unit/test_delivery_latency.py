"""How long it takes from what happened to its message's acknowledgement: only what this process saw happen, each once."""

from __future__ import annotations

import random
import threading

import pytest
from fake_transport import FakeTransport

from edgeai.clock import FakeClock
from edgeai.sinks.delivery.drain import Backoff, Drain
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.payload import Envelope, compose_native
from edgeai.sinks.store_and_forward import Destination, StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.types import DEVICE_STREAM, Event


class Way:
    """An outbox and a drain on a clock that stands still."""

    def __init__(self, path):
        self.clock, self.transport = FakeClock(), FakeTransport()
        self.outbox = Outbox(path, clock=self.clock)
        self.outbox.open()
        self.begin()

    def begin(self):
        backoff = Backoff(rng=random.Random(1))
        self.drain = Drain(
            self.transport, self.outbox, clock=self.clock, stop=threading.Event(), backoff=backoff
        )

    def happened(self, ago_s, **changes):
        given = {"priority": "event", "stream": "gate", **changes}
        self.outbox.put(Draft("t", b"x", happened_s=self.clock.monotonic_s() - ago_s, **given))

    def deliver(self, steps=20):
        for _ in range(steps):
            self.drain.step()

    def latency(self, priority="event"):
        read = self.drain.latencies[priority].read()
        return read.count, round(read.sum_s, 6)


@pytest.fixture
def way(tmp_path):
    made = Way(tmp_path / "outbox.db")
    made.clock.advance(100.0)
    yield made
    made.outbox.close()


def test_it_counts_from_what_happened_not_from_the_put(way):
    way.happened(0.25)
    way.clock.advance(0.5)
    way.deliver()
    assert way.latency() == (
        1,
        pytest.approx(0.75, abs=0.3),
    )  # connecting and polling may take time on this clock


def test_each_class_has_its_own(way):
    way.happened(1.0, priority="alarm")
    way.happened(2.0, priority="telemetry", latest=True, qos=0)
    way.deliver()
    assert (way.latency("alarm")[0], way.latency("telemetry")[0], way.latency("event")[0]) == (1, 1, 0)


def test_what_is_no_stream_s_does_not_count(way):
    way.happened(1.0, stream=DEVICE_STREAM)
    way.happened(1.0, stream="")
    way.deliver()
    assert way.outbox.pending == 0
    assert way.latency() == (0, 0.0)


def test_a_message_counts_once_whatever_the_link_does(way):
    way.transport.deaf = True
    way.happened(0.0)
    way.deliver(3)
    way.transport.lose()
    way.deliver(3)
    way.transport.deaf = False
    way.deliver()
    assert len(way.transport.received) >= 2
    assert way.latency()[0] == 1


def test_a_refused_message_does_not_count_until_it_is_taken(way):
    way.transport.refuse = lambda message: "no"
    way.happened(0.0)
    way.deliver(4)
    assert way.latency()[0] == 0


def test_messages_of_an_earlier_start_are_on_another_clock(way):
    way.happened(1.0)
    way.outbox.close()
    way.outbox.open()
    way.begin()
    way.happened(2.0)
    way.deliver()
    assert len(way.transport.received) == 2
    count, total = way.latency()
    assert count == 1 and total >= 2.0


@pytest.mark.parametrize("later_s", [1e-3, 1e6], ids=str)
def test_what_has_not_happened_yet_is_of_now(way, later_s):
    way.happened(-later_s)
    assert way.outbox.peek(1)[0].monotonic_s == way.clock.monotonic_s()


def test_every_destination_of_an_event_has_the_time_it_happened(tmp_path):
    first, second = FakeTransport(), FakeTransport()
    native = compose_native(TopicTree("t", "s", "d"), Envelope("d", "boot"))
    sink = StoreAndForward(
        first,
        Outbox(tmp_path / "outbox.db"),
        compose=native,
        also=[
            Destination(
                second,
                lambda event: [Draft("o", b"o", stream=event.stream, priority=event.priority)],
                "other",
            )
        ],
    )
    with sink:
        event = Event("line_crossed", "gate", 1.0)
        sink.send(Event("line_crossed", "gate", 1.0, monotonic_s=event.monotonic_s - 5.0))
        assert sink.flush(30)
        told = sink.counters.destinations
    assert set(told) == {"", "other"}
    for each in told.values():
        assert each.latency.keys() == {"event"}
        assert each.latency["event"].count == 1 and each.latency["event"].sum_s >= 5.0
    # what is told is only of classes that there were
    assert not sink.counters.destinations[""].latency
