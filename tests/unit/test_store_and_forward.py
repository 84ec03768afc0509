import json
import logging
import random
import threading

import pytest
from broker import wait_until
from fake_transport import FakeTransport

from edgeai.clock import FakeClock
from edgeai.errors import SinkError
from edgeai.sinks.delivery import drain as drain_module
from edgeai.sinks.delivery.drain import ACK_TIMEOUT_S, RETRY_REFUSED_S, Backoff, Drain
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.carry import leave_acknowledgement
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.pace import Pace
from edgeai.sinks.payload import Envelope, compose_native
from edgeai.sinks.store_and_forward import Destination, StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import TransportError, TransportRefusedError
from edgeai.types import Event


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def outbox(tmp_path, clock):
    with Outbox(tmp_path / "outbox.db", clock=clock) as opened:
        yield opened


@pytest.fixture
def transport():
    return FakeTransport()


@pytest.fixture
def drain(transport, outbox, clock):
    return Drain(
        transport, outbox, clock=clock, stop=threading.Event(), backoff=Backoff(rng=random.Random(1))
    )


def put(outbox, n=1):
    return outbox.put_many([Draft("t", b"%d" % number) for number in range(n)])


def run(drain, steps=50):
    for _ in range(steps):
        drain.step()
        if drain.connected and not drain._outbox.pending:
            return


def received(transport):
    return [message.seq for message in transport.received]


# ---- the drain, step by step ----


def test_all_is_delivered_in_order_within_the_window(drain, transport, outbox):
    put(outbox, 50)
    run(drain)
    assert received(transport) == list(range(1, 51))
    assert outbox.pending == 0
    assert transport.max_open <= transport.window
    assert (drain.published, drain.delivered) == (50, 50)


def test_what_was_open_at_a_loss_is_sent_again_and_first(drain, transport, outbox):
    put(outbox, 6)
    transport.deaf = True
    drain.step()
    drain.step()
    assert received(transport) == [1, 2, 3, 4]
    transport.lose()
    transport.deaf = False
    run(drain)
    assert received(transport) == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    assert outbox.pending == 0
    assert drain.delivered == 6


def test_backoff_grows_with_jitter_to_two_seconds_and_starts_anew(clock):
    backoff = Backoff(rng=random.Random(7))
    waits = [backoff.next_s() for _ in range(200)]
    assert all(0 < wait <= 2.0 for wait in waits)
    assert waits[0] <= 0.1
    assert min(waits[10:]) >= 1.0
    assert len(set(waits)) == 200
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_being_away_is_said_once_and_so_is_being_back(drain, transport, outbox, clock, caplog):
    caplog.set_level(logging.INFO)
    put(outbox, 3)
    transport.up = False
    for _ in range(20):
        drain.step()
    assert transport.attempts == 20
    assert 20 < clock.monotonic_s() <= 40  # waited between the attempts, two seconds at most
    assert drain.problem.startswith("cannot connect")
    transport.up = True
    run(drain)
    assert drain.problem == ""
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "events wait in the outbox" in caplog.records[0].message
    assert "connected again, 3 messages waited" in caplog.records[1].message


def test_a_refusal_is_said_by_its_reason_and_again_where_that_changes(drain, transport, clock, caplog):
    transport.up = False
    drain.step()
    transport.error = TransportRefusedError("bad user name or password")
    for _ in range(5):
        drain.step()
    assert clock.monotonic_s() > 5  # asked less and less often
    transport.error = TransportRefusedError("banned")
    drain.step()
    drain.step()
    said = [record.message.split(": ")[1].split(";")[0] for record in caplog.records]
    assert said == ["cannot connect", "bad user name or password", "banned"]


def test_a_destination_that_never_acknowledges_is_left_and_tried_again(
    drain, transport, outbox, clock, caplog
):
    put(outbox, 2)
    transport.deaf = True
    drain.step()
    drain.step()
    clock.advance(ACK_TIMEOUT_S + 1)
    drain.step()
    assert not drain.connected
    assert "no acknowledgement" in caplog.text
    transport.deaf = False
    run(drain)
    assert outbox.pending == 0


def test_an_idle_connection_is_not_taken_for_a_dead_one(drain, transport, outbox, clock):
    drain._transport.wake()
    drain.step()
    clock.advance(1000)
    put(outbox)
    transport.deaf = True
    drain.step()
    assert drain.connected
    transport.deaf = False
    run(drain)
    assert outbox.pending == 0
    assert transport.attempts == 1


def test_a_refused_message_blocks_nobody_and_is_offered_again(drain, transport, outbox, clock, caplog):
    put(outbox, 5)
    transport.refuse = lambda message: "not authorised" if message.seq == 2 else ""
    for _ in range(10):
        transport.wake()
        drain.step()
    assert [message.seq for message in outbox.peek(9)] == [2]
    assert received(transport).count(2) == 1
    assert [record.message for record in caplog.records] == [
        "fake://here: refused message 2: not authorised; it is kept and offered again"
    ]
    transport.refuse = lambda message: ""
    clock.advance(RETRY_REFUSED_S)
    transport.wake()
    drain.step()
    assert outbox.pending == 0
    assert transport.attempts == 1


def test_a_connection_that_only_comes_and_goes_is_said_to_be_lost_once(drain, transport, clock, caplog):
    for _ in range(20):
        transport.wake()
        drain.step()
        transport.lose()
        drain.step()
    assert [record.message for record in caplog.records] == [
        "fake://here: connection lost; events wait in the outbox"
    ]
    assert clock.monotonic_s() > 20  # asked less and less often
    for _ in range(3):
        transport.wake()
        drain.step()
        clock.advance(3)
    assert "connected again" in caplog.records[-1].message


def test_a_message_that_kills_each_connection_is_found_and_passed_over(
    drain, transport, outbox, clock, caplog
):
    put(outbox, 9)

    def poison(message):
        if message.seq == 6:
            transport.lose()
            raise TransportError("connection lost")

    publish = transport.publish
    transport.publish = lambda message: (poison(message), publish(message))
    for _ in range(60):
        transport.wake()
        drain.step()
    assert [message.seq for message in outbox.peek(9)] == [6]
    assert "refused message 6: the connection was lost 6 times when it was sent" in caplog.text
    transport.publish = publish
    clock.advance(RETRY_REFUSED_S)
    transport.wake()
    drain.step()
    assert outbox.pending == 0


def test_messages_dropped_before_they_were_sent_are_passed_over(tmp_path, transport, clock):
    with Outbox(tmp_path / "small.db", max_bytes=1000, clock=clock) as outbox:
        drain = Drain(transport, outbox, clock=clock, stop=threading.Event())
        transport.up = False
        drain.step()
        put(outbox, 100)
        transport.up = True
        run(drain)
        assert received(transport)[-1] == 100
        assert len(received(transport)) == 100 - outbox.dropped["event"]
        assert outbox.pending == 0


def test_a_fault_of_ours_does_not_end_the_delivery(drain, transport, outbox, monkeypatch, caplog):
    put(outbox, 2)
    drain.step()
    poll = transport.poll

    def fail(timeout_s):
        monkeypatch.setattr(transport, "poll", poll)
        raise ZeroDivisionError

    monkeypatch.setattr(transport, "poll", fail)
    run(drain)
    assert outbox.pending == 0
    assert "unexpected fault" in caplog.text


def test_acknowledgements_are_deleted_on_closing(drain, transport, outbox):
    put(outbox, 4)
    drain.step()
    transport.deaf = True
    drain.step()
    transport.deaf = False
    drain._acked.update({1, 2})
    drain.close()
    assert [message.seq for message in outbox.peek(9)] == [3, 4]
    assert transport.goodbyes == 1


# ---- the sink, with its thread ----


def compose(event):
    return [Draft("t/" + event.stream, event.id.encode(), stream=event.stream, priority=event.priority)]


@pytest.fixture
def sink(transport, tmp_path):
    with StoreAndForward(
        transport, Outbox(tmp_path / "sink.db"), compose=compose, clock=FakeClock()
    ) as opened:
        yield opened


def event(number=0, **changes):
    return Event("tick", "gate", float(number), **changes)


def test_events_arrive_and_are_counted(sink, transport):
    events = [event(number) for number in range(30)]
    sink.send(events[0])
    sink.send_many(events[1:])
    assert sink.flush(10)
    assert [message.payload.decode() for message in transport.received] == [one.id for one in events]
    counters = sink.counters
    assert (counters.sent, counters.acked, counters.pending, counters.refused) == (30, 30, 0, 0)
    assert (counters.connected, counters.problem, counters.on_disk) == (True, "", True)


def test_sending_wakes_a_sleeping_drain(sink, transport, monkeypatch):
    monkeypatch.setattr(drain_module, "IDLE_POLL_S", 600.0)  # a wake-up that is missed shows as a time-out
    for number in range(200):
        sink.send(event(number))
        assert sink.flush(30)


def test_flush_tells_that_something_waits(sink, transport):
    transport.deaf = True
    sink.send(event())
    assert not sink.flush(0.05)
    assert sink.counters.pending == 1


def test_what_waits_at_the_end_is_delivered_by_the_next_run(transport, tmp_path):
    transport.up = False
    with StoreAndForward(transport, Outbox(tmp_path / "o.db"), compose=compose) as sink:
        sink.send_many([event(number) for number in range(10)])
        assert sink.counters.acked == 0
    again = FakeTransport()
    with StoreAndForward(again, Outbox(tmp_path / "o.db"), compose=compose) as sink:
        assert sink.flush(10)
    assert len(again.received) == 10
    assert again.goodbyes == 1


def test_sending_never_waits_for_a_transport_that_hangs(transport, tmp_path, monkeypatch):
    release = threading.Event()

    def hang():
        release.wait(60)
        raise TransportError("gave up")

    monkeypatch.setattr(transport, "connect", hang)
    with StoreAndForward(transport, Outbox(tmp_path / "o.db"), compose=compose) as sink:
        for number in range(20):
            sink.send(event(number))
        assert sink.counters.pending == 20
        release.set()


def test_a_closed_sink_says_so(transport, tmp_path):
    sink = StoreAndForward(transport, Outbox(tmp_path / "o.db"), compose=compose)
    with pytest.raises(SinkError, match="not open"):
        sink.send(event())
    assert sink.counters.problem == "not open"
    assert not sink.flush(0)


def test_an_outbox_that_cannot_be_used_is_told_at_opening(transport, tmp_path):
    with pytest.raises(SinkError, match="is a folder"):
        StoreAndForward(transport, Outbox(tmp_path), compose=compose).open()


# ---- several destinations, and reports of itself ----


def both(transport, other, outbox, clock, **more):
    def compose_other(one):
        return [Draft("o/" + one.stream, b"o" + one.id.encode(), stream=one.stream)]

    also = Destination(other, more.pop("compose_other", compose_other), name="other")
    return StoreAndForward(transport, outbox, compose=compose, also=[also], clock=clock, **more)


def test_an_event_goes_to_every_destination_each_at_its_own_pace(transport, tmp_path, clock):
    other = FakeTransport()
    other.deaf = True
    with both(transport, other, Outbox(tmp_path / "o.db"), clock) as sink:
        sent = [event(number) for number in range(10)]
        sink.send_many(sent)
        wait_until(lambda: sink.counters.acked == 10)
        assert sink.counters.pending == 10
        other.deaf = False
        assert sink.flush(10)
        each = sink.counters.destinations
    assert (each[""].acked, each["other"].acked) == (10, 10)
    assert [m.payload.decode() for m in transport.received] == [one.id for one in sent]
    assert list(dict.fromkeys(m.payload.decode() for m in other.received)) == ["o" + one.id for one in sent]


def test_a_further_destination_that_fails_to_compose_costs_no_event(transport, tmp_path, clock, caplog):
    def fail(one):
        raise ZeroDivisionError("of ours")

    with both(transport, FakeTransport(), Outbox(tmp_path / "o.db"), clock, compose_other=fail) as sink:
        for number in range(3):
            sink.send(event(number))
        assert sink.flush(10)
    assert len(transport.received) == 3
    assert caplog.text.count("other: an event 'tick' cannot be sent there") == 1


def test_what_waits_for_a_destination_that_is_gone_is_dropped_and_told(transport, tmp_path, clock, caplog):
    away = FakeTransport()
    away.up = False
    with both(transport, away, Outbox(tmp_path / "o.db"), clock) as sink:
        sink.send_many([event(number) for number in range(4)])
        wait_until(lambda: sink.counters.acked == 4)
    with StoreAndForward(transport, Outbox(tmp_path / "o.db"), compose=compose, clock=clock) as sink:
        wait_until(lambda: len(transport.received) == 5)
        assert sink.flush(10)
    assert "4 messages for 'other' are dropped" in caplog.text


def told(transport, type_):
    return [
        json.loads(m.payload)["data"] for m in transport.received if json.loads(m.payload)["type"] == type_
    ]


def native(transport, outbox, clock):
    envelope = Envelope("cam", "boot", synced=lambda: None)
    return StoreAndForward(
        transport, outbox, compose=compose_native(TopicTree("t", "s", "cam"), envelope), clock=clock
    )


def test_drops_are_reported_with_their_counts(transport, tmp_path, clock):
    transport.up = False
    outbox = Outbox(tmp_path / "o.db", max_bytes=20_000)
    with native(transport, outbox, clock) as sink:
        for number in range(100):
            sink.send(event(number, data={"x": "x" * 500}))
        dropped = sink.counters.dropped
        assert dropped["event"] > 50
        transport.up = True
        clock.advance(120)
        assert sink.flush(20)
        clock.advance(120)
        sink.send(event())
        assert sink.flush(20)
        wait_until(lambda: not outbox.untold)
        assert sink.flush(20)
        dropped = sink.counters.dropped
    reports = told(transport, "messages_dropped")
    assert sum(report["dropped"]["event"] for report in reports) == sum(dropped.values()) >= 50
    assert all(m.priority == "alarm" for m in transport.received if b"messages_dropped" in m.payload)
    assert {m.topic for m in transport.received if b"messages_dropped" in m.payload} == {
        "edge/v1/t/s/cam/event/_device"
    }


def test_drops_that_a_crash_kept_from_being_told_are_told_by_the_next_run(transport, tmp_path, clock):
    with Outbox(tmp_path / "o.db", max_bytes=2000) as outbox:
        outbox.put_many([Draft("t", b"x" * 400, priority="image") for _ in range(10)])
        assert outbox.untold == {"image": outbox.dropped["image"]}
        count = outbox.dropped["image"]
    with native(transport, Outbox(tmp_path / "o.db"), clock) as sink:
        wait_until(lambda: any(b"messages_dropped" in m.payload for m in transport.received))
        assert sink.flush(10)
    with Outbox(tmp_path / "o.db") as outbox:
        assert outbox.untold == {}
    payloads = [m.payload for m in transport.received if b"messages_dropped" in m.payload]
    assert [json.loads(payload)["data"] for payload in payloads] == [{"dropped": {"image": count}}]


def test_a_file_that_was_set_aside_is_reported(transport, tmp_path, clock):
    (tmp_path / "o.db").write_bytes(b"this is no database, " * 100)
    with native(transport, Outbox(tmp_path / "o.db"), clock) as sink:
        wait_until(lambda: told(transport, "outbox_set_aside"))
        assert sink.flush(10)
    (facts,) = told(transport, "outbox_set_aside")
    assert (facts["file"], facts["saved"]) == ("o.db.corrupt-1", 0)


def test_carried_messages_leave_a_running_outbox(transport, tmp_path, clock):
    transport.up = False
    outbox = Outbox(tmp_path / "o.db")
    with native(transport, outbox, clock) as sink:
        sink.send_many([event(number) for number in range(5)])
        leave_acknowledgement(outbox.path, [1, 2, 3])
        wait_until(lambda: outbox.pending == 2)
        assert [message.seq for message in outbox.peek(9)] == [4, 5]


# ---- only the newest ----


def latest(number, topic="t"):
    return Draft(topic, b"%d" % number, latest=True, priority="telemetry", stream="gate")


def test_the_newest_takes_the_place_of_one_that_waits(outbox):
    outbox.put_many([latest(1), latest(1, "u"), Draft("t", b"event")])
    outbox.put_many([latest(2), latest(3)])
    assert [(m.topic, m.payload) for m in outbox.peek(9)] == [("u", b"1"), ("t", b"event"), ("t", b"3")]
    assert outbox.pending == 3
    assert sum(outbox.dropped.values()) == 0


def test_the_backlog_is_paced_and_what_is_new_is_not(drain, transport, outbox, clock):
    drain._pace = Pace(10.0)
    put(outbox, 50)

    def step(times, seconds=0.0):
        for _ in range(times):
            clock.advance(seconds)
            transport.wake()  # no waiting in the test
            drain.step()

    step(30)
    assert len(transport.received) == 1
    outbox.put(Draft("t", b"live", stream="elsewhere"))
    step(5)
    assert transport.received[-1].payload == b"live"
    step(60, 0.05)
    assert 25 < len(transport.received) < 40
    step(60, 0.05)
    assert outbox.pending == 0


def test_a_thin_link_lets_alarms_past_its_queue(drain, transport, outbox):
    transport.window = 1000
    outbox.put_many([Draft("t", b"x" * 1000, stream="busy") for _ in range(100)])
    transport.deaf = True
    drain.step()
    drain.step()
    waiting = len(transport.received)
    assert waiting < 20
    outbox.put(Draft("t", b"fire", priority="alarm", stream="busy"))
    drain.step()
    assert [m.payload for m in transport.received[waiting:]] == [b"fire"]


def test_where_the_other_end_is_not_ready_everything_waits(drain, transport, outbox):
    transport.ready = False
    put(outbox, 3)
    for _ in range(5):
        drain.step()
    assert transport.received == []
    transport.ready = True
    drain.step()
    assert len(transport.received) == 3
