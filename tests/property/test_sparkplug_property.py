"""Sparkplug in any order: sequences stay consecutive, nothing goes back in time, values survive the bytes."""

import math
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sparkplug_edge import NCMD, REBIRTH, Edge
from sparkplug_host import command

from edgeai.sinks.sparkplug.datatypes import DATA_TYPES, SparkplugError
from edgeai.sinks.sparkplug.wire import Metric, Payload, decode, encode

STEPS = st.lists(
    st.sampled_from(["put", "send", "swap", "rebirth", "host", "connect", "lose", "restart"]), max_size=120
)


@given(STEPS, st.booleans())
@settings(max_examples=150)
def test_any_interleaving_of_births_and_data(steps, primary):
    """A message leaves the outbox when it was acknowledged; what was sent before a loss may come again, as history."""
    with tempfile.TemporaryDirectory() as folder:
        more = {"primary_host": "scada"} if primary else {}
        edge = Edge(Path(folder), **more)
        node, put, stamp, online = edge.node, 0, 0, False
        sent = []  # since the connection came up, not acknowledged

        def connect():
            edge.say((edge.death,) if node.online else ())
            edge.connect()
            if primary and online:
                edge.state(True, stamp)

        connect()
        for step in steps:
            if step == "put":
                put += 1
                edge.put(put)
            elif step == "send" and edge.session.ready and edge.waiting:
                sent.append(edge.waiting[0])
                edge.send()
            elif step == "swap" and len(edge.waiting) > 1:
                edge.waiting[-2:] = edge.waiting[:-3:-1]
            elif step == "rebirth":
                edge.clock.advance(1.0)
                edge.hear(NCMD, REBIRTH)
            elif step == "host" and primary:
                stamp, online = stamp + 1, not online
                edge.state(online, stamp)
                if edge.session.ended:
                    connect()
            elif step == "connect":
                sent.clear()
                connect()
            elif step == "lose":
                edge.waiting[:0], sent = sent, []
                connect()
            elif step == "restart":
                death, waiting = edge.death, sent + edge.waiting
                sent = []
                edge = Edge(Path(folder), edge.clock, **more)
                edge.death, edge.node, edge.waiting, edge.count = death, node, waiting, put
                edge.put(put + 1)
                put += 1
                connect()
        assert node.faults == []
        steps = {(after - before) % 256 for before, after in zip(node.births, node.births[1:], strict=False)}
        assert primary or steps <= {0, 1}, (
            "a rebirth has the number of its connection, the next connection one more"
        )
        if edge.session.ready:
            edge.send(len(edge.waiting))
            assert node.faults == []
            assert set(node.values("Rules/door/in")) == set(range(1, put + 1))
            assert node.live["gate", "Rules/door/in"] == (put or None)


def values_of(type_):
    kind, bits = DATA_TYPES[type_].kind, DATA_TYPES[type_].bits
    if kind == "signed":
        return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
    if kind == "unsigned":
        return st.integers(0, (1 << bits) - 1)
    if kind == "float":
        return st.floats(width=bits)
    text = st.text(st.characters(exclude_categories=["Cs"]))
    return {"bool": st.booleans(), "text": text, "bytes": st.binary()}[kind]


METRICS = st.sampled_from(sorted(DATA_TYPES)).flatmap(
    lambda type_: st.builds(
        Metric,
        st.text(st.characters(exclude_categories=["Cs"])),
        st.none() | values_of(type_),
        st.just(type_),
        st.none() | st.integers(0, 2**64 - 1),
        st.none() | st.integers(0, 2**64 - 1),
        st.booleans(),
    )
)


@given(st.lists(METRICS, max_size=8), st.none() | st.integers(0, 2**64 - 1), st.none() | st.integers(0, 255))
def test_every_data_type_survives_the_bytes(metrics, timestamp_ms, seq):
    payload = Payload(tuple(metrics), timestamp_ms, seq)
    found = decode(encode(payload))
    for metric, other in zip(payload.metrics, found.metrics, strict=True):
        if isinstance(metric.value, float) and math.isnan(metric.value):
            assert math.isnan(other.value)
        else:
            assert other == metric
    assert (found.timestamp_ms, found.seq) == (timestamp_ms, seq)


@given(
    st.binary(max_size=300) | st.tuples(st.binary(max_size=20), st.just(command(("a", True)))).map(b"".join)
)
def test_hostile_payloads_end_in_one_kind_of_error(raw):
    try:
        decode(raw)
    except SparkplugError as error:
        assert "\n" not in str(error)
