"""The JSON Schema of a configuration: every key is explained, and editors are told what load_config would say."""

from __future__ import annotations

import json
import re
import sys
import typing

import jsonschema
import pytest
from pydantic import BaseModel

from edgeai.cli.commands import app
from edgeai.config import Config
from edgeai.config_schema import config_schema
from edgeai.console import run_app
from edgeai.data import find_data
from edgeai.docstrings import class_text, field_texts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def settings_classes():
    """Every class that Config reaches."""
    found: list[type[BaseModel]] = []

    def look(annotation):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found.append(annotation)
            for field in annotation.model_fields.values():
                look(field.annotation)
        for inner in typing.get_args(annotation):
            look(inner)

    look(Config)
    return found


CLASSES = settings_classes()
SCHEMA = config_schema()


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def test_many_classes_are_reached():
    assert {"Config", "CameraSettings", "LineSettings", "TlsSettings", "DailyBytes"} <= {
        each.__name__ for each in CLASSES
    }


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
def test_every_field_is_described_by_its_class(model):
    texts = field_texts(model)
    assert [name for name in model.model_fields if name not in texts] == []
    for text in (*texts.values(), class_text(model)):
        assert "\n" not in text
    assert all(len(text) > 3 and text.endswith(".") for text in texts.values()), texts


def test_the_schema_has_the_texts_titles_and_defaults():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == "urn:edgeai:schema:1:config"
    for table in (SCHEMA, *SCHEMA["$defs"].values()):
        assert table["title"]
        for name, field in table["properties"].items():
            assert field["description"], name
    capture = SCHEMA["$defs"]["CaptureSettings"]["properties"]
    assert (capture["stall_s"]["default"], capture["transport"]["enum"]) == (4.0, ["tcp", "udp"])
    assert capture["retry_max_s"]["description"] == capture["retry_s"]["description"]
    assert SCHEMA["properties"]["state_dir"]["default"] == "state"


def test_editors_of_earlier_drafts_understand_it():
    """Taplo reads by draft 7: it would not see what stands beside a $ref, nor prefixItems; and TOML has no null."""

    def look(value):
        if isinstance(value, dict):
            assert "$ref" not in value or len(value) == 1
            assert not {"prefixItems", "discriminator"} & set(value)
            assert value.get("type") != "null"
            assert value.get("default", 0) is not None
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    look(SCHEMA)


def test_the_examples_fit(validator):
    for path in sorted(find_data("firmware_configs", "examples").glob("*.toml")):
        assert [*validator.iter_errors(tomllib.loads(path.read_text()))] == [], path.name


CAMERA = '[[cameras]]\nname = "gate"\nsource = "gate.mp4"\nmodel = "m"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "threads = 1",
        "[[camera]]",
        CAMERA + "fps = 3",
        CAMERA.replace('name = "gate"', 'name = "a b"'),
        CAMERA.replace('name = "gate"', "name = 3"),
        CAMERA.replace('model = "m"\n', ""),
        CAMERA + "max_fps = 0",
        CAMERA + 'realtime = "yes"',
        CAMERA + 'capture = { transport = "http" }',
        CAMERA + "capture = { stall = 3 }",
        CAMERA + 'login = { username = "u", password = "p" }',
        CAMERA + 'login = { password_file = "p" }',
        CAMERA + "motion = { threshold = 0 }",
        CAMERA + "motion = true",
        CAMERA + 'rules = [{ kind = "lines", name = "d", a = [0, 0], b = [1, 1] }]',
        CAMERA + 'rules = [{ name = "d", a = [0, 0], b = [1, 1] }]',
        CAMERA + 'rules = [{ kind = "line", name = "d", a = [0, 0], b = [1, 2] }]',
        CAMERA + 'rules = [{ kind = "line", name = "d", a = [0, 0], b = [1] }]',
        CAMERA + 'rules = [{ kind = "zone", name = "d", polygon = [[0, 0], [1, 1]] }]',
        CAMERA + 'rules = [{ kind = "track", a = [0, 0] }]',
        CAMERA + "[mqtt]",
        CAMERA + '[mqtt]\nhost = "h"\nport = 0',
        CAMERA + "[mqtt]\nhost = 'h'\n[mqtt.sparkplug]",
        CAMERA + '[[sinks]]\nkind = "files"\nname = "x"',
        CAMERA + '[[sinks]]\nkind = "file"\nname = "x"',
        CAMERA + "[metrics]\nport = 70000",
        CAMERA + '[log]\nformat = "xml"',
        CAMERA + "[watchdog]\nengine_s = 0",
        CAMERA + '[commands]\nallow = ["reboot"]',
    ],
)
def test_what_load_config_refuses_by_key_type_or_range_the_schema_refuses(validator, text):
    from edgeai.config import parse_config
    from edgeai.errors import ConfigError

    with pytest.raises(ConfigError):
        parse_config(text.encode(), find_data("firmware_configs") / "x.toml")
    assert not validator.is_valid(tomllib.loads(text))


def test_the_command_prints_it(capsys, monkeypatch):
    for more, lines in (((), None), (("--json",), 1)):
        monkeypatch.setattr("sys.argv", ["edgeai", "schema", "config", *more])
        assert run_app(app, program="edgeai") == 0
        out, err = capsys.readouterr()
        assert (json.loads(out), err) == (SCHEMA, "")
        assert lines is None or out.count("\n") == lines


class Base(BaseModel):
    """What all have. name: of the thing; kind: of which kind."""

    name: str
    kind: str


class Thing(Base):
    """A thing that has name: nothing. kind: its own text, with "quotes": and colons
    over lines.

    width, height: in pixels; depth and weight: not in pixels. Not a field: so a part of the text. width of it: too.
    """

    width: int
    height: int
    depth: int
    weight: int
    untold: int = 0


def test_docstrings_are_read_by_their_form():
    texts = field_texts(Thing)
    assert class_text(Thing) == "A thing that has name: nothing."
    assert texts["name"] == "Of the thing."
    assert texts["kind"] == 'Its own text, with "quotes": and colons over lines.'
    assert texts["width"] == texts["height"] == "In pixels."
    assert texts["depth"] == texts["weight"]
    assert texts["depth"] == "Not in pixels. Not a field: so a part of the text. width of it: too."
    assert "untold" not in texts


def test_the_example_of_cameras_explains_every_key_of_a_camera():
    """In use or behind a #, with a comment; once, but for those that tell cameras and rules apart."""
    from edgeai.config import CameraSettings, MetricsSettings
    from edgeai.sources.settings import CaptureSettings, LoginSettings
    from edgeai.stages.motion import MotionSettings

    text = find_data("firmware_configs", "examples", "cameras.toml").read_text()
    used = [re.match(r"(?:# )?(\w+) = |# (\w+) = \{|# \w+ = \{ (\w+)", line) for line in text.splitlines()]
    keys = [found[1] or found[2] for found in used if found] + re.findall(r"\{ (\w+) = ", text)
    tables = re.findall(r"\[+cameras\.(\w+)\]", text)
    for model in (CameraSettings, CaptureSettings, LoginSettings, MotionSettings, MetricsSettings):
        for name in model.model_fields:
            assert name in keys or name in tables, name
    for model in (CaptureSettings, LoginSettings, MotionSettings):
        assert not [name for name in model.model_fields if keys.count(name) > 1 and name != "threshold"]
