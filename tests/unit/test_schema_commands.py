"""`edgeai schema` for people and for machines."""

import json

import pytest

from edgeai.cli.commands import app
from edgeai.console import run_app
from edgeai.sinks.schemas import SCHEMAS, TOPICS


@pytest.fixture
def edgeai(capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["edgeai", "schema", *arguments])
        code = run_app(app, program="edgeai")
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_table_names_every_message(edgeai):
    code, out, err = edgeai("events")
    assert (code, err) == (0, "")
    assert all(name in out for name in SCHEMAS)


def test_json_is_all_schemas_or_the_one_that_is_named(edgeai):
    assert json.loads(edgeai("events", "--json")[1]) == SCHEMAS
    for more in ((), ("--json",)):
        assert json.loads(edgeai("events", "--type", "line_crossed", *more)[1]) == SCHEMAS["line_crossed"]
    assert edgeai("events", "--type", "zone_left", "--json")[1].count("\n") == 1


def test_an_unknown_type_is_one_line(edgeai):
    code, out, err = edgeai("events", "--type", "line_crosed")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "did you mean 'line_crossed'" in err


def test_topics(edgeai):
    told = json.loads(edgeai("topics", "--json")[1])
    assert [one["topic"] for one in told] == [one.topic for one in TOPICS]
    out = edgeai("topics")[1]
    assert "image/jpeg" in out
    assert "cmd/<name>" in out
