"""What every sink keeps to, whatever it writes to."""

import contextlib
import io
import math
import threading

import pytest
from fake_transport import FakeTransport
from webhook_server import Receiver

from edgeai.errors import SinkError
from edgeai.sinks.file_transport import FileTransport, StdoutTransport
from edgeai.sinks.jsonl import JsonlSink, StdoutSink
from edgeai.sinks.other_settings import WebhookSettings
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.payload import Envelope, compose_native, decode
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.webhook import WebhookTransport
from edgeai.types import Event

ENVELOPE = Envelope("cam-001", "boot-1", synced=lambda: None)


class ListSink(Sink):
    """The fake: events in a list, checked as a real one checks them."""

    def __init__(self):
        self.payloads = []
        self._lock = threading.Lock()
        self._is_open = False

    def open(self):
        self._is_open = True

    def close(self):
        self._is_open = False

    def send(self, event):
        with self._lock:
            if not self._is_open:
                raise SinkError("not open")
            self.payloads.append(ENVELOPE.encode(event, len(self.payloads) + 1))


def list_sink(folder):
    sink = ListSink()
    return sink, lambda: sink.payloads


def jsonl_sink(folder):
    path = folder / "events.jsonl"
    return JsonlSink(path, ENVELOPE), lambda: path.read_bytes().splitlines()


def stdout_sink(folder):
    out = io.BytesIO()
    return StdoutSink(ENVELOPE, out=out), lambda: out.getvalue().splitlines()


def forwarding_sink(folder):
    transport = FakeTransport()
    compose = compose_native(TopicTree("t", "s", "cam-001"), ENVELOPE)
    sink = StoreAndForward(transport, Outbox(folder / "outbox.db"), compose=compose)

    def arrived():
        assert sink.flush(20)
        return [message.payload for message in transport.received]

    return sink, arrived


def through_outbox(folder, transport, lines):
    """The sink, and what asks for the lines that its destination has."""
    compose = compose_native(TopicTree("t", "s", "cam-001"), ENVELOPE)
    sink = StoreAndForward(transport, Outbox(folder / "outbox.db"), compose=compose)

    def arrived():
        assert sink.flush(20)
        return lines()

    return sink, arrived


def file_transport(folder):
    path = folder / "events.jsonl"
    return through_outbox(folder, FileTransport(path), lambda: path.read_bytes().splitlines())


def stdout_transport(folder):
    out = io.BytesIO()
    return through_outbox(folder, StdoutTransport(out=out), lambda: out.getvalue().splitlines())


def webhook_transport(folder, **changes):
    receiver = Receiver()
    settings = WebhookSettings(name="hook", kind="webhook", url=receiver.url, **changes)
    sink, arrived = through_outbox(
        folder,
        WebhookTransport(settings),
        lambda: [line for request in receiver.requests for line in request.body.splitlines()],
    )
    return sink, arrived, receiver


def webhook_batches(folder):
    return webhook_transport(folder, batch=20)


SINKS = {
    "list": list_sink,
    "jsonl": jsonl_sink,
    "stdout": stdout_sink,
    "store and forward": forwarding_sink,
    "file transport": file_transport,
    "stdout transport": stdout_transport,
    "webhook": webhook_transport,
    "webhook batches": webhook_batches,
}


@pytest.fixture(params=SINKS.values(), ids=SINKS.keys())
def made(request, tmp_path):
    sink, arrived, *servers = request.param(tmp_path)
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        yield sink, arrived


def event(number=0, **changes):
    return Event("tick", "gate", float(number), **changes)


def test_events_arrive_whole_once_and_in_order(made):
    sink, arrived = made
    events = [event(number, data={"n": number, "text": "ü\n"}) for number in range(50)]
    with sink:
        for one in events:
            sink.send(one)
        found = [decode(payload) for payload in arrived()]
    assert [one["id"] for one in found] == [one.id for one in events]
    assert [one["seq"] for one in found] == list(range(1, 51))
    assert found[7]["data"] == {"n": 7, "text": "ü\n"}


@pytest.mark.parametrize(
    "bad", [event(data={"x": math.nan}), event(data={"x": object()}), event(data={"x": "x" * (300 << 10)})]
)
def test_an_event_that_cannot_travel_is_refused_and_the_next_one_goes(made, bad):
    sink, arrived = made
    with sink:
        with pytest.raises(SinkError):
            sink.send(bad)
        sink.send(event(1))
        assert [decode(payload)["seq"] for payload in arrived()] == [1]


def test_events_that_belong_together_arrive_in_order(made):
    sink, arrived = made
    events = [event(number) for number in range(7)]
    with sink:
        sink.send_many(events)
        sink.send_many([])
        assert [decode(payload)["id"] for payload in arrived()] == [one.id for one in events]


def test_threads_may_send_at_once(made):
    sink, arrived = made
    with sink:
        threads = [
            threading.Thread(target=lambda: [sink.send(event(number)) for number in range(25)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [decode(payload)["seq"] for payload in arrived()] == list(range(1, 101))


def test_before_opening_and_after_closing_sending_is_an_error(made):
    sink, _ = made
    with pytest.raises(SinkError):
        sink.send(event())
    with sink:
        sink.send(event())
    with pytest.raises(SinkError):
        sink.send(event())


def test_closing_twice_and_opening_again(made):
    sink, arrived = made
    sink.close()
    for _ in range(2):
        with sink:
            sink.send(event())
            arrived()
        sink.close()
    with sink:
        assert len(arrived()) == 2
