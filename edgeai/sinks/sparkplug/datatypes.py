"""Sparkplug's data types: their numbers, the field of a metric that carries each, and what a value looks like in it.

Source: Eclipse Sparkplug 3.0.0, section 6.4.16 (Data Types). Signed integers travel as two's complement in an unsigned
field; this writes them in their own width, as Eclipse Tahu's Python library does, and reads any width.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from edgeai.errors import SinkError

TypeName: TypeAlias = Literal[
    "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float", "Double", "Boolean", "String",
    "DateTime", "Text", "UUID", "Bytes",
]  # fmt: skip
Scalar: TypeAlias = "bool | int | float | str | bytes | None"
Kind: TypeAlias = Literal["signed", "unsigned", "float", "bool", "text", "bytes"]


class SparkplugError(SinkError, ValueError):
    """A name, value or payload that Sparkplug cannot carry, or the library for it is missing."""


@dataclass(frozen=True, slots=True)
class DataType:
    """number: in the metric's datatype. field: of the metric's value. bits: the width of an integer or a float."""

    number: int
    field: str
    kind: Kind
    bits: int = 0


DATA_TYPES: Final[dict[TypeName, DataType]] = {
    "Int8": DataType(1, "int_value", "signed", 8),
    "Int16": DataType(2, "int_value", "signed", 16),
    "Int32": DataType(3, "int_value", "signed", 32),
    "Int64": DataType(4, "long_value", "signed", 64),
    "UInt8": DataType(5, "int_value", "unsigned", 8),
    "UInt16": DataType(6, "int_value", "unsigned", 16),
    "UInt32": DataType(7, "int_value", "unsigned", 32),
    "UInt64": DataType(8, "long_value", "unsigned", 64),
    "Float": DataType(9, "float_value", "float", 32),
    "Double": DataType(10, "double_value", "float", 64),
    "Boolean": DataType(11, "boolean_value", "bool"),
    "String": DataType(12, "string_value", "text"),
    "DateTime": DataType(13, "long_value", "unsigned", 64),  # milliseconds since 1970, UTC
    "Text": DataType(14, "string_value", "text"),
    "UUID": DataType(15, "string_value", "text"),
    "Bytes": DataType(17, "bytes_value", "bytes"),
}

NAME_OF: Final[dict[int, TypeName]] = {one.number: name for name, one in DATA_TYPES.items()}


def to_wire(type_: TypeName, value: Scalar) -> bool | int | float | str | bytes:
    """The value as its field holds it. Raises SparkplugError for one of another kind or out of range.

    >>> to_wire("Int8", -1), to_wire("Int64", -1) == 2**64 - 1
    (255, True)
    """
    data_type = DATA_TYPES[type_]
    kind, bits = data_type.kind, data_type.bits
    if kind in ("signed", "unsigned") and isinstance(value, int) and not isinstance(value, bool):
        low = -(1 << bits - 1) if kind == "signed" else 0
        if low <= value < low + (1 << bits):
            return value & (1 << bits) - 1
    elif kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        if fits_float(value, bits):
            return float(value)
    elif kind == "text" and isinstance(value, str):
        if is_text(value):
            return value
    elif (kind == "bool" and isinstance(value, bool)) or (kind == "bytes" and isinstance(value, bytes)):
        return value
    raise SparkplugError(f"{str(value)[:80]!r} is no value of Sparkplug's type {type_}")


def from_wire(type_: TypeName, value: bool | int | float | str | bytes) -> Scalar:
    """The value that a field of this type holds; a signed integer of a wider field is cut to its own width.

    >>> from_wire("Int8", 255), from_wire("Int8", 2**32 - 1), from_wire("UInt8", 255)
    (-1, -1, 255)
    """
    data_type = DATA_TYPES[type_]
    if data_type.kind in ("signed", "unsigned") and isinstance(value, int):
        bits = data_type.bits
        value &= (1 << bits) - 1
        if data_type.kind == "signed" and value >> (bits - 1):
            value -= 1 << bits
    return value


def fits_float(value: float, bits: int) -> bool:
    """Whether a float of 32 or 64 bits can hold it, NaN and infinity included."""
    try:
        struct.pack("<f" if bits == 32 and math.isfinite(value) else "<d", value)
    except (OverflowError, struct.error):
        return False
    return True


def is_text(value: str) -> bool:
    """Whether it is valid Unicode, without half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
