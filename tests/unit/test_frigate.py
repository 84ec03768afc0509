"""Frigate's topics, as an automation written for Frigate reads them."""

import itertools
import json
import threading

import happenings
import pytest
from frigate_reader import FrigateReader
from happenings import ZONE

from edgeai.clock import FakeClock
from edgeai.errors import ConfigError, SinkError
from edgeai.sinks.dialects.frigate import FrigateComposer
from edgeai.sinks.dialects.frigate_objects import MAX_OBJECTS
from edgeai.sinks.dialects.frigate_session import FrigateSession
from edgeai.sinks.dialects.settings import FrigateSettings
from edgeai.sinks.mqtt.session import Inbound
from edgeai.types import Event


def composer(*kinds, facts=None, **settings):
    return FrigateComposer(FrigateSettings(**settings), facts or happenings.facts(*kinds), FakeClock())


def read(compose, events, prefix="frigate"):
    reader = FrigateReader(prefix)
    for event in events:
        for draft in compose(event):
            reader.hear(draft.topic, draft.body)
    return reader


@pytest.mark.parametrize("order", list(itertools.permutations(("line", "zone", "track"))))
def test_one_object_is_one_event_from_new_to_end_whatever_the_order_of_the_rules(order):
    events, _ = happenings.walk(*order)
    reader = read(composer(*order), events)
    (one,) = reader.objects.values()
    assert [kind for kind, _ in reader.events] == ["new", "update", "update", "update", "end"]
    assert (one["camera"], one["label"], one["sub_label"], one["score"]) == ("gate", "person", None, 0.75)
    assert (one["entered_zones"], one["current_zones"]) == ([ZONE], [])
    assert one["start_time"] == round(events[0].wall_time_s, 6)
    assert one["end_time"] == pytest.approx(events[-1].wall_time_s, abs=0.1)
    assert not one["active"]
    assert {reader.counts[name] for name in ("gate/person", "gate/all", f"{ZONE}/person", f"{ZONE}/all")} == {
        0
    }
    assert reader.switches == {"gate/motion": False}


def test_boxes_are_pixels_of_the_detect_resolution():
    events, _ = happenings.walk()
    reader = read(composer(detect_size=(320, 240)), events[:1])
    (one,) = reader.objects.values()
    assert one["box"] == [16, 60, 48, 120]
    assert (one["area"], one["ratio"]) == (32 * 60, round(32 / 60, 2))
    assert one["path_data"] == [[[0.1, 0.5], one["start_time"]]]


def test_counts_follow_who_is_there():
    compose = composer()
    rules = happenings.rules()
    reader = FrigateReader()
    seen = []
    places = [{1: (0, 0.1)}, {1: (0, 0.7), 2: (1, 0.2)}, {2: (1, 0.7)}, {2: (1, 0.75)}]
    ended = [(), (), (1,), (2,)]
    for time_s, (here, gone) in enumerate(zip(places, ended, strict=True)):
        if gone == (2,):
            here = {}
        for rule in rules:
            for event in rule.update(happenings.scene(float(time_s), here, ended=gone)):
                for draft in compose(event):
                    reader.hear(draft.topic, draft.body)
        names = ("gate/person", "gate/car", "gate/all", f"{ZONE}/person", f"{ZONE}/car", f"{ZONE}/all")
        seen.append(tuple(reader.counts.get(name) for name in names))
        for name in names:
            assert reader.counts.get(name) == reader.counts.get(f"{name}/active")
        assert reader.switches["gate/motion"] is bool(here)
    assert seen == [
        (1, None, 1, None, None, None),
        (1, 1, 2, 1, None, 1),
        (0, 1, 1, 0, 1, 1),
        (0, 0, 0, 0, 0, 0),
    ]


def test_a_count_is_said_when_it_changes_and_not_again():
    events, _ = happenings.walk()
    compose = composer()
    said = [draft.topic for event in events for draft in compose(event)]
    assert said.count("frigate/gate/person") == 2


@pytest.mark.parametrize("order", [("zone", "track"), ("track", "zone")])
def test_an_object_that_is_first_seen_in_a_zone_is_new_once(order):
    compose, reader = composer(*order), FrigateReader()
    for rule in happenings.rules(*order):
        for event in rule.update(happenings.scene(0.0, {1: (0, 0.7)})):
            for draft in compose(event):
                reader.hear(draft.topic, draft.body)
    assert [kind for kind, _ in reader.events].count("new") == 1
    (one,) = reader.objects.values()
    assert one["current_zones"] == [ZONE]


def test_a_camera_without_a_track_rule_has_the_objects_of_its_zones():
    events, _ = happenings.walk("line", "zone")
    reader = read(composer("line", "zone"), events)
    assert [kind for kind, _ in reader.events] == ["new", "end"]
    assert reader.counts["gate/person"] == 0


def test_a_line_alone_begins_nothing_that_would_never_end():
    events, _ = happenings.walk("line")
    assert events
    assert read(composer("line"), events).events == []


def test_tracks_that_begin_anew_end_the_old_object():
    """The tracker began again after a fault, and nobody told of the end."""
    events, _ = happenings.walk("track")
    again, _ = happenings.walk("track")
    reader = read(composer("track"), [events[0], *again])
    assert [kind for kind, _ in reader.events] == ["new", "end", "new", "end"]
    assert len(reader.objects) == 2


def test_two_cameras_with_one_zone_are_one_zone_to_frigate():
    compose = composer(facts=happenings.facts(cameras=("gate", "yard")))
    reader = FrigateReader()
    for stream, track_id in (("gate", 1), ("yard", 1)):
        for rule in happenings.rules("zone"):
            for event in rule.update(happenings.scene(0.0, {track_id: (0, 0.7)}, stream=stream)):
                for draft in compose(event):
                    reader.hear(draft.topic, draft.body)
    assert reader.counts[f"{ZONE}/person"] == reader.counts[f"{ZONE}/all"] == 2


def test_a_zone_that_reports_its_occupancy_alone_has_a_count():
    telling = Event("zone_occupancy", "gate", 1.0, {"rule": "lot", "occupancy": 3}, priority="telemetry")
    assert read(composer(), [telling]).counts == {"lot/all": 3, "lot/all/active": 3}


def test_a_zone_with_a_cameras_name_is_refused():
    with pytest.raises(ConfigError, match="give the zone another name"):
        composer(facts=happenings.facts(cameras=("gate", "lot"), zone="lot"))


def test_objects_that_never_end_do_not_fill_the_memory():
    compose = composer()
    reader = FrigateReader()
    for number in range(MAX_OBJECTS + 10):
        data = {
            "rule": "tracks",
            "track_id": number,
            "label": "person",
            "count": 1,
            "score": 0.5,
            "box": [0, 0, 1, 1],
        }
        for draft in compose(Event("track_started", "gate", float(number), data)):
            reader.hear(draft.topic, draft.body)
    assert reader.counts["gate/person"] == MAX_OBJECTS
    assert sum(kind == "end" for kind, _ in reader.events) == 10


def test_keywords_are_sounds_that_are_over_at_once():
    reader = read(composer(), [happenings.keyword("yes"), happenings.keyword("on/off")])
    assert reader.audio == [
        ("hall", "yes", True),
        ("hall", "yes", False),
        ("hall", "on_off", True),
        ("hall", "on_off", False),
    ]


def test_health_becomes_stats_and_the_switch_of_a_camera():
    compose = composer()
    reader = read(compose, [happenings.health(temperature_c=51.5)])
    assert reader.stats["cameras"]["gate"]["camera_fps"] == 14.5
    assert set(reader.stats["cameras"]) == {"gate"}, "a microphone is none of Frigate's cameras"
    assert reader.stats["service"]["uptime"] == 12.5
    assert reader.stats["service"]["temperatures"] == {"device": 51.5}
    assert reader.switches == {"gate/detect/state": True}
    streams = {"gate": {**happenings.HEALTH["streams"]["gate"], "state": "disabled"}}
    assert read(compose, [happenings.health(streams=streams)]).switches == {"gate/detect/state": False}
    assert read(compose, [happenings.health(streams=streams)]).switches == {}


@pytest.mark.parametrize("data", [{}, {"streams": None}, {"streams": {"gate": None}}, {"streams": []}])
def test_health_that_says_little_becomes_little(data):
    reader = read(composer(), [Event("health", "_device", 1.0, data, priority="telemetry")])
    assert reader.stats["service"]["uptime"] is None


JPEG = b"\xff\xd8 a jpeg"


def test_a_picture_is_the_snapshot_of_its_label_or_of_all_who_are_there():
    compose = composer()
    events, _ = happenings.walk()
    read(compose, events[:1])
    named = Event("picture", "gate", 1.0, {"label": "car"}, priority="image", picture=JPEG)
    assert read(compose, [named]).pictures == {"gate/car/snapshot": JPEG}
    (draft,) = compose(Event("picture", "gate", 1.0, {}, priority="image", picture=JPEG))
    assert (draft.topic, draft.retain, draft.priority) == ("frigate/gate/person/snapshot", True, "image")


def test_quality_of_service_is_frigates_unless_configured():
    events, _ = happenings.walk()
    for qos in (0, 1):
        compose = composer(qos=qos, prefix="site/one")
        drafts = [draft for event in events for draft in compose(event)]
        assert {draft.qos for draft in drafts} == {qos}
        assert not any(draft.retain for draft in drafts)
        assert {draft.latest for draft in drafts if draft.topic == "site/one/events"} == {False}
        assert {draft.latest for draft in drafts if draft.topic != "site/one/events"} == {True}


@pytest.mark.parametrize(
    "data",
    [
        {}, {"track_id": "7", "label": "person"}, {"track_id": 7}, {"track_id": 7, "label": None},
        {"track_id": 7, "label": "person", "box": [1, 2]}, {"track_id": 7, "label": "person", "box": "abcd", "score": "high"},
        {"track_id": 7, "label": "person", "box": [None, float("nan"), float("inf"), -5], "score": float("nan"), "rule": 3},
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "type_",
    ["track_started", "zone_entered", "zone_left", "line_crossed", "zone_occupancy", "keyword", "other"],
)
def test_events_that_say_something_else_do_no_harm(type_, data):
    for draft in composer()(Event(type_, "gate", 1.0, data)):
        if draft.topic == "frigate/events":
            json.loads(draft.body, parse_constant=pytest.fail)


def test_several_threads_put_at_once():
    compose = composer(facts=happenings.facts(cameras=("a", "b", "c", "d")))
    readers = {name: FrigateReader() for name in "abcd"}

    def run(stream):
        for number in range(30):
            for event in happenings.walk(stream=stream, track_id=number)[0]:
                for draft in compose(event):
                    if draft.topic == "frigate/events":
                        readers[stream].hear(draft.topic, draft.body)

    threads = [threading.Thread(target=run, args=(name,)) for name in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(reader.objects) for reader in readers.values()} == {30}


def session(handler=None, **settings):
    return FrigateSession(FrigateSettings(**settings), happenings.facts(), handler)


def test_it_is_available_from_birth_to_farewell_and_offline_by_the_will():
    one = session()
    assert one.subscriptions == ()
    told = [one.will(), *one.birth(), *one.farewell()]
    assert {announcement.retain for announcement in told} == {True}
    reader = FrigateReader()
    states = []
    for announcement in told:
        reader.hear(announcement.topic, announcement.payload)
        states.append(reader.available)
    assert list(dict.fromkeys(states)) == ["offline", "online", "stopped"]
    assert reader.switches["gate/detect/state"] is True
    assert reader.switches["gate/recordings/state"] is False


def take(one, topic, payload, **more):
    reader = FrigateReader()
    (subscription,) = one.subscriptions
    for announcement in subscription.handler(Inbound(topic, payload, **more)):
        reader.hear(announcement.topic, announcement.payload)
    return reader.switches


def test_detect_set_enables_and_disables_the_camera():
    asked = []
    one = session(lambda name, args: asked.append((name, args)))
    assert take(one, "frigate/gate/detect/set", b"OFF") == {"gate/detect/state": False}
    assert any(each.topic == "frigate/gate/detect/state" and each.payload == b"OFF" for each in one.birth())
    assert take(one, "frigate/gate/detect/set", b"ON") == {"gate/detect/state": True}
    assert asked == [("disable", {"camera": "gate"}), ("enable", {"camera": "gate"})]


def test_a_camera_that_was_switched_off_by_other_means_is_off_at_the_next_birth():
    compose = composer()
    one = FrigateSession(FrigateSettings(), happenings.facts(), detecting=compose.detecting)
    for state in ("running", "disabled"):
        read(compose, [happenings.health(streams={"gate": {"state": state}})])
        said = {each.topic: each.payload for each in one.birth()}
        assert said["frigate/gate/detect/state"] == {"running": b"ON", "disabled": b"OFF"}[state]


def test_a_refusal_leaves_the_switch_where_it_was(caplog):
    def refuse(name, args):
        raise SinkError("not in the allow-list")

    assert take(session(refuse), "frigate/gate/detect/set", b"OFF") == {"gate/detect/state": True}
    assert "not in the allow-list" in caplog.text


def test_switches_that_stand_still_spring_back():
    assert take(session(pytest.fail), "frigate/gate/recordings/set", b"ON") == {
        "gate/recordings/state": False
    }


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("frigate/gate/detect/set", b""), ("frigate/gate/detect/set", b"on"), ("frigate/gate/detect/set", b"\xff" * 100_000),
        ("frigate/nobody/detect/set", b"ON"), ("frigate/gate/unheard_of/set", b"ON"), ("frigate/detect/set", b"ON"),
        ("frigate/gate/detect/set/more", b"ON"),
    ],
)  # fmt: skip
def test_anything_else_is_let_lie(topic, payload):
    assert take(session(pytest.fail), topic, payload) == {}


def test_a_retained_command_is_let_lie():
    assert take(session(pytest.fail), "frigate/gate/detect/set", b"OFF", retained=True) == {}
