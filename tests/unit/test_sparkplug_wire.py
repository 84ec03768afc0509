"""Sparkplug payloads as bytes: a golden worked out by hand, an independent decoder, hostile input, a missing library."""

import builtins
import math

import pytest
import sparkplug_host as host

from edgeai.sinks.sparkplug import wire
from edgeai.sinks.sparkplug.datatypes import DATA_TYPES, NAME_OF, SparkplugError, from_wire, to_wire
from edgeai.sinks.sparkplug.wire import Metric, Payload, decode, encode

# By protobuf's rules (https://protobuf.dev/programming-guides/encoding/): a key is number << 3 | wire type (0 varint,
# 1 eight bytes, 2 length and bytes); a varint has seven bits a byte, lowest first, 0x80 for "more".
GOLDEN = bytes.fromhex(
    "08 9601"  # 1 timestamp = 150
    "12 0c"  # 2 metrics, 12 bytes
    "  0a 01 61"  # 1 name = "a"
    "  10 01"  # 2 alias = 1
    "  18 96 01"  # 3 timestamp = 150
    "  20 0b"  # 4 datatype = 11, Boolean
    "  70 00"  # 14 boolean_value = false
    "12 11"  # 2 metrics, 17 bytes
    "  10 02"  # 2 alias = 2
    "  18 01"  # 3 timestamp = 1
    "  28 01"  # 5 is_historical = true
    "  58 feffffffffffffffff01"  # 11 long_value = 2**64 - 2, the two's complement of -2
    "12 0d"  # 2 metrics, 13 bytes
    "  10 03"  # 2 alias = 3
    "  18 01"  # 3 timestamp = 1
    "  69 000000000000f83f"  # 13 double_value = 1.5
    "12 06"  # 2 metrics, 6 bytes
    "  10 04"  # 2 alias = 4
    "  18 01"  # 3 timestamp = 1
    "  38 01"  # 7 is_null = true
    "18 ff01"  # 3 seq = 255
)
GOLDEN_PAYLOAD = Payload(
    (
        Metric("a", False, "Boolean", 1, 150),
        Metric("", -2, None, 2, 1, historical=True),
        Metric("", 1.5, None, 3, 1),
        Metric("", None, None, 4, 1),
    ),
    150,
    255,
)


def test_golden_bytes():
    assert encode(GOLDEN_PAYLOAD, value_types=("Boolean", "Int64", "Double", "Int64")) == GOLDEN


def test_the_independent_decoder_reads_ours():
    raw = encode(GOLDEN_PAYLOAD, value_types=("Boolean", "Int64", "Double", "Int64"))
    found = host.decode(raw)
    assert (found["timestamp"], found["seq"]) == (150, 255)
    assert found["metrics"][0] == {
        "name": "a",
        "alias": 1,
        "timestamp": 150,
        "datatype": 11,
        "value": ("boolean", False),
    }
    assert found["metrics"][1] == {"alias": 2, "timestamp": 1, "is_historical": 1, "value": ("long", -2)}
    assert found["metrics"][3] == {"alias": 4, "timestamp": 1, "is_null": 1}


def test_what_arrives_is_decoded_by_its_datatype():
    raw = host.command(("Node Control/Rebirth", True), ("x", False), timestamp_ms=7)
    assert decode(raw) == Payload(
        (Metric("Node Control/Rebirth", True, "Boolean"), Metric("x", False, "Boolean")), 7
    )


def test_fields_that_are_not_ours_are_passed_over():
    template = host.chunk(18, host.chunk(1, b"v1"))
    raw = host.chunk(2, host.chunk(1, b"t") + host.number(4, 19) + template) + host.chunk(5, b"body")
    assert decode(raw) == Payload((Metric("t"),))


def test_a_name_that_is_not_utf_8_has_one_that_can_be_logged():
    metric = decode(host.chunk(2, host.chunk(1, b"\xff\xfe"))).metrics[0]
    assert repr(metric.name).isascii()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\xff", "not Sparkplug B"),
        (b"\x12\x7f", "not Sparkplug B"),
        (bytes(wire.MAX_COMMAND_BYTES + 1), "bytes of at most"),
        (host.chunk(2, b"") * (wire.MAX_METRICS + 1), "metrics of at most"),
    ],
)
def test_hostile_payloads_are_refused_in_one_line(raw, told):
    with pytest.raises(SparkplugError, match=told) as caught:
        decode(raw)
    assert "\n" not in str(caught.value)


def test_the_table_of_data_types():
    # Eclipse Sparkplug 3.0.0, section 6.4.16
    names = [
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float",
        "Double",
        "Boolean",
        "String",
        "DateTime",
        "Text",
        "UUID",
    ]
    assert [NAME_OF[number] for number in range(1, 16)] == names
    assert NAME_OF[17] == "Bytes"
    assert {one.field for one in DATA_TYPES.values()} == set(wire._VALUE_FIELDS)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("Int8", 128),
        ("Int64", 1 << 63),
        ("UInt8", -1),
        ("Int64", True),
        ("Int64", 1.0),
        ("Boolean", 1),
        ("Double", "1"),
        ("Float", 1e39),
        ("Double", 10**400),
        ("String", b"x"),
        ("String", "\ud800"),
        ("Bytes", "x"),
    ],
)
def test_a_value_that_its_type_cannot_hold(type_, value):
    with pytest.raises(SparkplugError, match=f"no value of Sparkplug's type {type_}"):
        to_wire(type_, value)


def test_integers_of_other_libraries_in_a_wider_field():
    assert from_wire("Int8", 2**32 - 1) == from_wire("Int8", 255) == -1
    assert from_wire("Int64", 2**64 - 5) == -5


def test_a_float_that_is_no_number():
    assert math.isnan(decode(encode(Payload((Metric("f", math.nan, "Float"),)))).metrics[0].value)
    assert decode(encode(Payload((Metric("f", -math.inf, "Float"),)))).metrics[0].value == -math.inf


def test_a_name_that_is_no_text():
    with pytest.raises(SparkplugError, match="valid Unicode"):
        encode(Payload((Metric("\udc00", 1, "Int64"),)))


def test_without_protobuf_one_line_with_the_command(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **named):
        if name.startswith("google"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        SparkplugError, match=r"protobuf, which is not installed; pip install 'edgeai\[sparkplug\]'"
    ):
        wire.payload_class.__wrapped__()
