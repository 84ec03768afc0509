import json
import math

import numpy as np
import pytest

from edgeai.sinks.payload import (
    MAX_PAYLOAD_BYTES,
    Envelope,
    PayloadError,
    compose_native,
    decode,
    iso_utc,
    new_boot_id,
)
from edgeai.sinks.topics import TopicTree
from edgeai.types import Event

ENVELOPE = Envelope("cam-001", "boot-1", synced=lambda: True)


def event(**changes):
    given = {"type": "line_crossed", "stream": "gate", "time_s": 1.5, "data": {"line": "a"}} | changes
    return Event(**given)


def test_every_field_is_there_and_is_the_events_own():
    sent = event(wall_time_s=1_700_000_000.25, monotonic_s=42.123456789, priority="alarm", id="id-1")
    assert json.loads(ENVELOPE.encode(sent, 7)) == {
        "schema": 1, "id": "id-1", "type": "line_crossed", "device": "cam-001", "stream": "gate", "seq": 7,
        "boot_id": "boot-1", "priority": "alarm", "time_s": 1.5, "wall_time": "2023-11-14T22:13:20.250Z",
        "monotonic_s": 42.123457, "clock_synced": True, "data": {"line": "a"},
    }  # fmt: skip


def test_decode_gives_back_what_encode_made():
    payload = ENVELOPE.encode(event(data={"text": "grün ☃", "deep": [1, {"x": None}]}), 1)
    assert decode(payload)["data"] == {"text": "grün ☃", "deep": [1, {"x": None}]}


def test_an_unknown_clock_state_is_null():
    assert decode(Envelope("d", "b", synced=lambda: None).encode(event(), 1))["clock_synced"] is None


def endless():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    "data",
    [
        {"x": math.nan}, {"x": math.inf}, {"x": np.float32(1)}, {"x": b"raw"}, {"x": {1, 2}}, {"x": "\ud800"},
        {("a",): 1}, {"x": endless()},
    ],
)  # fmt: skip
def test_what_is_no_json_is_told_with_its_event(data):
    with pytest.raises(PayloadError, match=r"line_crossed.*gate"):
        ENVELOPE.encode(event(data=data), 1)


@pytest.mark.parametrize(
    "changes",
    [{"time_s": math.nan}, {"wall_time_s": math.inf}, {"wall_time_s": 1e20}, {"monotonic_s": math.inf}],
)
def test_times_that_are_no_times_are_told(changes):
    with pytest.raises(PayloadError):
        ENVELOPE.encode(event(**changes), 1)


def test_the_size_is_capped():
    room = MAX_PAYLOAD_BYTES - len(ENVELOPE.encode(event(data={"x": ""}), 1))
    assert len(ENVELOPE.encode(event(data={"x": "a" * (room - 30)}), 1)) <= MAX_PAYLOAD_BYTES
    with pytest.raises(PayloadError, match=r"bytes of at most 262144"):
        ENVELOPE.encode(event(data={"x": "a" * (room + 30)}), 1)


def test_iso_time_has_milliseconds_always():
    assert iso_utc(0) == "1970-01-01T00:00:00.000Z"
    assert iso_utc(1.0004) == "1970-01-01T00:00:01.000Z"


def test_boot_ids_differ():
    assert new_boot_id() != new_boot_id()


def test_composing_gives_one_draft_on_the_right_topic():
    (draft,) = compose_native(TopicTree("t", "s", "d"), ENVELOPE)(event(priority="telemetry"))
    assert (draft.topic, draft.qos, draft.retain) == ("edge/v1/t/s/d/telemetry/gate", 0, True)
    assert decode(draft.body(9, 1))["seq"] == 9


def test_an_unknown_priority_is_told():
    with pytest.raises(PayloadError, match="urgent"):
        compose_native(TopicTree("t", "s", "d"), ENVELOPE)(event(priority="urgent"))


GOOD = json.loads(ENVELOPE.encode(event(), 1))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xff", b"[]", b"1", b"null", b"{", b"{}", b'{"schema": 2}', b"[" * 100_000, b"9" * 10_000, b" " * (MAX_PAYLOAD_BYTES + 1),
        json.dumps(GOOD | {"schema": True}).encode(), json.dumps(GOOD | {"seq": "1"}).encode(), json.dumps(GOOD | {"seq": True}).encode(),
        json.dumps(GOOD | {"data": []}).encode(), json.dumps({k: v for k, v in GOOD.items() if k != "id"}).encode(),
        json.dumps(GOOD).replace("1.5", "NaN").encode(),
    ],
)  # fmt: skip
def test_what_is_no_event_is_told(payload):
    with pytest.raises(PayloadError):
        decode(payload)


def test_more_fields_are_let_pass():
    assert decode(json.dumps(GOOD | {"more": 1}).encode())["more"] == 1
