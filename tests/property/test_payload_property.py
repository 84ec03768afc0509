"""Payloads: any JSON goes through unchanged, and nothing that arrives lets another error out than ours."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from edgeai.sinks.payload import Envelope, PayloadError, decode
from edgeai.sinks.topics import TopicError, check_level
from edgeai.types import Event

ENVELOPE = Envelope("cam-001", "boot-1", synced=lambda: False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(
    data=st.dictionaries(TEXT, JSON, max_size=5),
    kind=TEXT,
    stream=TEXT,
    time_s=st.floats(-1e9, 1e9),
    seq=st.integers(1),
)
def test_what_was_sent_is_what_is_read(data, kind, stream, time_s, seq):
    event = Event(kind, stream, time_s, data)
    found = decode(ENVELOPE.encode(event, seq))
    assert (found["data"], found["type"], found["stream"], found["id"]) == (data, kind, stream, event.id)
    assert (found["seq"], found["time_s"]) == (seq, round(time_s, 6))


FIELDS = [*json.loads(ENVELOPE.encode(Event("t", "s", 0.0), 1))]


@given(
    st.binary()
    | st.dictionaries(st.sampled_from(FIELDS), JSON).map(json.dumps).map(str.encode)
    | JSON.map(json.dumps).map(str.encode)
)
def test_no_payload_lets_another_error_out(payload):
    with contextlib.suppress(PayloadError):
        assert decode(payload)["schema"] == 1


@given(st.text())
def test_a_level_that_passes_stays_one_level(text):
    with contextlib.suppress(TopicError):
        level = check_level(text, what="stream")
        assert f"a/{level}/b".split("/") == ["a", level, "b"]
        assert not set(level) & set("+#\0")
        level.encode()
