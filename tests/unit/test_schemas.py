"""The published schemas against what the runtime really sends, checked by a validator that is not ours."""

import json

import happenings
import pytest
from jsonschema import Draft202012Validator

from edgeai.errors import UsageError
from edgeai.sinks import Outbox
from edgeai.sinks import payload as payload_module
from edgeai.sinks.payload import Envelope, compose_native, decode
from edgeai.sinks.schemas import SCHEMAS, TOPICS, schema_of
from edgeai.sinks.schemas.events import ENVELOPE, EVENT_DATA, OPTIONAL
from edgeai.sinks.topics import ROUTES, TopicTree
from edgeai.stages.rules import RULES
from edgeai.types import DEVICE_STREAM, Event

TREE = TopicTree("<tenant>", "<site>", "<device>")
MADE_BY = Envelope("cam-001", "boot-1", synced=lambda: None)


def sent(event):
    return json.loads(MADE_BY.encode(event, 7))


def faults(name, value):
    return [error.message for error in Draft202012Validator(SCHEMAS[name]).iter_errors(value)]


def real_events():
    events, totals = happenings.walk()
    return [*events, totals, happenings.keyword(), happenings.health()]


def name_of(event):
    return "telemetry" if event.type == "totals" else event.type


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_one(name):
    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == name
    assert json.loads(json.dumps(schema)) == schema


def test_ids_are_unique():
    assert len({schema["$id"] for schema in SCHEMAS.values()}) == len(SCHEMAS)


def undescribed(schema, path=""):
    found = [] if str(schema.get("description", "")).endswith(".") else [path]
    for key, inner in schema.get("properties", {}).items():
        found += undescribed(inner, f"{path}/{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += undescribed(schema[key], f"{path}/{key}")
    return found


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_described_in_a_sentence(name):
    assert undescribed(SCHEMAS[name]) == []


@pytest.mark.parametrize(("suffix", "unit"), [("_s", "second"), ("_ms", "millisecond"), ("_mb", "megabyte"), ("_bytes", "bytes"), ("_percent", "percent"), ("_c", "Celsius")])  # fmt: skip
def test_a_field_with_a_unit_in_its_name_has_it_in_its_words(suffix, unit):
    def walk(schema):
        for key, inner in schema.get("properties", {}).items():
            if key.endswith(suffix) and "properties" not in inner:
                yield key, inner["description"]
            yield from walk(inner)
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                yield from walk(schema[key])

    for name, schema in SCHEMAS.items():
        for key, description in walk(schema):
            assert unit in description.lower() or unit in description, (name, key, description)


@pytest.mark.parametrize("event", real_events(), ids=lambda event: event.type)
def test_what_the_rules_and_the_pipeline_make_is_as_the_schema_says(event):
    value = sent(event)
    assert faults(name_of(event), value) == []
    assert faults("envelope", value) == []
    told = SCHEMAS[name_of(event)]["properties"]["data"]["properties"]
    assert set(event.data) <= set(told), "a field that no schema tells of"
    assert decode(json.dumps(value).encode()) == value


def test_every_type_of_event_that_the_rules_can_make_was_made():
    made = {event.type for event in real_events()}
    assert made >= {
        "line_crossed",
        "zone_entered",
        "zone_left",
        "zone_occupancy",
        "track_started",
        "track_ended",
        "keyword",
    }
    assert len(RULES) == 3, "a new rule: its events need a schema, and happenings.py needs it"


@pytest.mark.parametrize("event", real_events(), ids=lambda event: event.type)
def test_a_field_that_is_missing_or_wrong_is_found(event):
    name, good = name_of(event), sent(event)
    schema = SCHEMAS[name]
    for field in schema["required"]:
        assert faults(name, {key: value for key, value in good.items() if key != field}), field
        assert faults(name, good | {field: {"no": "such"} if field != "data" else "text"}), field
    assert faults(name, good | {"stream_seq": "1"})
    for field in schema["properties"]["data"]["required"]:
        lacking = {key: value for key, value in good["data"].items() if key != field}
        assert faults(name, good | {"data": lacking}), field
        assert faults(name, good | {"data": good["data"] | {field: [object]}}), field
    assert faults(name, good | {"type": "something_else"})


def test_a_zone_left_with_a_wrong_reason_is_found():
    (left,) = [event for event in real_events() if event.type == "zone_left"]
    assert faults("zone_left", sent(left) | {"data": {**left.data, "reason": "bored"}})


JSON_TYPES = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
    "object": dict,
}


def test_the_envelope_of_the_schemas_is_the_one_that_payloads_have():
    full = json.loads(MADE_BY.encode(happenings.keyword(), 7, 3))
    assert list(ENVELOPE) == list(full)
    assert [name for name in ENVELOPE if name not in OPTIONAL] == list(payload_module._FIELDS)
    assert list(sent(happenings.keyword())) == list(payload_module._FIELDS)
    assert faults("keyword", full) == []
    assert faults("keyword", full | {"stream_seq": 0})
    for name in ("envelope", "batch", "keyword"):
        assert SCHEMAS[name]["required"] == list(payload_module._FIELDS)
    for name, kinds in payload_module._FIELDS.items():
        told = ENVELOPE[name].get("type", "string")
        said = {JSON_TYPES[kind] for kind in ([told] if isinstance(told, str) else told)}
        assert said == set(kinds) - ({int} if float in kinds else set()), name
    assert set(ENVELOPE["priority"]["enum"]) == set(ROUTES)


def test_every_schema_has_its_topic_and_every_topic_a_schema_or_a_content():
    carried = [name for one in TOPICS for name in one.schemas]
    assert sorted(carried) == sorted(SCHEMAS)
    for one in TOPICS:
        assert one.schemas or one.content != "application/json"
        for name in one.schemas:
            schema = SCHEMAS[name]
            assert (schema["x-topic"], schema["x-qos"], schema["x-retained"]) == (
                one.topic,
                one.qos,
                one.retained,
            )


@pytest.mark.parametrize(
    "event", [event for event in real_events() if event.type != "health"], ids=lambda event: event.type
)
def test_events_travel_as_their_schema_says(event):
    (draft,) = compose_native(TREE, MADE_BY)(event)
    schema = SCHEMAS[name_of(event)]
    assert draft.topic == schema["x-topic"].replace("<stream>", event.stream)
    assert (draft.qos, draft.retain) == (schema["x-qos"], schema["x-retained"])


GOOD = {
    "state": {"state": "online", "boot_id": "b"},
    "command": {"id": "1", "args": {}, "ttl_s": 5, "issued_at": "2026-01-02T03:04:05Z"},
    "ack": {
        "schema": 1, "id": "1", "name": "snapshot", "ok": False, "reason": "not allowed", "result": None,
        "device": "cam-001", "boot_id": "b", "wall_time": "2026-01-02T03:04:05.678Z",
    },
    "cfg_desired": {"version": 1, "toml": "x = 1"},
    "cfg_reported": {
        "schema": 1, "version": 0, "sha256": "0" * 64, "source": "file", "refused": {"version": None, "reason": "no TOML"},
        "device": "cam-001", "boot_id": "b", "wall_time": "2026-01-02T03:04:05.678Z",
    },
}  # fmt: skip
WRONG = [
    ("state", {"state": "asleep"}), ("command", {"id": ""}), ("command", {"id": "x" * 65}), ("command", {"args": []}),
    ("command", {"ttl_s": 0}), ("ack", {"ok": "yes"}), ("cfg_desired", {"version": 0}), ("cfg_reported", {"sha256": "00"}),
    ("cfg_reported", {"source": "thin air"}), ("cfg_reported", {"refused": "no"}), ("cfg_reported", {"refused": {}}), ("command", {"id": "a b"}), ("ack", {"schema": 2}),
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_messages_without_an_envelope(name):
    assert faults(name, GOOD[name]) == []
    for field in SCHEMAS[name]["required"]:
        assert faults(name, {key: value for key, value in GOOD[name].items() if key != field})


@pytest.mark.parametrize(("name", "change"), WRONG)
def test_a_wrong_message_without_an_envelope_is_found(name, change):
    assert faults(name, GOOD[name] | change)


def of_device(type_, data):
    return sent(Event(type_, DEVICE_STREAM, 1.0, data, "alarm"))


def test_what_the_device_tells_of_its_outbox(tmp_path):
    """The outbox's own words: one that is corrupt, and one that overflows."""
    (tmp_path / "outbox.db").write_bytes(b"no database" * 1000)
    with Outbox(tmp_path / "outbox.db") as outbox:
        incidents = outbox.take_incidents()
    assert [type_ for type_, _ in incidents] == ["outbox_set_aside"]
    incidents += [
        ("outbox_degraded", {"error": "disk full", "memory_bytes": 1 << 20}),
        ("outbox_recovered", {"moved": 4}),
        ("messages_dropped", {"dropped": {"image": 3}}),
        ("link_report", {"day": "2026-01-02", "bytes": {"event": 9}, "limits": {"event": 10, "alarm": None}}),
    ]
    for type_, data in incidents:
        assert faults(type_, of_device(type_, data)) == []
        assert SCHEMAS[type_]["x-topic"] == TREE.event(DEVICE_STREAM)
        assert set(data) == set(SCHEMAS[type_]["properties"]["data"]["required"])
        for name in data:
            assert faults(type_, of_device(type_, data | {name: [1]}))
    assert faults("messages_dropped", of_device("messages_dropped", {"dropped": {"image": -1}}))


def test_info():
    stream = {"name": "gate", "kind": "camera", "model": "person-detector", "runs": "onnx"}
    data = {"board": "x", "version": "1", "os": "Debian", "python": "3.11", "streams": [stream]}
    for protocol in ({}, {"protocol": "5"}, {"protocol": None}):
        assert (
            faults("info", sent(Event("info", DEVICE_STREAM, 1.0, data | protocol, priority="telemetry")))
            == []
        )
    assert faults("info", sent(Event("info", DEVICE_STREAM, 1.0, data | {"streams": ["gate"]})))


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(UsageError, match="line_crossed"):
        schema_of("line_crosed")


def test_types_of_events_are_names_of_schemas():
    for type_ in EVENT_DATA:
        assert SCHEMAS[type_]["properties"]["type"]["const"] == type_
    assert SCHEMAS["telemetry"]["properties"]["type"]["const"] == "totals"
