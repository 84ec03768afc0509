"""Frigate, Hermes and Home Assistant on real mosquitto, each read as its own world reads it."""

import json

import happenings
import paho.mqtt.publish as publish
import pytest
from broker import Mosquitto, Subscriber
from discovery import Shown
from frigate_reader import FrigateReader
from happenings import LINE, ZONE
from session_client import SessionClient

from edgeai.sinks import MqttSettings, open_reporting
from edgeai.sinks.dialects.frigate import FrigateComposer
from edgeai.sinks.dialects.frigate_session import FrigateSession
from edgeai.sinks.dialects.hermes import compose_hermes
from edgeai.sinks.dialects.home_assistant import HomeAssistant, withdraw_home_assistant
from edgeai.sinks.dialects.settings import FrigateSettings, HermesSettings, HomeAssistantSettings
from edgeai.sinks.mqtt.session import Session
from edgeai.sinks.topics import TopicTree
from edgeai.types import Event

pytestmark = pytest.mark.system

TREE = TopicTree("default", "default", "cam-001")
CONFIG = "homeassistant/device/cam-001/config"


@pytest.fixture
def mosquitto(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def say(broker, topic, payload, *, retain=False):
    publish.single(topic, payload, 1, retain, "127.0.0.1", broker.port)


class Native(Session):
    """What the native connection announces while Home Assistant is switched on, or after."""

    def __init__(self, home=None, *, state_dir=None):
        self._home, self._state_dir = home, state_dir
        if home is not None:
            self.subscriptions = (home.subscription(),)

    def birth(self):
        return withdraw_home_assistant(self._state_dir) if self._home is None else self._home.announcements()


def home(folder, *kinds, **settings):
    return HomeAssistant(HomeAssistantSettings(**settings), happenings.facts(*kinds), TREE, folder)


def retained(broker, topic):
    """What a new subscriber finds there."""
    with Subscriber(broker.port, "#") as subscriber:
        say(broker, "test/after", b"")
        assert subscriber.wait_for(lambda messages: any(one[0] == "test/after" for one in messages))
        return [payload for where, payload, kept in subscriber.messages if where == topic and kept]


def test_home_assistant_that_starts_later_finds_the_device_and_shows_what_it_reports(tmp_path, mosquitto):
    with SessionClient(mosquitto.port, Native(home(tmp_path))), Subscriber(mosquitto.port, "#") as subscriber:
        seen = Shown()
        assert subscriber.wait_for(lambda messages: any(one[0] == CONFIG for one in messages))
        settings = MqttSettings(host="127.0.0.1", port=mosquitto.port)
        events, totals = happenings.walk()
        with open_reporting(settings, tmp_path / "outbox.db", device="cam-001") as sink:
            sink.send_many([*events, totals, happenings.keyword("turn_on")])
            assert sink.flush(20)
        assert subscriber.wait_for(
            lambda messages: any(
                topic == TREE.state and b"offline" in payload for topic, payload, _ in messages
            )
        )
        for topic, payload, kept in subscriber.messages:
            if topic == CONFIG:
                seen.discover(topic, payload, kept)
            else:
                seen.hear(topic, payload, kept)
    by_name = {one["name"]: seen.states[key] for key, one in seen.components.items()}
    assert by_name[f"gate {LINE} in"] == 1
    assert by_name[f"gate {ZONE} occupied"] is False
    assert [one["event_type"] for one in by_name[f"gate {LINE}"]] == ["in"]
    assert [one["event_type"] for one in by_name["hall keyword"]] == ["turn_on"]
    assert by_name["Connectivity"] is False


def test_home_assistants_birth_brings_it_again(tmp_path, mosquitto):
    with (
        Subscriber(mosquitto.port, CONFIG) as subscriber,
        SessionClient(mosquitto.port, Native(home(tmp_path))),
    ):
        assert subscriber.wait_for(lambda messages: len(messages) == 1)
        say(mosquitto, "homeassistant/status", b"offline")
        say(mosquitto, "homeassistant/status", b"online")
        assert subscriber.wait_for(lambda messages: len(messages) == 2)
        assert subscriber.messages[0][1] == subscriber.messages[1][1]


def test_a_dropped_component_goes_and_the_switched_off_device_too(tmp_path, mosquitto):
    with Subscriber(mosquitto.port, CONFIG) as subscriber:
        seen = Shown()
        known = []
        for each in (home(tmp_path), home(tmp_path, "track"), home(tmp_path, "track"), None):
            before = len(subscriber.messages)
            with SessionClient(mosquitto.port, Native(each, state_dir=tmp_path)):
                assert subscriber.wait_for(lambda messages: len(messages) > before)  # noqa: B023
            for topic, payload, _ in subscriber.messages[before:]:
                seen.discover(topic, payload)
            known.append(set(seen.components))
    assert known[0] > known[1] == known[2] > known[3] == set()
    (second, third) = (json.loads(subscriber.messages[number][1])["cmps"] for number in (1, 2))
    assert {name for name, one in second.items() if set(one) == {"p"}} == known[0] - known[1]
    assert set(third) == known[2]
    assert retained(mosquitto, CONFIG) == []


def test_it_is_retained(tmp_path, mosquitto):
    with SessionClient(mosquitto.port, Native(home(tmp_path))):
        pass
    (payload,) = retained(mosquitto, CONFIG)
    Shown().discover(CONFIG, payload)


def read(subscriber):
    reader = FrigateReader()
    for topic, payload, _ in subscriber.messages:
        if not topic.endswith("/set"):
            reader.hear(topic, payload)
    return reader


def test_frigates_readers_see_the_object_the_counts_and_the_picture(tmp_path, mosquitto):
    facts, settings = happenings.facts(), FrigateSettings()
    compose = FrigateComposer(settings, facts)
    picture = Event("picture", "gate", 1.0, {"label": "person"}, priority="image", picture=b"\xff\xd8 jpeg")
    events, _ = happenings.walk()
    with Subscriber(mosquitto.port, "frigate/#") as subscriber:
        with SessionClient(mosquitto.port, FrigateSession(settings, facts)) as client:
            for event in [*events, picture, happenings.keyword("yes"), happenings.health()]:
                client.publish(compose(event))
        assert subscriber.wait_for(lambda messages: messages[-1][1] == b"stopped")
        reader = read(subscriber)
        states = [payload for topic, payload, _ in subscriber.messages if topic == "frigate/available"]
    assert states == [b"online", b"stopped"]
    (one,) = reader.objects.values()
    assert [kind for kind, _ in reader.events] == ["new", "update", "update", "update", "end"]
    assert one["entered_zones"] == [ZONE]
    assert reader.counts["gate/person"] == reader.counts[f"{ZONE}/all"] == 0
    assert reader.audio == [("hall", "yes", True), ("hall", "yes", False)]
    assert reader.stats["cameras"]["gate"]["process_fps"] == 14.5
    assert retained(mosquitto, "frigate/gate/person/snapshot") == [b"\xff\xd8 jpeg"]
    assert retained(mosquitto, "frigate/gate/detect/state") == [b"ON"]
    assert retained(mosquitto, "frigate/events") == retained(mosquitto, "frigate/gate/person") == []


def test_a_device_that_dies_is_offline_to_frigates_readers(mosquitto):
    with Subscriber(mosquitto.port, "frigate/available") as subscriber:
        with SessionClient(mosquitto.port, FrigateSession(FrigateSettings(), happenings.facts())) as client:
            assert subscriber.wait_for(lambda messages: len(messages) == 1)
            client.die()
            assert subscriber.wait_for(lambda messages: len(messages) == 2)
        assert [payload for _, payload, _ in subscriber.messages] == [b"online", b"offline"]


def test_detect_set_reaches_the_device_and_its_state_comes_back(mosquitto):
    asked = []
    session = FrigateSession(
        FrigateSettings(), happenings.facts(), lambda name, args: asked.append((name, args))
    )
    with (
        SessionClient(mosquitto.port, session),
        Subscriber(mosquitto.port, "frigate/gate/detect/state") as subscriber,
    ):
        assert subscriber.wait_for(lambda messages: [one[1] for one in messages] == [b"ON"])
        say(mosquitto, "frigate/gate/detect/set", b"OFF")
        assert subscriber.wait_for(lambda messages: [one[1] for one in messages] == [b"ON", b"OFF"])
    assert asked == [("disable", {"camera": "gate"})]


def test_hermes(mosquitto):
    compose = compose_hermes(HermesSettings(wakewords=("hey_edge",)), device="cam-001")
    with (
        Subscriber(mosquitto.port, "hermes/#") as subscriber,
        SessionClient(mosquitto.port, Session()) as client,
    ):
        for word in ("hey_edge", "turn_on"):
            client.publish(compose(happenings.keyword(word)))
        assert subscriber.wait_for(lambda messages: len(messages) >= 3)
    told = {topic: json.loads(payload) for topic, payload, _ in subscriber.messages}
    assert set(told) == {
        "hermes/hotword/hey_edge/detected",
        "hermes/asr/textCaptured",
        "hermes/intent/turn_on",
    }
    assert told["hermes/intent/turn_on"]["sessionId"] == told["hermes/asr/textCaptured"]["sessionId"]
    assert not any(kept for _, _, kept in subscriber.messages)
