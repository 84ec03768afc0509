"""What is told of the device: when, and with which facts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from edgeai.clock import FakeClock
from edgeai.config import HealthSettings
from edgeai.health import Health, _temperature_c, sink_facts
from edgeai.metrics import Latencies
from edgeai.sinks.payload import Envelope
from edgeai.sinks.schemas.device import DEVICE_DATA
from edgeai.sinks.store_and_forward import Counters
from edgeai.stream import Overrides, StreamReport

COUNTERS = Counters(
    sent=9, acked=8, pending=3, refused=1, dropped={"image": 2}, connections=4, connected=True, problem="", on_disk=True,
    pending_bytes=500, oldest_s=1.25,
)  # fmt: skip


def fake_stream(name="gate"):
    return SimpleNamespace(
        name=name,
        kind="camera",
        bundle="blob@1.0.0",
        model="blob on tflite, the first",
        report=StreamReport(name),
        latencies=Latencies(),
        totals={},
        time_s=0.0,
        overrides=Overrides(),
        dropped=lambda: {"too_fast": 5},
    )


class Bench:
    def __init__(self, folder, *, every_s=30.0, counters=lambda: COUNTERS):
        self.clock, self.events, self.streams = FakeClock(), [], [fake_stream()]
        self.health = Health(
            HealthSettings(every_s=every_s),
            streams=lambda: self.streams,
            state=lambda stream: "running",
            send=self.events.extend,
            counters=counters,
            folder=folder / "not" / "there",
            clock=self.clock,
        )

    def step(self, seconds=0.0):
        self.clock.advance(seconds)
        self.events.clear()
        self.health.step()
        return {event.type: event for event in self.events}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_info_comes_once_and_again_when_the_streams_are_others(bench):
    info = bench.step()["info"]
    assert (info.stream, info.priority) == ("_device", "telemetry")
    assert set(info.data) == {"board", "version", "os", "python", "streams"}
    assert info.data["streams"] == [
        {"name": "gate", "kind": "camera", "model": "blob@1.0.0", "runs": "blob on tflite, the first"}
    ]
    assert bench.step() == {}
    bench.streams.append(fake_stream("yard"))
    assert [each["name"] for each in bench.step()["info"].data["streams"]] == ["gate", "yard"]


def test_health_comes_every_so_often(bench):
    assert "health" not in bench.step()
    assert "health" not in bench.step(29.9)
    bench.streams[0].report.frames = 60
    bench.streams[0].latencies.add(0.010)
    health = bench.step(0.1)["health"]
    assert (health.stream, health.priority, health.time_s) == ("_device", "telemetry", 30.0)
    told = health.data
    assert told["uptime_s"] == 30.0
    assert told["streams"]["gate"] == {
        "fps": 2.0,
        "latency_ms": {"p50": 10.0, "p90": 10.0, "p99": 10.0},
        "frames": 60,
        "dropped": {"too_fast": 5},
        "state": "running",
        "overrides": {},
    }
    assert told["models"] == {"gate": "blob@1.0.0"}
    assert told["outbox"] == {
        "pending": 3,
        "pending_bytes": 500,
        "oldest_s": 1.2,
        "on_disk": True,
        "dropped": {"image": 2},
    }
    assert told["mqtt"] == {"connected": True, "connections": 4, "refused": 1}
    assert told["memory"]["rss_mb"] > 0
    assert told["disk"]["free_mb"] > 0  # of the nearest folder that is there
    assert told["cpu_percent"] >= 0
    assert told["clock"]["wall_time"].endswith("Z")
    json.loads(Envelope("d", "b").encode(health, 1))
    assert "health" not in bench.step(29.9)
    bench.streams[0].report.frames = 75
    assert bench.step(0.1)["health"].data["streams"]["gate"]["fps"] == 0.5


def test_health_comes_at_once_when_a_stream_is_switched(bench):
    bench.step(5)
    bench.streams[0].overrides = Overrides(disabled=True)
    assert bench.step()["health"].data["streams"]["gate"]["overrides"] == {"disabled": True}
    bench.streams[0].overrides = Overrides()
    assert "health" not in bench.step(0.5)
    assert "health" in bench.step(0.5)
    assert "health" not in bench.step(29)
    assert "health" in bench.step(1)


def test_what_is_told_fits_the_schemas(bench):
    jsonschema = pytest.importorskip("jsonschema")
    bench.streams[0].totals = {"door": {"in": 1}}
    for name, event in bench.step(30).items():
        schema = DEVICE_DATA[{"totals": "telemetry"}.get(name, name)]
        jsonschema.validate(json.loads(json.dumps(event.data)), schema)


def test_before_the_first_frame_there_is_no_latency(bench):
    assert bench.step(30)["health"].data["streams"]["gate"]["latency_ms"] is None


def test_without_an_outbox_there_are_no_facts_of_it(tmp_path):
    told = Bench(tmp_path, counters=None).step(30)["health"].data
    assert "outbox" not in told
    assert "mqtt" not in told


def test_counts_come_when_they_change_once_a_second_at_most(bench):
    (stream,) = bench.streams
    assert "totals" not in bench.step(1)
    stream.totals, stream.time_s, stream.report.frames = {"door": {"in": 1}}, 7.5, 20
    totals = bench.step(1)["totals"]
    assert (totals.stream, totals.priority, totals.time_s) == ("gate", "telemetry", 7.5)
    assert totals.data == {"rules": {"door": {"in": 1}}, "fps": 20.0}
    stream.totals = {"door": {"in": 2}}
    assert "totals" not in bench.step(0.5)
    assert bench.step(0.5)["totals"].data["rules"] == {"door": {"in": 2}}
    assert "totals" not in bench.step(10)
    assert "totals" in bench.step(30)  # and with each health


def test_the_last_counts_are_told_at_the_end(bench):
    bench.step()
    bench.streams[0].totals = {"door": {"in": 3}}
    bench.events.clear()
    bench.health.close()
    assert [event.type for event in bench.events] == ["health", "totals"]


def test_frames_that_count_from_the_beginning_again_are_no_negative_rate(bench):
    bench.streams[0].report.frames = 600
    bench.step(30)
    bench.streams[0] = fake_stream()
    bench.streams[0].report.frames = 15
    told = bench.step(30)
    assert told["health"].data["streams"]["gate"]["fps"] >= 0
    assert told["totals"].data["fps"] >= 0


def test_overrides_are_told():
    overrides = Overrides(disabled=True, rules=frozenset({"b", "a"}), threshold=0.5)
    assert overrides.to_json() == {"disabled": True, "disabled_rules": ["a", "b"], "threshold": 0.5}
    assert Overrides().to_json() == {}


def test_the_hottest_zone_that_makes_sense(tmp_path):
    assert _temperature_c(tmp_path) is None
    for number, text in enumerate(("45000", "61250", "-274000", "", "nonsense", "999999999")):
        zone = tmp_path / "sys" / "class" / "thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(f"{text}\n")
    assert _temperature_c(tmp_path) == 61.2


def test_sink_facts_are_json():
    json.dumps(sink_facts(COUNTERS), allow_nan=False)


def test_a_ring_keeps_the_newest():
    ring = Latencies(size=4)
    assert ring.percentiles_ms() is None
    for seconds in (9.0, 9.0, 0.001, 0.002, 0.003, 0.004):
        ring.add(seconds)
    p50, p90, p99 = ring.percentiles_ms()
    assert p50 == pytest.approx(2.5)
    assert p90 < p99 < 4.0001
