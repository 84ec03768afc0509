"""The JSON Schema of a configuration and pydantic agree: what is taken fits, and common faults are faults to both."""

from __future__ import annotations

import copy
import json

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeai.config import Config
from edgeai.config_schema import config_schema

SCHEMA = config_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# strings that mean something: others are refused for reasons that no schema knows
TEXTS = {
    "source": ["gate.mp4", "rtsp://camera/live", "usb:0", "csi:1", "gst:videotestsrc", "mic", "said.wav"],
    "windows": ["05:30-06:30", "23:00-01:00"],
    "pin_sha256": ["0" * 64],
    "url": ["https://example.com/in", "http://localhost/"],
    "host": ["broker", "127.0.0.1", "::1"],
    "ws_path": ["/mqtt"],
}
ODD = [True, 0, 1, -1, 3, 0.5, 2.0, 1e9, "", "x", "line", [], [1], [[0, 0], [1, 1]], {}, {"kind": "line"}]


def values(schema, name=""):
    """What fits a schema of the configuration's, mostly with few keys."""
    if "$ref" in schema:
        return st.deferred(lambda: values(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], name))
    if "allOf" in schema:
        return values(schema["allOf"][0], name)
    for several in ("oneOf", "anyOf"):
        if several in schema and "properties" not in schema:
            return st.one_of(*(values(each, name) for each in schema[several]))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if kind == "object":
        required = {key: values(schema["properties"][key], key) for key in schema.get("required", ())}
        optional = {
            key: values(each, key) for key, each in schema["properties"].items() if key not in required
        }
        some = st.sets(st.sampled_from(sorted(optional)), max_size=3) if optional else st.just(set())
        return some.flatmap(
            lambda keys: st.fixed_dictionaries(required | {key: optional[key] for key in sorted(keys)})
        )
    if kind == "array":
        least = schema.get("minItems", 0)
        return st.lists(
            values(schema["items"], name), min_size=least, max_size=min(schema.get("maxItems", 3), least + 2)
        )
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 100), 10**9))
    if kind == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = min(schema.get("maximum", schema.get("exclusiveMaximum", 1e6)), 1e6)
        return st.floats(low, high) | st.integers(int(low) + 1, max(int(low) + 1, int(high)))
    if name in TEXTS:
        return st.sampled_from(TEXTS[name])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text("abcdefgh", min_size=max(1, schema.get("minLength", 1)), max_size=8)


CAMERAS = st.lists(values(SCHEMA["$defs"]["CameraSettings"]), min_size=1, max_size=2)
DOCUMENTS = st.builds(
    lambda rest, cameras: {**rest, "cameras": cameras}, values({**SCHEMA, "anyOf": []}), CAMERAS
)


def places(value, path=()):
    """The path of everything in a document, itself left out."""
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield (*path, key)
        yield from places(inner, (*path, key))


def holder(document, path):
    for part in path[:-1]:
        document = document[part]
    return document


def takes(document):
    """Whether pydantic does, by the way that files take."""
    try:
        Config.model_validate_json(json.dumps(document), strict=True)
    except ValidationError:
        return False
    return True


taken = {True: 0, False: 0}


@given(DOCUMENTS, st.data())
def what_is_taken_fits(document, data):
    for _ in range(data.draw(st.integers(0, 2))):
        path = data.draw(st.sampled_from([*places(document)]))
        holder(document, path)[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    good = takes(document)
    taken[good] += 1
    if good:
        problem = next(VALIDATOR.iter_errors(document), None)
        assert problem is None, problem


def test_what_is_taken_fits():
    what_is_taken_fits()
    assert min(taken.values()) >= 10, f"too few of one kind to tell: {taken}"


@given(DOCUMENTS.filter(takes), st.data())
def test_a_key_that_nobody_knows_and_one_that_is_missing_are_faults_to_both(document, data):
    tables = [(), *(path for path in places(document) if isinstance(holder(document, (*path, "")), dict))]
    path = data.draw(st.sampled_from(tables))
    table = holder(document, (*path, ""))
    table["colour"] = 1
    assert not takes(document)
    assert not VALIDATOR.is_valid(document)
    del table["colour"]
    del document["cameras"][0][data.draw(st.sampled_from(["name", "source", "model"]))]
    assert not takes(document)
    assert not VALIDATOR.is_valid(document)


@given(DOCUMENTS.filter(takes), st.data())
def test_a_value_of_another_type_is_a_fault_to_both(document, data):
    path = data.draw(st.sampled_from([*places(document)]))
    before = holder(document, path)[path[-1]]
    kinds = {str: "x", bool: True, int: 1, float: 0.5, list: [], dict: {}}
    # a whole number is a number to both; JSON's 2.0 is an integer to a schema
    same = (
        {int, float} if isinstance(before, (int, float)) and not isinstance(before, bool) else {type(before)}
    )
    holder(document, path)[path[-1]] = data.draw(
        st.sampled_from([value for kind, value in kinds.items() if kind not in same])
    )
    assert not takes(document)
    assert not VALIDATOR.is_valid(document)
