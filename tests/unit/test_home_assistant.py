"""What Home Assistant is told, read as Home Assistant reads it, against the envelopes that the device sends."""

import json

import happenings
import pytest
from discovery import ENVIRONMENT, Shown
from happenings import LINE, ZONE

from edgeai.sinks.dialects.home_assistant import STATE_FILE, HomeAssistant, withdraw_home_assistant
from edgeai.sinks.dialects.settings import HomeAssistantSettings
from edgeai.sinks.dialects.words import jinja_text, plain_id, topic_level
from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.payload import Envelope
from edgeai.sinks.topics import TopicTree, check_level
from edgeai.types import DEVICE_STREAM, Event

TREE = TopicTree("acme", "s1", "cam-001")
ENVELOPE = Envelope("cam-001", "boot-1", synced=lambda: None)
CONFIG = "homeassistant/device/cam-001/config"


def home(folder, *, facts=None, commands=(), **settings):
    return HomeAssistant(
        HomeAssistantSettings(**settings),
        facts or happenings.facts(),
        TREE,
        folder,
        commands=frozenset(commands),
    )


def shown(*announced):
    seen = Shown()
    for one in announced:
        seen.discover(one.topic, one.payload, one.retain)
    return seen


def report(seen, event):
    topic = TREE.health if event.stream == DEVICE_STREAM else TREE.routed(event.priority, event.stream)
    seen.hear(topic, ENVELOPE.encode(event, 1), retained=event.priority == "telemetry")


def entity(seen, name):
    """The state of the entity of this name, as a person finds it."""
    (found,) = [key for key, one in seen.components.items() if one["name"] == name]
    return seen.states[found]


def test_every_sensor_counter_image_and_event_shows_what_happened(tmp_path):
    (told,) = home(tmp_path).announcements()
    assert (told.topic, told.qos, told.retain) == (CONFIG, 1, True)
    seen = shown(told)
    assert seen.device == {
        "identifiers": ["cam-001"], "name": "cam-001", "mf": "EdgeAI", "mdl": "Orin Nano 8GB", "sw": "1.4.0",
    }  # fmt: skip
    events, totals = happenings.walk()
    for event in [*events, totals, happenings.keyword("turn_on"), happenings.health()]:
        report(seen, event)
    seen.hear(TREE.image("gate"), b"\xff\xd8 jpeg")
    assert entity(seen, f"gate {LINE} in") == 1
    assert entity(seen, f"gate {LINE} out") == 0
    assert entity(seen, "gate tracks total") == 1
    assert entity(seen, "gate tracks now") == 0
    assert entity(seen, "gate frame rate") == 14.5
    assert entity(seen, "gate picture") == b"\xff\xd8 jpeg"
    assert entity(seen, f"gate {ZONE} occupied") is False
    assert entity(seen, f"gate {ZONE} objects") == 0
    assert [one["event_type"] for one in entity(seen, f"gate {LINE}")] == ["in"]
    assert [one["event_type"] for one in entity(seen, f"gate {ZONE}")] == ["entered", "left"]
    assert [one["event_type"] for one in entity(seen, "gate tracks")] == ["started", "ended"]
    assert [one["event_type"] for one in entity(seen, "hall keyword")] == ["turn_on"]
    assert entity(seen, f"gate {LINE}")[0]["label"] == "person"
    assert entity(seen, f"gate {LINE}")[0]["id"] == next(
        one.id for one in events if one.type == "line_crossed"
    )
    assert (entity(seen, "CPU"), entity(seen, "Memory"), entity(seen, "Disk free")) == (37.5, 180.5, 20480)
    assert (entity(seen, "Outbox depth"), entity(seen, "Outbox age"), entity(seen, "Temperature")) == (
        4,
        1.5,
        None,
    )
    assert entity(seen, "gate state") == "running"
    report(seen, happenings.health(temperature_c=48.25))
    assert entity(seen, "Temperature") == 48.25


def test_a_zone_is_occupied_from_its_own_event_at_once_and_from_the_totals_later(tmp_path):
    seen = shown(*home(tmp_path).announcements())
    rules = happenings.rules()
    for x, occupied in ((0.7, True), (0.9, False), (0.65, True)):
        for rule in rules:
            for event in rule.update(happenings.scene(x, {3: (0, x)})):
                report(seen, event)
        assert entity(seen, f"gate {ZONE} occupied") is occupied
    assert entity(seen, f"gate {LINE} in") is None, "an occupancy is no count"
    other = Event("zone_occupancy", "gate", 2.0, {"rule": "another", "occupancy": 0}, priority="telemetry")
    report(seen, other)
    assert entity(seen, f"gate {ZONE} occupied") is True
    report(seen, happenings.totals(happenings.rules()))
    assert entity(seen, f"gate {ZONE} occupied") is False
    assert entity(seen, f"gate {LINE} in") == 0


def test_when_the_device_is_gone_its_connectivity_says_so_and_all_else_is_unavailable(tmp_path):
    seen = shown(*home(tmp_path).announcements())
    for state in ("online", "offline"):
        seen.hear(TREE.state, json.dumps({"state": state, "boot_id": "b"}).encode(), retained=True)
        assert entity(seen, "Connectivity") is (state == "online")
        (connectivity,) = [name for name, one in seen.components.items() if one["name"] == "Connectivity"]
        assert seen.available.pop(connectivity)
        assert set(seen.available.values()) == {state == "online"}
        assert len(seen.available) == len(seen.components) - 1


NASTY = [
    "it's",
    'say "hi"',
    "{{ 1/0 }}",
    "a}}b{%c",
    "back\\slash",
    "tab\there",
    "ünï ☃ 😀",
    "a.b c",
    "x",
    "items",
    "%d#+/",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_of_any_kind_are_data_and_never_code(tmp_path, name):
    """The configuration allows less; what is told to Home Assistant does not rely on that."""
    facts = DeviceFacts(
        "cam-001",
        (
            StreamFacts(
                "gate",
                "camera",
                (name,),
                (
                    RuleFacts(name, "line", directions=(name, "other")), RuleFacts(f"{name}2", "zone"),
                    RuleFacts(f"{name}3", "track"),
                ),
            ),
            StreamFacts("hall", "microphone", (name, "no")),
        ),
    )  # fmt: skip
    seen = shown(*home(tmp_path, facts=facts, commands={"snapshot"}).announcements())
    crossing = {"rule": name, "direction": name, "label": name, "track_id": 1, "count": 4, "score": 0.5}
    report(seen, Event("line_crossed", "gate", 1.0, crossing))
    report(seen, Event("line_crossed", "gate", 1.0, crossing | {"rule": "other rule"}))
    report(seen, Event("keyword", "hall", 1.0, {"keyword": name, "score": 0.5, "start_s": 0.1}))
    rules = {name: {name: 4, "other": 2}, f"{name}2": {"occupancy": 3}, f"{name}3": {"now": 1, "started": 9}}
    report(seen, Event("totals", "gate", 1.0, {"rules": rules, "fps": 1.0}, priority="telemetry"))
    assert [one["event_type"] for one in entity(seen, f"gate {name}")] == [name]
    assert [one["event_type"] for one in entity(seen, "hall keyword")] == [name]
    assert entity(seen, f"gate {name} {name}") == 4
    assert entity(seen, f"gate {name}2 occupied") is True
    assert entity(seen, f"gate {name}3 total") == 9
    assert ENVIRONMENT.from_string(f"{{{{ {jinja_text(name)} }}}}").render() == name


def test_names_that_differ_have_ids_that_differ():
    names = [
        "front door",
        "front.door",
        "front_door",
        "front__door",
        "_front",
        "front_",
        "Front",
        "",
        "é",
        "è",
        "a" * 65,
        "a" * 66,
    ]
    assert len({plain_id(name) for name in names}) == len(names)
    for name in names:
        assert len(plain_id(name)) <= 73
        assert "__" not in plain_id(name)


@pytest.mark.parametrize("name", [*NASTY, "", "$x", " ", "é" * 100, "a/b/c", "\ud800"])
def test_any_label_is_a_level_of_a_topic(name):
    assert check_level(topic_level(name), what="label") == topic_level(name)


def test_two_cameras_with_rules_of_one_name_are_told_apart(tmp_path):
    seen = shown(*home(tmp_path, facts=happenings.facts(cameras=("gate", "yard"))).announcements())
    events, totals = happenings.walk(stream="yard")
    for event in [*events, totals]:
        report(seen, event)
    assert entity(seen, f"yard {LINE} in") == 1
    assert entity(seen, f"gate {LINE} in") is None
    assert not entity(seen, f"gate {LINE}")


def test_ids_stay_whatever_else_changes(tmp_path):
    def ids(**changes):
        (told,) = home(tmp_path, facts=happenings.facts(**changes)).announcements()
        return {one["unique_id"] for one in json.loads(told.payload)["cmps"].values() if len(one) > 1}

    first = ids()
    assert ids(version="9.9", board="another") == first
    assert ids(cameras=("first", "gate")) > first


def test_it_is_told_again_when_home_assistant_comes_up(tmp_path):
    one = home(tmp_path, discovery_prefix="ha/test")
    subscription = one.subscription()
    assert subscription.topic_filter == "ha/test/status"
    assert subscription.handler(Inbound("ha/test/status", b"online")) == one.announcements()
    assert not subscription.handler(Inbound("ha/test/status", b"offline"))
    assert not subscription.handler(Inbound("ha/test/status", b"\xff"))


def test_what_the_configuration_drops_is_removed_once_and_then_left_out(tmp_path):
    first = home(tmp_path)
    seen = shown(*first.announcements())
    fewer = home(tmp_path, facts=happenings.facts("track", microphones=()))
    (told,) = fewer.announcements()
    cmps = json.loads(told.payload)["cmps"]
    removed = {name: one for name, one in cmps.items() if set(one) == {"p"}}
    assert {one["p"] for one in removed.values()} == {"sensor", "binary_sensor", "event"}
    assert fewer.announcements() == (told,), "the same all this run: Home Assistant may have been away"
    seen.discover(told.topic, told.payload)
    third = home(tmp_path, facts=happenings.facts("track", microphones=()))
    (last,) = third.announcements()
    assert set(json.loads(last.payload)["cmps"]) == set(cmps) - set(removed) == set(seen.components)


def test_another_prefix_or_id_empties_the_old_topic(tmp_path):
    home(tmp_path).announcements()
    emptied, told = home(tmp_path, device_id="s1 cam").announcements()
    assert (emptied.topic, emptied.payload, emptied.retain) == (CONFIG, b"", True)
    assert told.topic == f"homeassistant/device/{plain_id('s1 cam')}/config"
    assert all(len(one) > 1 for one in json.loads(told.payload)["cmps"].values())


def test_switched_off_the_device_is_removed_at_two_births_and_never_again(tmp_path):
    assert not withdraw_home_assistant(tmp_path)
    home(tmp_path).announcements()
    for _ in range(2):
        (one,) = withdraw_home_assistant(tmp_path)
        assert (one.topic, one.payload, one.qos, one.retain) == (CONFIG, b"", 1, True)
    assert not withdraw_home_assistant(tmp_path)
    assert not (tmp_path / STATE_FILE).exists()


def test_switched_on_again_after_it_was_withdrawn_nothing_is_removed(tmp_path):
    home(tmp_path).announcements()
    withdraw_home_assistant(tmp_path)
    (told,) = home(tmp_path, facts=happenings.facts("track")).announcements()
    assert all(len(one) > 1 for one in json.loads(told.payload)["cmps"].values())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"[]", b"{}", b"null", b"[" * 100_000, b'{"schema": 1}', b'{"schema": 1, "topic": "a/#", "components": {}}',
        b'{"schema": 1, "topic": 7, "components": {}}', b'{"schema": 2, "topic": "h/device/x/config", "components": {}}',
        b'{"schema": 1, "topic": "h/device/x/config", "components": []}', b" " * ((4 << 20) + 1),
    ],
)  # fmt: skip
def test_a_broken_file_is_like_none(tmp_path, content):
    (tmp_path / STATE_FILE).write_bytes(content)
    assert not withdraw_home_assistant(tmp_path)
    assert len(home(tmp_path).announcements()) == 1


def test_what_is_no_component_in_the_file_is_let_lie(tmp_path):
    kept = {
        "schema": 1,
        "topic": CONFIG,
        "components": {"a b": "sensor", "x": "rocket", "y": 3, "z": "sensor"},
    }
    (tmp_path / STATE_FILE).write_text(json.dumps(kept))
    (told,) = home(tmp_path).announcements()
    assert [name for name, one in json.loads(told.payload)["cmps"].items() if len(one) == 1] == ["z"]


def test_a_folder_that_cannot_be_written_is_told_and_nothing_more(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    (told,) = home(tmp_path / "file").announcements()
    assert told.payload
    assert "not kept" in caplog.text


def test_buttons_are_there_for_what_the_allow_list_has(tmp_path):
    assert not [
        one
        for one in shown(*home(tmp_path).announcements()).components.values()
        if one["platform"] == "button"
    ]
    seen = shown(*home(tmp_path, commands={"snapshot", "restart", "unheard_of"}).announcements())
    pressed = {
        one["name"]: seen.press(name) for name, one in seen.components.items() if one["platform"] == "button"
    }
    assert set(pressed) == {"gate snapshot", "Restart"}
    topic, command = pressed["gate snapshot"]
    assert topic == TREE.command("snapshot")
    assert command["args"] == {"camera": "gate"}
    assert 1 <= len(command["id"]) <= 64
    assert command["ttl_s"] > 0
    assert pressed["Restart"][1]["args"] == {}


def test_a_device_whose_name_no_discovery_topic_can_hold_has_one(tmp_path):
    facts = happenings.facts(device="Küche 1.local")
    (told,) = home(tmp_path, facts=facts).announcements()
    assert shown(told).device["name"] == "Küche 1.local"
