"""What events become in Sparkplug: catalogue, report by exception, the JSON that waits in the outbox, settings."""

import json
import threading

import pytest
from pydantic import ValidationError

from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.mqtt.settings import MqttSettings, TlsSettings
from edgeai.sinks.sparkplug import SparkplugSettings, catalogue
from edgeai.sinks.sparkplug.catalogue import Catalogue
from edgeai.sinks.sparkplug.composer import SparkplugComposer
from edgeai.sinks.sparkplug.datatypes import SparkplugError
from edgeai.sinks.topics import TopicError
from edgeai.types import DEVICE_STREAM, Event

RULES = (
    RuleFacts("door", "line", ("person",), ("in", "out")),
    RuleFacts("yard", "zone"),
    RuleFacts("tracks", "track"),
    RuleFacts("later", "some_new_kind"),
)
FACTS = DeviceFacts(
    "cam-001",
    (
        StreamFacts("gate", "camera", ("person", "car"), RULES, "people-320"),
        StreamFacts("hall", "microphone"),
    ),
    board="Orin",
    version="1.4.0",
)


def composer(facts=FACTS, **settings):
    return SparkplugComposer(SparkplugSettings(group_id="plant", **settings), facts)


def body(drafts):
    assert len(drafts) == 1
    return json.loads(drafts[0].body)


def told(drafts):
    return {one["name"]: one["value"] for one in body(drafts)["metrics"]}


def event(type_, stream="gate", *, at=1.0, priority="event", **data):
    return Event(type_, stream, at, data, priority, wall_time_s=1_700_000_000.0 + at, monotonic_s=at)


def test_a_draft():
    drafts = composer()(event("line_crossed", rule="door", totals={"in": 1, "out": 0}, at=2.5))
    draft = drafts[0]
    assert draft.topic == "spBv1.0/plant/DDATA/cam-001/gate"
    assert (draft.qos, draft.retain, draft.priority, draft.stream, draft.latest) == (
        0,
        False,
        "event",
        "gate",
        False,
    )
    assert body(drafts)["device"] == "gate"
    assert body(drafts)["metrics"] == [
        {"name": "Rules/door/in", "type": "Int64", "value": 1, "timestamp_ms": 1_700_000_002_500},
        {"name": "Rules/door/out", "type": "Int64", "value": 0, "timestamp_ms": 1_700_000_002_500},
    ]


def test_the_catalogue_names_all_with_unique_aliases():
    plain = Catalogue(FACTS)
    assert list(plain.metrics("gate")) == [
        "Properties/Kind",
        "Properties/Model",
        "Stream/state",
        "Stream/fps",
        "Rules/door/in",
        "Rules/door/out",
        "Rules/yard/entered",
        "Rules/yard/left",
        "Rules/yard/occupancy",
        "Rules/tracks/started",
        "Rules/tracks/ended",
        "Rules/tracks/now",
    ]
    assert list(plain.metrics("hall"))[3:] == ["Keyword/last", "Keyword/score", "Keyword/count"]
    by_class = Catalogue(FACTS, by_class=True)
    assert {
        "Rules/door/by_class/person/out",
        "Rules/yard/occupancy_by_class/car",
        "Rules/tracks/by_class/car",
    } <= set(by_class.metrics("gate"))
    assert "Rules/door/by_class/car/in" not in by_class.metrics("gate"), "the rule heeds persons only"
    aliases = [one.alias for device in ("", "gate", "hall") for one in by_class.metrics(device).values()]
    assert sorted(set(aliases)) == sorted(aliases)


def test_report_by_exception():
    compose = composer()
    totals = {
        "rules": {"door": {"in": 1, "out": 0}, "yard": {"entered": 0, "left": 0, "occupancy": 0}},
        "fps": 24.98,
    }
    assert told(compose(event("totals", priority="telemetry", **totals))) == {
        "Stream/fps": 25.0,
        "Rules/door/in": 1,
        "Rules/door/out": 0,
        "Rules/yard/entered": 0,
        "Rules/yard/left": 0,
        "Rules/yard/occupancy": 0,
    }
    assert compose(event("totals", at=2.0, priority="telemetry", **totals | {"fps": 25.01})) == []
    assert told(compose(event("line_crossed", at=3.0, rule="door", totals={"in": 2, "out": 0}))) == {
        "Rules/door/in": 2
    }
    assert told(compose(event("zone_entered", at=4.0, rule="yard", count=1, occupancy=1))) == {
        "Rules/yard/entered": 1,
        "Rules/yard/occupancy": 1,
    }
    assert compose(event("zone_occupancy", at=4.0, rule="yard", occupancy=1)) == []
    assert told(compose(event("zone_left", at=5.0, rule="yard", count=1, occupancy=0))) == {
        "Rules/yard/left": 1,
        "Rules/yard/occupancy": 0,
    }
    assert told(compose(event("track_started", at=5.0, rule="tracks", count=7))) == {
        "Rules/tracks/started": 7
    }
    assert told(compose(event("track_ended", at=5.0, rule="tracks", count=6))) == {"Rules/tracks/ended": 6}


def test_counts_by_class():
    compose = composer(by_class=True)
    totals = {"door": {"in": 1, "out": 0, "by_class": {"person": {"in": 1, "out": 0}}}}
    assert told(compose(event("totals", rules=totals)))["Rules/door/by_class/person/in"] == 1
    totals = {"yard": {"occupancy": 2, "occupancy_by_class": {"car": 2}}, "tracks": {"by_class": {"car": 5}}}
    assert told(compose(event("totals", at=2.0, rules=totals))) == {
        "Rules/yard/occupancy": 2,
        "Rules/yard/occupancy_by_class/car": 2,
        "Rules/tracks/by_class/car": 5,
    }


def test_keywords():
    compose = composer()
    heard = {"keyword": "lumen", "score": 0.91, "start_s": 0.5}
    first = told(compose(event("keyword", "hall", **heard)))
    assert first == {"Keyword/last": "lumen", "Keyword/score": 0.91, "Keyword/count": 1}
    assert told(compose(event("keyword", "hall", at=2.0, **heard))) == {"Keyword/count": 2}


def test_health_is_the_node_s():
    compose = composer()
    health = {
        "uptime_s": 12,
        "outbox": {
            "pending": 3,
            "pending_bytes": 900,
            "oldest_s": 4.2,
            "on_disk": True,
            "dropped": {"image": 2, "event": 1},
        },
        "cpu_percent": 12.4,
        "memory": {"rss_mb": 200.4},
        "disk": {"free_mb": 1234.0},
        "clock": {"synced": None},
        "temperature_c": 51.3,
    }
    drafts = compose(event("health", DEVICE_STREAM, priority="telemetry", **health))
    assert drafts[0].topic == "spBv1.0/plant/NDATA/cam-001"
    assert told(drafts) == {
        "Health/cpu_percent": 12.0,
        "Health/memory_rss_mb": 200.0,
        "Health/disk_free_mb": 1230.0,
        "Health/temperature_c": 51.5,
        "Outbox/pending": 3,
        "Outbox/pending_bytes": 900,
        "Outbox/oldest_s": 4.0,
        "Outbox/on_disk": True,
        "Outbox/dropped": 3,
    }
    again = compose(
        event("health", DEVICE_STREAM, at=2.0, **health | {"temperature_c": None, "clock": {"synced": True}})
    )
    assert told(again) == {"Health/temperature_c": None, "Health/clock_synced": True}


def test_health_tells_the_state_of_each_stream():
    compose = composer()
    streams = {"gate": {"state": "running", "fps": 25.0}, "hall": {"state": "failed"}, "x": 3}
    drafts = compose(event("health", DEVICE_STREAM, streams=streams, cpu_percent=1.0))
    assert [draft.topic.split("/", 2)[2] for draft in drafts] == [
        "NDATA/cam-001",
        "DDATA/cam-001/gate",
        "DDATA/cam-001/hall",
    ]
    assert told(drafts[2:]) == {"Stream/state": "failed"}
    streams = {"gate": {"state": "running"}, "hall": {"state": "running"}}
    assert told(compose(event("health", DEVICE_STREAM, at=2.0, streams=streams))) == {
        "Stream/state": "running"
    }


@pytest.mark.parametrize(
    "one",
    [
        event("messages_dropped", DEVICE_STREAM, n=4),
        event("keyword", "gate", keyword="x", score=1.0),
        event("line_crossed", rule="unknown", totals={"in": 1}),
        event("line_crossed", rule=["door"], totals={"in": 1}),
        event("line_crossed", rule="door", totals=[1]),
        event("totals", rules=[]),
        event("totals", rules={"door": 3}),
        event("snapshot", rule="door"),
        event("zone_entered", rule="later", count=3),
    ],
)
def test_what_moves_no_metric_makes_no_message(one):
    assert composer()(one) == []


@pytest.mark.parametrize("value", ["5", None, True, float("nan"), float("inf"), 1 << 63, [], {}])
def test_a_value_of_another_kind_is_null(value):
    compose = composer()
    compose(event("zone_occupancy", rule="yard", occupancy=3))
    assert told(compose(event("zone_occupancy", at=2.0, rule="yard", occupancy=value))) == {
        "Rules/yard/occupancy": None
    }


def test_what_was_overtaken_is_passed_over():
    compose = composer()
    compose(event("line_crossed", at=5.0, rule="door", totals={"in": 6}))
    assert compose(event("totals", at=4.0, rules={"door": {"in": 5}})) == []


def test_text_that_is_long_or_no_text():
    compose = composer()
    name = told(compose(event("keyword", "hall", keyword="\ud800" + "x" * 5000, score=1)))["Keyword/last"]
    assert name == "?" + "x" * 1023


def test_a_stream_that_nobody_announced_is_told_once(caplog):
    compose = composer()
    for _ in range(3):
        assert compose(event("totals", "attic", fps=1.0)) == []
    assert [record.message for record in caplog.records] == [
        "Sparkplug: stream 'attic' is not among the device's facts and is not reported"
    ]


def test_threads_get_every_change_once():
    compose = composer()
    drafts, lock = [], threading.Lock()

    def work(stream, type_, make):
        for n in range(1, 201):
            made = compose(Event(type_, stream, 0.0, make(n)))
            with lock:
                drafts.extend(made)

    workers = [
        threading.Thread(
            target=work, args=("gate", "zone_occupancy", lambda n: {"rule": "yard", "occupancy": n})
        ),
        threading.Thread(target=work, args=("hall", "keyword", lambda n: {"keyword": "a", "score": n / 200})),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    numbers = sorted(json.loads(draft.body)["change"] for draft in drafts)
    assert numbers == list(range(1, 401))


def test_facts_that_sparkplug_cannot_carry(monkeypatch):
    with pytest.raises(TopicError, match="device 'a/b'"):
        composer(DeviceFacts("cam", (StreamFacts("a/b", "camera"),)))
    with pytest.raises(SparkplugError, match="two streams"):
        composer(DeviceFacts("cam", (StreamFacts("a", "camera"), StreamFacts("a", "camera"))))
    with pytest.raises(SparkplugError, match="valid Unicode"):
        rule = RuleFacts("r", "line", directions=("\ud800", "out"))
        composer(DeviceFacts("cam", (StreamFacts("a", "camera", rules=(rule,)),)))
    with pytest.raises(TopicError, match="edge_node_id"):
        composer(DeviceFacts("a/b"))
    monkeypatch.setattr(catalogue, "MAX_METRICS", 20)
    with pytest.raises(SparkplugError, match="more than 20 metrics"):
        composer(by_class=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"group_id": "a/b"}, "group_id"),
        ({"group_id": "STATE"}, "cannot be STATE"),
        ({"group_id": "g", "edge_node_id": "+"}, "edge_node_id"),
        ({"group_id": "g", "primary_host": "a#"}, "primary_host"),
        ({"group_id": "g", "host": "mqtt://x"}, "without mqtt://"),
        ({"group_id": "g", "password_file": "x"}, "needs username"),
        ({"group_id": "g", "qos": 2}, "qos"),
        ({"group_id": "g", "prot": 1}, "prot"),
    ],
)
def test_settings_that_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        SparkplugSettings(**settings)


NATIVE = MqttSettings(
    host="broker",
    username="u",
    password_file="p",
    tls=TlsSettings(ca="ca.pem"),
    in_flight=7,
    message_expiry_s=60,
)


def test_the_native_broker_on_a_second_connection():
    found = SparkplugSettings(group_id="plant").broker(NATIVE, edge_node_id="cam")
    assert found == NATIVE.model_copy(
        update={"client_id": "edgeai-spb-plant-cam", "session_expiry_s": 0, "message_expiry_s": None}
    )
    other = SparkplugSettings(group_id="plant", username="s", client_id="mine", port=99).broker(
        NATIVE, edge_node_id="cam"
    )
    assert (other.username, other.password_file, other.client_id, other.port) == ("s", None, "mine", 99)


def test_a_broker_of_its_own_gets_none_of_the_native_one_s_secrets():
    found = SparkplugSettings(group_id="plant", host="scada").broker(NATIVE, edge_node_id="cam")
    assert (found.host, found.port, found.tls, found.username, found.password_file) == (
        "scada",
        1883,
        None,
        None,
        None,
    )
    assert found.in_flight == 7
    secure = SparkplugSettings(group_id="plant", host="scada", tls=TlsSettings()).broker(
        NATIVE, edge_node_id="cam"
    )
    assert secure.port == 8883
