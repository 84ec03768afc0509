"""Words that the schemas are written in: a field is a JSON Schema with a description, and its unit where it has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from edgeai.types import JsonValue

Field: TypeAlias = dict[str, JsonValue]


def _field(kind: str, description: str, *, null: bool, more: Mapping[str, JsonValue]) -> Field:
    return {"type": [kind, "null"] if null else kind, "description": description, **more}


def text(description: str, *, null: bool = False, **more: JsonValue) -> Field:
    return _field("string", description, null=null, more=more)


def number(description: str, *, null: bool = False, **more: JsonValue) -> Field:
    return _field("number", description, null=null, more=more)


def count(description: str, *, null: bool = False, **more: JsonValue) -> Field:
    """A whole number from 0 up."""
    return _field("integer", description, null=null, more={"minimum": 0, **more})


def flag(description: str, *, null: bool = False) -> Field:
    return _field("boolean", description, null=null, more={})


def one_of(description: str, *values: JsonValue) -> Field:
    return {"enum": [*values], "description": description}


def record(description: str, fields: Mapping[str, Field], *, optional: tuple[str, ...] = ()) -> Field:
    """An object with these fields, all of them required but the optional ones. More fields may come with later versions."""
    return {
        "type": "object",
        "description": description,
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
    }


def table(description: str, value: Field) -> Field:
    """An object whose keys are names, all with values of one kind."""
    return {"type": "object", "description": description, "additionalProperties": value}


def listing(description: str, item: Field, **more: JsonValue) -> Field:
    return {"type": "array", "description": description, "items": item, **more}


def moment(description: str) -> Field:
    """A time in UTC, ISO 8601."""
    return text(description, format="date-time", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def unit(description: str) -> Field:
    """A number from 0 to 1."""
    return number(description, minimum=0, maximum=1)
