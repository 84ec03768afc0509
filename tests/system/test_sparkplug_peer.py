"""Our Sparkplug payloads read by another implementation, pysparkplug, and its read by ours.

pysparkplug asks for paho-mqtt below 2, so it is no dependency: `pip install --no-deps --target FOLDER pysparkplug` (350 kB)
and EDGEAI_SPARKPLUG_PEER=FOLDER, or FOLDER = .venv-peers/sparkplug.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sparkplug_edge import Edge

from edgeai.sinks.sparkplug.datatypes import DATA_TYPES
from edgeai.sinks.sparkplug.wire import Metric, Payload, decode, encode

REPOSITORY = Path(__file__).resolve().parents[2]
PEER = Path(os.environ.get("EDGEAI_SPARKPLUG_PEER") or REPOSITORY / ".venv-peers" / "sparkplug")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (PEER / "pysparkplug").is_dir(),
        reason=f"no pysparkplug in {PEER}; pip install --no-deps --target {PEER} pysparkplug",
    ),
]

_SCRIPT = """
import json, sys
import pysparkplug as peer

def plain(value):
    return value.hex() if isinstance(value, bytes) else value.timestamp() if hasattr(value, "timestamp") else value

def told(payload):
    return {"timestamp": payload.timestamp, "seq": getattr(payload, "seq", None), "metrics": [
        [one.name, one.alias, one.timestamp, one.datatype.value, one.is_historical, one.is_null, plain(one.value)]
        for one in payload.metrics]}

asked = json.load(sys.stdin)
births, answer = {}, {"decoded": [], "encoded": []}
for kind, device, raw in asked["decode"]:
    payload = getattr(peer, kind).decode(bytes.fromhex(raw), birth=births.get(device))
    if kind.endswith("Birth"):
        births[device] = payload
    answer["decoded"].append(told(payload) if kind != "NDeath" else plain(payload.bd_seq_metric.value))
for number, value in asked["encode"]:
    data_type = peer.DataType(number)
    if data_type is peer.DataType.BYTES:
        value = bytes.fromhex(value)
    if data_type is peer.DataType.DATETIME:
        import datetime
        value = datetime.datetime.fromtimestamp(value / 1000, datetime.timezone.utc)
    metric = peer.Metric(timestamp=5, name="n", datatype=data_type, value=value, alias=3)
    answer["encoded"].append(peer.NBirth(timestamp=7, seq=9, metrics=(metric,)).encode().hex())
print(json.dumps(answer))
"""

VALUES = [
    ("Int8", -128),
    ("Int16", -2),
    ("Int32", -(2**31)),
    ("Int64", -(2**63)),
    ("Int64", 2**63 - 1),
    ("UInt8", 255),
    ("UInt16", 65535),
    ("UInt32", 2**32 - 1),
    ("UInt64", 2**64 - 1),
    ("Float", 1.5),
    ("Double", 0.1),
    ("Boolean", True),
    ("Boolean", False),
    ("String", "Übergang 門"),
    ("Text", ""),
    ("UUID", "0190a0a0-0000-7000-8000-000000000000"),
    ("DateTime", 1_700_000_000_000),
    ("Bytes", b"\x00\xff"),
]


def ask(**question):
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=json.dumps({"decode": [], "encode": [], **question}),
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(PEER)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_reads_our_node_from_birth_to_death(tmp_path):
    edge = Edge(tmp_path)
    will = edge.session.will()
    node, gate, hall = edge.session.birth()
    edge.put()
    edge.put()
    data = [edge.session.outgoing(message) for message in edge.waiting]
    found = ask(
        decode=[
            ("NBirth", "", node.payload.hex()),
            ("DBirth", "gate", gate.payload.hex()),
            ("DBirth", "hall", hall.payload.hex()),
            *(("DData", "gate", raw.hex()) for raw in data),
            ("NDeath", "", will.payload.hex()),
        ]
    )["decoded"]
    assert [one["seq"] for one in found[:5]] == [0, 1, 2, 3, 4]
    metrics = {one[0]: one for one in found[0]["metrics"]}
    assert metrics["bdSeq"][6] == found[5] == 0
    assert metrics["Node Control/Rebirth"][1:] == [None, metrics["bdSeq"][2], 11, False, False, False]
    assert metrics["Health/cpu_percent"][3:] == [10, False, True, None]
    assert [one["metrics"][0][0] for one in found[3:5]] == ["Rules/door/in"] * 2, (
        "by their alias, from the birth"
    )
    assert [one["metrics"][0][6] for one in found[3:5]] == [1, 2]


def test_it_reads_every_data_type_of_ours():
    payload = Payload(tuple(Metric("n", value, type_, 3, 5) for type_, value in VALUES), 7, 9)
    (found,) = ask(decode=[("NBirth", "", encode(payload).hex())])["decoded"]
    assert (found["timestamp"], found["seq"]) == (7, 9)
    for (type_, value), (name, alias, timestamp, number, historical, null, other) in zip(
        VALUES, found["metrics"], strict=True
    ):
        assert (name, alias, timestamp, number, historical, null) == (
            "n",
            3,
            5,
            DATA_TYPES[type_].number,
            False,
            False,
        )
        assert other == (value.hex() if type_ == "Bytes" else value / 1000 if type_ == "DateTime" else value)


def test_we_read_every_data_type_of_its():
    question = [
        (DATA_TYPES[type_].number, value.hex() if isinstance(value, bytes) else value)
        for type_, value in VALUES
    ]
    for (type_, value), raw in zip(VALUES, ask(encode=question)["encoded"], strict=True):
        assert decode(bytes.fromhex(raw)) == Payload((Metric("n", value, type_, 3, 5),), 7, 9)
        assert encode(decode(bytes.fromhex(raw))) == bytes.fromhex(raw), "byte by byte"
