"""Events to a webhook whose server comes and goes, and to a file beside it: nothing is lost, duplicates by id only."""

import pytest
from broker import free_port, wait_until
from webhook_server import Receiver, verified

from edgeai.sinks.delivery.drain import Backoff
from edgeai.sinks.other_settings import FileSinkSettings, WebhookSettings, open_transport
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.payload import Envelope, compose_native, decode
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.types import Event

pytestmark = pytest.mark.system


def forwarding(settings, folder):
    return StoreAndForward(
        open_transport(settings),
        Outbox(folder / "outbox.db"),
        compose=compose_native(TopicTree("t", "s", "cam-001"), Envelope("cam-001", "boot-1")),
        backoff=Backoff(base_s=0.01, cap_s=0.1),
    )


def ticks(first, n):
    return [Event("tick", "gate", float(number), {"n": number}) for number in range(first, first + n)]


@pytest.mark.parametrize("batch", [1, 50])
def test_a_server_that_is_killed_for_a_while_loses_nothing(tmp_path, batch):
    port = free_port()
    (tmp_path / "key").write_text("k3y\n")
    settings = WebhookSettings(
        name="hook",
        kind="webhook",
        url=f"http://127.0.0.1:{port}/hook",
        secret_file=tmp_path / "key",
        batch=batch,
        response_timeout_s=2.0,
    )
    sent, requests = [], []

    def dying(request, handler):
        """Takes some requests, then hangs up in the midst of one: it had the event and never said so."""
        return 204 if len(server.requests) < 2 else None

    with forwarding(settings, tmp_path) as sink:
        for round_ in range(4):
            sent += (some := ticks(100 * round_, 100))
            sink.send_many(some[:50])
            with Receiver(port=port) as server:
                if round_ % 2:
                    server.answer = dying
                    wait_until(lambda: len(server.requests) >= 2 or not sink.counters.pending)
                else:
                    assert sink.flush(20)
            requests += server.requests
            sink.send_many(some[50:])  # while it is away
            wait_until(lambda: not sink.counters.connected)
        with Receiver(port=port) as server:
            assert sink.flush(30)
        requests += server.requests
    got = [one["id"] for request in requests for one in request.events]
    assert list(dict.fromkeys(got)) == [one.id for one in sent]
    assert len(got) > len(sent)  # the answers that never came
    assert all(verified(request, "k3y") for request in requests)


def test_a_process_that_ends_in_between_goes_on_where_it_was(tmp_path):
    settings = FileSinkSettings(
        name="file", kind="file", path=tmp_path / "e.jsonl", max_bytes=20_000, keep=100
    )
    sent = []
    for round_ in range(5):
        with forwarding(settings, tmp_path) as sink:
            sent += (some := ticks(100 * round_, 100))
            sink.send_many(some)
            if round_ == 4:
                assert sink.flush(20)
    files = sorted(
        tmp_path.glob("e.jsonl*"), key=lambda path: -int(path.suffix[1:]) if path.suffix != ".jsonl" else 1
    )
    got = [decode(line)["id"] for path in files for line in path.read_bytes().splitlines()]
    assert list(dict.fromkeys(got)) == [one.id for one in sent]
    assert len(files) > 1
