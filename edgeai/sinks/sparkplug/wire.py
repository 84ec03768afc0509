"""Sparkplug B payloads as bytes, by Google's protobuf library, which is imported when the first one is made.

The message types are built here from field numbers and types, facts of Eclipse Sparkplug 3.0.0, section 6.4.1; only
what is used of them. Fields that are not named here (metadata, data sets, templates) are skipped in what arrives.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgeai.sinks.sparkplug.datatypes import (
    DATA_TYPES,
    NAME_OF,
    Scalar,
    SparkplugError,
    TypeName,
    from_wire,
    is_text,
    to_wire,
)

MAX_COMMAND_BYTES: Final = 64 << 10
MAX_METRICS: Final = 1000

_UINT32, _UINT64, _FLOAT, _DOUBLE, _BOOL, _STRING, _BYTES = (
    "uint32",
    "uint64",
    "float",
    "double",
    "bool",
    "string",
    "bytes",
)

_METRIC_FIELDS: Final[dict[str, tuple[int, str]]] = {
    "name": (1, _STRING),
    "alias": (2, _UINT64),
    "timestamp": (3, _UINT64),
    "datatype": (4, _UINT32),
    "is_historical": (5, _BOOL),
    "is_transient": (6, _BOOL),
    "is_null": (7, _BOOL),
}
_VALUE_FIELDS: Final[dict[str, tuple[int, str]]] = {  # of a metric, one at most
    "int_value": (10, _UINT32),
    "long_value": (11, _UINT64),
    "float_value": (12, _FLOAT),
    "double_value": (13, _DOUBLE),
    "boolean_value": (14, _BOOL),
    "string_value": (15, _STRING),
    "bytes_value": (16, _BYTES),
}
_PAYLOAD_FIELDS: Final[dict[str, tuple[int, str]]] = {"timestamp": (1, _UINT64), "seq": (3, _UINT64)}
_METRICS_NUMBER: Final = 2


@dataclass(frozen=True, slots=True)
class Metric:
    """One value. name or alias, or both. type None: known from the birth. value None: null, where `null` says so.

    timestamp_ms: when the value was taken, since 1970, UTC; None where it is not told.
    """

    name: str = ""
    value: Scalar = None
    type: TypeName | None = None
    alias: int | None = None
    timestamp_ms: int | None = None
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Payload:
    """seq: None in a death and in commands. timestamp_ms: of sending."""

    metrics: tuple[Metric, ...] = ()
    timestamp_ms: int | None = None
    seq: int | None = None


def encode(payload: Payload, *, value_types: Sequence[TypeName] = ()) -> bytes:
    """The bytes of a payload. value_types: of each metric in its order, where the metrics themselves do not tell them.

    Raises SparkplugError for a value that its type cannot hold, and where protobuf is not installed.
    """
    message = payload_class()()
    if payload.timestamp_ms is not None:
        message.timestamp = payload.timestamp_ms
    if payload.seq is not None:
        message.seq = payload.seq
    for index, metric in enumerate(payload.metrics):
        told = message.metrics.add()
        if metric.name:
            if not is_text(metric.name):
                raise SparkplugError(f"{metric.name!r} is no name for a metric: it is not valid Unicode")
            told.name = metric.name
        if metric.alias is not None:
            told.alias = metric.alias
        if metric.timestamp_ms is not None:
            told.timestamp = metric.timestamp_ms
        if metric.type is not None:
            told.datatype = DATA_TYPES[metric.type].number
        if metric.historical:
            told.is_historical = True
        type_ = metric.type or value_types[index]
        if metric.value is None:
            told.is_null = True
        else:
            setattr(told, DATA_TYPES[type_].field, to_wire(type_, metric.value))
    raw: bytes = message.SerializeToString()
    return raw


def decode(raw: bytes) -> Payload:
    """What arrived, hostile or not. A metric without datatype keeps its value as its field holds it.

    Raises SparkplugError for what is too large, has too many metrics, or is no payload.
    """
    if len(raw) > MAX_COMMAND_BYTES:
        raise SparkplugError(f"payload has {len(raw)} bytes of at most {MAX_COMMAND_BYTES}")
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        message = payload_class().FromString(raw)
        if len(message.metrics) > MAX_METRICS:
            raise SparkplugError(f"payload has {len(message.metrics)} metrics of at most {MAX_METRICS}")
        metrics = tuple(_metric(told) for told in message.metrics)
    except (DecodeError, UnicodeDecodeError) as error:
        raise SparkplugError(f"payload is not Sparkplug B: {error}") from error
    return Payload(
        metrics=metrics,
        timestamp_ms=message.timestamp if message.HasField("timestamp") else None,
        seq=message.seq if message.HasField("seq") else None,
    )


@functools.cache
def payload_class() -> Any:
    """The class that protobuf makes for a payload. Raises SparkplugError where protobuf is not installed."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
    except ImportError as error:
        raise SparkplugError(
            "Sparkplug needs the library protobuf, which is not installed",
            next_step="pip install 'edgeai[sparkplug]'",
        ) from error
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="edgeai/sparkplug_b.proto", package="edgeai.sparkplug", syntax="proto2"
    )
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")

    def add(message: Any, name: str, number: int, kind: str, **more: Any) -> None:
        message.field.add(
            name=name,
            number=number,
            type=getattr(field, f"TYPE_{kind.upper()}"),
            **{"label": field.LABEL_OPTIONAL} | more,
        )

    for name, (number, kind) in _METRIC_FIELDS.items():
        add(metric, name, number, kind)
    for name, (number, kind) in _VALUE_FIELDS.items():
        add(metric, name, number, kind, oneof_index=0)
    for name, (number, kind) in _PAYLOAD_FIELDS.items():
        add(payload, name, number, kind)
    add(
        payload,
        "metrics",
        _METRICS_NUMBER,
        "message",
        label=field.LABEL_REPEATED,
        type_name=".edgeai.sparkplug.Payload.Metric",
    )
    # a pool of its own: another library in the process may bring Tahu's file under Tahu's names
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("edgeai.sparkplug.Payload"))


def _metric(told: Any) -> Metric:
    field = told.WhichOneof("value")
    type_ = NAME_OF.get(told.datatype) if told.HasField("datatype") else None
    value = None if field is None or told.is_null else getattr(told, field)
    if type_ is not None and value is not None and field == DATA_TYPES[type_].field:
        value = from_wire(type_, value)
    return Metric(
        name=told.name,
        value=value,
        type=type_,
        alias=told.alias if told.HasField("alias") else None,
        timestamp_ms=told.timestamp if told.HasField("timestamp") else None,
        historical=told.is_historical,
    )
