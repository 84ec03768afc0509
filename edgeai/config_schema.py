"""The JSON Schema of a device's configuration, for editors and validators: made from the classes that read it."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from edgeai.config import Config
from edgeai.docstrings import class_text, field_texts
from edgeai.types import JsonValue

SCHEMA_ID: Final = "urn:edgeai:schema:1:config"


def config_schema() -> dict[str, JsonValue]:
    """Draft 2020-12, in words that editors of earlier drafts understand too: no prefixItems, nothing beside a $ref.

    It takes whatever `edgeai.config` takes, and refuses unknown keys, wrong types and values out of range; what keys say of
    each other only `edgeai check` knows.
    """
    schema = Config.model_json_schema(mode="validation", schema_generator=_Generator)
    plain: dict[str, Any] = _plain(schema)
    plain["anyOf"] = [{"required": ["cameras"]}, {"required": ["microphones"]}]
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": SCHEMA_ID, **plain}


class _Generator(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        model = schema["cls"]
        texts = field_texts(model)
        made["title"] = model.__name__.removesuffix("Settings")
        made.pop("description", None)
        if text := class_text(model):
            made["description"] = text
        for name, field in made.get("properties", {}).items():
            if name in texts:
                field["description"] = texts[name]
            if "const" in field:  # what tells the kinds of a table apart is never left out
                field.pop("default", None)
                made["required"] = sorted({*made.get("required", ()), name})
            if isinstance(field.get("default"), dict) or field.get("default", ...) in (None, []):
                del field["default"]  # TOML has no null; and a table's defaults are those of its keys
        return made

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])  # a key that may be None is left out of the file


def _plain(value: Any) -> Any:
    """The same, its tuples of one type as lists of a length, its references alone in their object."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _plain(each) for key, each in value.items() if key != "discriminator"}
    if made.get("format") == "path":
        del made["format"]
    items = made.get("prefixItems")
    if isinstance(items, list) and all(each == items[0] for each in items):
        del made["prefixItems"]
        made["items"] = items[0]
    if "$ref" in made and len(made) > 1:
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made
