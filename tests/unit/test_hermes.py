"""Keywords as Rhasspy's skills hear them."""

import json

import happenings
import pytest

from edgeai.sinks.dialects.hermes import compose_hermes
from edgeai.sinks.dialects.settings import HermesSettings
from edgeai.types import Event


def heard(event, *, device="cam-001", **settings):
    drafts = compose_hermes(HermesSettings(**settings), device=device)(event)
    return {draft.topic: json.loads(draft.body) for draft in drafts}


def test_a_command_is_a_text_and_an_intent_of_one_session():
    told = heard(happenings.keyword("turn_on"))
    assert set(told) == {"hermes/asr/textCaptured", "hermes/intent/turn_on"}
    captured, intent = told["hermes/asr/textCaptured"], told["hermes/intent/turn_on"]
    assert (captured["text"], captured["likelihood"], captured["seconds"]) == ("turn on", 0.9123, 0.75)
    assert intent["input"] == "turn on"
    assert intent["intent"] == {"intentName": "turn_on", "confidenceScore": 0.9123}
    assert intent["slots"] == []
    assert captured["siteId"] == intent["siteId"] == "cam-001"
    assert captured["sessionId"] == intent["sessionId"]
    assert heard(happenings.keyword("turn_on"))["hermes/intent/turn_on"]["sessionId"] != intent["sessionId"]


def test_a_wake_word_is_a_hotword_and_no_command():
    (told,) = heard(happenings.keyword("hey_edge"), wakewords=("hey_edge",), site_id="kitchen").items()
    assert told[0] == "hermes/hotword/hey_edge/detected"
    assert (told[1]["siteId"], told[1]["modelId"], told[1]["sessionId"]) == ("kitchen", "hey_edge", None)
    assert set(heard(happenings.keyword("x"), wakewords=("x",), wakeword_id="default")) == {
        "hermes/hotword/default/detected"
    }


@pytest.mark.parametrize("keyword", ["on/off", "+", "#", "a\0b", "", None, 3])
def test_any_label_makes_a_topic_or_none(keyword):
    told = heard(Event("keyword", "hall", 1.0, {"keyword": keyword, "score": "high", "start_s": None}))
    for topic, body in told.items():
        assert not set(topic.removeprefix("hermes/")) & set("+#\0")
        assert topic.count("/") == 2
        assert body["sessionId"]
    assert bool(told) == (isinstance(keyword, str) and keyword != "")


def test_other_events_say_nothing():
    events, totals = happenings.walk()
    assert not any(heard(event) for event in [*events, totals, happenings.health()])


@pytest.mark.parametrize("qos", [0, 1])
def test_quality_of_service(qos):
    drafts = compose_hermes(HermesSettings(qos=qos), device="d")(happenings.keyword())
    assert {(draft.qos, draft.retain, draft.latest) for draft in drafts} == {(qos, False, False)}
