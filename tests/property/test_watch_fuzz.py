"""Whatever is published, a watcher makes at most a line of it."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.cli.mqtt_lines import _parts, json_line, summary_json
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.watch.messages import Watcher, WatchFilter

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
GOOD = {
    "schema": 1, "id": "a", "type": "t", "device": "d", "stream": "s", "seq": 1, "boot_id": "b", "priority": "event",
    "time_s": 1.0, "wall_time": "2023-11-14T22:13:19.750Z", "monotonic_s": 1.0, "clock_synced": None, "data": {},
}  # fmt: skip
CHANGED = st.dictionaries(st.sampled_from([*GOOD, "stream_seq"]), JSON, max_size=4).map(
    lambda new: GOOD | new
)
TEXTS = st.one_of(CHANGED, JSON).map(lambda value: json.dumps(value).encode())
PAYLOADS = st.one_of(
    st.binary(max_size=60),
    TEXTS,
    st.lists(TEXTS, max_size=4).map(lambda lines: gzip.compress(b"\n".join(lines))),
)
LEVELS = st.one_of(
    st.sampled_from(
        ["event", "telemetry", "image", "health", "state", "cmd", "ack", "cfg", "batch", "gzip", "zstd"]
    ),
    st.text(max_size=6),
)
TOPICS = st.lists(LEVELS, max_size=4).map(lambda levels: "/".join(["edge/v1/t/s/d", *levels])) | st.text(
    max_size=30
)


@given(st.lists(st.tuples(TOPICS, PAYLOADS, st.booleans()), max_size=8))
def test_only_printable_lines_come_out(messages):
    watcher = Watcher(WatchFilter())
    for topic, payload, retained in messages:
        for sighting in watcher.take(Inbound(topic, payload, retained=retained)):
            assert "".join(text for text, _ in _parts(sighting, "", 80)).isprintable()
            assert json_line(sighting).isascii()
            json.loads(json_line(sighting), parse_constant=pytest.fail)
    json.dumps(summary_json(watcher.counts))
