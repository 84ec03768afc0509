"""A metered link over a real mosquitto: events travel packed, alarms alone, and nothing is lost over an outage."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
from broker import Mosquitto, Subscriber, wait_until
from fault_suite.link import Link

from edgeai.sinks.inventory import DeviceFacts
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.reporting import Reports, open_reports
from edgeai.sinks.reporting_settings import ReportingSettings
from edgeai.types import Event

pytestmark = pytest.mark.system


def reporting(broker, folder, **link):
    mqtt = ReportingSettings(host="127.0.0.1", port=broker.port, connect_timeout_s=2.0, link=link)
    return open_reports(Reports(DeviceFacts("cam"), folder, mqtt=mqtt), Outbox(folder / "outbox.db")).sink


def crossing(number, stream="gate", priority="event"):
    data = {"rule": "door", "direction": "in", "count": number, "totals": {"in": number, "out": 0}}
    return Event("line_crossed", stream, float(number), data, priority)


def unpacked(messages):
    """Envelopes in order of arrival, of batches and single events alike."""
    found = []
    for topic, payload, _ in messages:
        if "/batch/" in topic:
            found += [json.loads(line) for line in gzip.decompress(payload).splitlines()]
        elif "/event/" in topic:
            found.append(json.loads(payload))
    return found


def test_events_travel_packed_over_an_outage_and_none_is_lost(tmp_path):
    link = {"compress": "gzip", "gather_s": 0.5, "daily_bytes": {"telemetry": 10_000}}
    with Mosquitto(tmp_path / "broker", durable=True) as broker, Subscriber(broker.port) as subscriber:
        with reporting(broker, tmp_path, **link) as sink:
            sent = [crossing(number, stream) for number in range(150) for stream in ("gate", "yard")]
            for number, event in enumerate(sent):
                sink.send(event)
                if number == 100:
                    wait_until(lambda: len(unpacked(subscriber.messages)) > 50)
                    broker.stop()
            broker.start()
            assert sink.flush(30)
            alarm = crossing(999, priority="alarm")
            sink.send(alarm)
            assert sink.flush(30)
            spent = sink._destinations[0].gate.meter.spent
        assert subscriber.wait_for(lambda messages: len({one["id"] for one in unpacked(messages)}) == 301)
        messages = list(subscriber.messages)
    found = unpacked(messages)
    for stream in ("gate", "yard"):
        first = list(dict.fromkeys(one["seq"] for one in found if one["stream"] == stream))
        assert first == sorted(first)
    assert [topic for topic, payload, _ in messages if alarm.id.encode() in payload] == [
        "edge/v1/default/default/cam/event/gate"
    ]
    arrived = sum(len(payload) for topic, payload, _ in messages if "/batch/" in topic or "/event/" in topic)
    single = sum(len(json.dumps(one)) for one in found)
    assert arrived < single / 3
    assert 0 < spent["event"] < single / 2
    assert spent["alarm"] > 0


def test_what_is_over_the_budget_waits_and_alarms_do_not(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:
        with reporting(broker, tmp_path, daily_bytes={"event": 5000}) as sink:
            sink.send_many([crossing(number) for number in range(40)])
            sink.send(crossing(99, priority="alarm"))
            wait_until(lambda: sink.counters.acked >= 5)
            assert not sink.flush(1.0)
            pending = sink.counters.pending
            assert 20 < pending < 40
        again = json.loads((tmp_path / "link.json").read_bytes())
        assert 4000 < again["spent"]["event"] <= 5000
        assert subscriber.wait_for(lambda messages: any(b'"alarm"' in payload for _, payload, _ in messages))
        with reporting(broker, tmp_path) as sink:
            assert sink.flush(20)
        assert subscriber.wait_for(lambda messages: len({one["id"] for one in unpacked(messages)}) == 41)


def test_watch_reads_batches(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        words = (
            "mqtt",
            "watch",
            "--host",
            "127.0.0.1",
            "--port",
            str(broker.port),
            "--count",
            "20",
            "--json",
        )
        watch = subprocess.Popen(
            [sys.executable, "-m", "edgeai", *words, "--seconds", "60", "--type", "line_crossed"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with watch, reporting(broker, tmp_path, compress="gzip", gather_s=0.5) as sink:
            number = 0
            while watch.poll() is None:  # from whenever it listens
                number += 1
                sink.send(crossing(number))
                sink.flush(0.05)
            out, err = watch.communicate(timeout=30)
        assert watch.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert sum("line_crossed" in json.dumps(line) for line in lines) >= 20


def test_an_alarm_waits_behind_no_more_than_the_picture_that_is_on_its_way(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port) as subscriber:
        with Link(broker.port) as link, reporting(link, tmp_path) as sink:
            wait_until(lambda: sink.counters.connected)
            link.rate_bytes_s = 100_000.0
            picture = bytes(60_000)
            sink.send_many(
                [Event("snapshot", "gate", float(n), priority="image", picture=picture) for n in range(20)]
            )
            assert subscriber.wait_for(lambda messages: any("/image/" in topic for topic, _, _ in messages))
            sink.send(crossing(1, priority="alarm"))
            assert sink.flush(60)
        assert subscriber.wait_for(lambda messages: sum("/image/" in topic for topic, _, _ in messages) == 20)
        topics = [topic for topic, _, _ in subscriber.messages]
    alarm = next(place for place, topic in enumerate(topics) if "/event/" in topic)
    before = sum("/image/" in topic for topic in topics[:alarm])
    assert before <= 3, topics
