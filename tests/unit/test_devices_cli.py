"""`edgeai-devices`: the JSON that others rely on, one line for an error, sources shown."""

from __future__ import annotations

import json

import pytest

from devices.cli import NEVER_RUN, app
from edgeai.console import run_app


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["edgeai-devices", *arguments])
    return run_app(app, program="edgeai-devices")


def test_list_as_json(monkeypatch, capsys):
    assert run(monkeypatch, "list", "--json") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    profiles = json.loads(out)["profiles"]
    assert {tuple(row) for row in profiles} == {("name", "family", "sm", "precisions", "l4t", "unconfirmed")}
    nano = next(row for row in profiles if row["name"] == "jetson-nano")
    assert nano == {
        "name": "jetson-nano",
        "family": "jetson",
        "sm": 53,
        "precisions": ["float32", "float16"],
        "l4t": ["32.7.6"],
        "unconfirmed": ["formats", "cpu_cores"],
    }


def test_list_for_people_fits_80_columns(monkeypatch, capsys):
    assert run(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    assert "jetson-agx-orin-64gb" in out
    assert NEVER_RUN in out
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_show_gives_source_and_mark(monkeypatch, capsys):
    assert run(monkeypatch, "show", "jetson-thor-t4000") == 0
    out = capsys.readouterr().out
    assert NEVER_RUN in out
    assert "confirmed: OE4T/meta-tegra conf/machine/include/tegra264.inc" in out
    assert "unconfirmed, ask the board: formats, cpu_cores, ram_gb" in out


def test_show_as_json(monkeypatch, capsys):
    assert run(monkeypatch, "show", "x86", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["arch"]["value"] == "x86_64"
    assert set(shown["arch"]) == {"value", "source", "mark"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "jetson-nono"], 1, "did you mean 'jetson-nano'"),
        (["show", "/no/such.toml"], 1, "cannot be read"),
        (["show"], 2, "name"),
        (["fly"], 2, "fly"),
        (["list", "--jsn"], 2, "--jsn"),
    ],
)
def test_what_is_wrong_gets_one_line(monkeypatch, capsys, arguments, code, says):
    assert run(monkeypatch, *arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err
