"""The command line in this process: output for people and machines, and one line for whatever is wrong."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import soundfile
import typer
from blob_bundle import picture, write_blob_bundle, write_walk
from broker import find_mosquitto
from tiny_bundle import write_keyword_bundle
from typer.main import get_command

import edgeai.cli.serve_command
from edgeai import console
from edgeai.cli.commands import app
from edgeai.console import run_app
from edgeai.errors import EdgeError


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A detector, a keyword model, a video of 40 frames, a sound file of 3 s, and a configuration with all of them."""
    folder = tmp_path_factory.mktemp("things")
    write_blob_bundle(folder / "blob")
    write_keyword_bundle(folder / "voice")
    write_walk(folder / "walk.avi")
    samples = np.random.default_rng(3).normal(0, 0.1, 48000)
    samples[16000:32000] *= 0.01
    soundfile.write(folder / "said.wav", samples, 16000)
    (folder / "device.toml").write_text(CONFIG)
    return folder


CONFIG = """\
device = "cam"
[[cameras]]
name = "gate"
source = "walk.avi"
model = "./blob"
realtime = false
rules = [{ kind = "track" }]
[[microphones]]
name = "hall"
source = "said.wav"
model = "./voice"
threshold = 0.4
"""


@pytest.fixture
def edgeai(things, capsys, monkeypatch):
    """edgeai(*arguments) -> (exit code, standard output, standard error), run in the folder of `things`."""
    monkeypatch.chdir(things)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["edgeai", *arguments])
        code = run_app(app, program="edgeai")
        return code, *capsys.readouterr()

    return run


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_detect_prints_one_json_line_a_frame(edgeai):
    code, out, err = edgeai("detect", "walk.avi", "--bundle", "blob", "--json")
    rows = lines(out)
    assert (code, err, len(rows)) == (0, "", 40)
    assert [row["frame"] for row in rows] == list(range(40))
    assert rows[-1]["time_s"] == pytest.approx(39 / 20, abs=0.01)
    (found,) = rows[-1]["detections"]
    assert (found["label"], found["track_id"]) == ("blob", 1)
    assert found["score"] == pytest.approx(1, abs=0.05)
    assert np.abs(np.subtract(found["box"], [48, 24, 64, 40])).max() <= 8
    assert "track_id" not in rows[0]["detections"][0]  # not yet confirmed


def test_detect_for_people(edgeai):
    code, out, err = edgeai("detect", "walk.avi", "--bundle", "./blob")
    assert code == 0
    assert "40 frames of walk.avi" in out
    assert ["blob", "40", "1"] in [line.split() for line in out.splitlines()]
    assert "ms a frame" in err


def test_detect_a_folder_of_pictures_of_any_size_into_a_video(edgeai, tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), picture(8))
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((100, 50, 3), np.uint8))
    video = tmp_path / "new" / "out.mp4"
    assert edgeai("detect", str(tmp_path), "-b", "blob", "--annotated", str(video), "--json")[0] == 0
    capture = cv2.VideoCapture(str(video))
    sizes = [image.shape for read, image in (capture.read(), capture.read(), capture.read()) if read]
    assert sizes == [(64, 64, 3)] * 2


def test_listen_prints_one_json_line_a_keyword(edgeai):
    code, out, err = edgeai("listen", "said.wav", "--bundle", "voice", "--threshold", "0.4", "--json")
    rows = lines(out)
    assert (code, err) == (0, "")
    assert rows
    assert all(set(row) == {"time_s", "keyword", "score", "start_s"} for row in rows)
    code, out, _ = edgeai("listen", "said.wav", "--bundle", "voice", "--threshold", "0.4")
    assert len(out.splitlines()) == len(rows)
    code, out, err = edgeai("listen", "said.wav", "--bundle", "voice", "--threshold", "0.999")
    assert (code, out, err) == (0, "", "no keyword was heard\n")


def test_run_prints_events_and_totals(edgeai):
    code, out, _ = edgeai("run", "device.toml", "--json")
    *events, summary = lines(out)
    assert code == 0
    assert {event["type"] for event in events} == {"track_started", "track_ended", "keyword"}
    assert {event["device"] for event in events} == {"cam"}
    assert summary["waiting"] == 0
    gate, hall = summary["streams"]
    assert gate["totals"]["tracks"]["started"] == 1
    assert (gate["name"], gate["frames"], gate["dropped"], gate["failed"]) == ("gate", 40, 0, "")
    assert gate["events"] + hall["events"] == len(events)
    code, out, err = edgeai("run", "device.toml")
    assert len(lines(out)) == len(events)  # events only: the table of totals is for people
    assert "gate" in err


def test_listen_and_run_hear_the_same(edgeai):
    heard = lines(edgeai("listen", "said.wav", "--bundle", "voice", "--threshold", "0.4", "--json")[1])
    events = [e for e in lines(edgeai("run", "device.toml", "--json")[1]) if e.get("type") == "keyword"]
    assert [{"time_s": round(e["time_s"], 3), **e["data"]} for e in events] == heard


def test_check(edgeai, things):
    code, out, err = edgeai("check", "device.toml", "--json", "--probe")
    report = json.loads(out)
    assert (code, err, report["ok"], report["probed"], report["warnings"]) == (0, "", True, True, [])
    assert [row["bundle"] for row in report["streams"]] == ["blob", "tiny-keyword"]
    (things / "later.toml").write_text(CONFIG.replace("walk.avi", "later.avi"))
    code, out, err = edgeai("check", "later.toml")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("edgeai: warning: camera gate: there is no ")
    code, out, err = edgeai("check", "later.toml", "--probe")
    assert (code, err.count("\n")) == (1, 1)
    assert "edgeai: error: camera gate: there is no video file" in err
    (things / "wrong.toml").write_text(CONFIG.replace('kind = "track"', 'kind = "track", classes = ["dog"]'))
    code, _, err = edgeai("check", "wrong.toml")
    assert (code, err) == (
        1,
        "edgeai: error: camera gate: rule 'tracks' names class 'dog', the model knows blob\n",
    )


def test_check_reads_the_password_file(edgeai, things):
    (things / "m.toml").write_text(CONFIG + '[mqtt]\nhost = "x"\nusername = "u"\npassword_file = "none"')
    code, _, err = edgeai("check", "m.toml")
    assert code == 2
    assert "password file" in err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("engines", "--bundle", "voice", "--runs", "5"), {"overhead_us"}),
        (
            ("pipeline", "walk.avi", "--bundle", "blob", "--frames", "20"),
            {
                "engine_ms",
                "frame_ms",
                "overhead_ms",
                "first_detection_s",
                "rss_per_camera_mb",
                "frame_age_ms",
            },
        ),
        (
            ("audio", "--bundle", "voice", "--seconds", "2"),
            {"cpu_percent", "chunk_ms", "frontend_us", "engine_us"},
        ),
        (("audio", "said.wav", "--bundle", "voice", "--seconds", "4"), {"cpu_percent"}),
        (("tracking", "--frames", "20"), {f"objects_{count}_ms" for count in (20, 50, 100, 500)}),
        pytest.param(
            ("mqtt", "--messages", "100"),
            {"durable_puts_per_s", "single_puts_per_s", "drain_per_s"},
            marks=[pytest.mark.system, pytest.mark.skipif(not find_mosquitto(), reason="no mosquitto here")],
        ),
    ],
)
def test_benches_share_one_frame(edgeai, arguments, names):
    code, out, _ = edgeai("bench", *arguments, "--json")
    report = json.loads(out)
    assert code == 0
    assert {"bench", "device", "versions", "results"} <= set(report)
    assert report["bench"] == arguments[0]
    rows = {row["name"]: row for row in report["results"]}
    assert names <= set(rows)
    for row in rows.values():
        assert set(row) in ({"name", "unit", "n", "value"}, {"name", "unit", "n", "p50", "p90", "p99"})
    code, out, _ = edgeai("bench", *arguments)
    assert code == 0
    assert all(name in out for name in names)


def test_bench_pipeline_counts_what_it_was_asked_for(edgeai):
    """60 frames of a video of 40: the rest from its beginning."""
    _, out, _ = edgeai(
        *("bench", "pipeline", "walk.avi", "-b", "blob", "--frames", "60", "--only", "overhead", "--json")
    )
    assert {row["n"] for row in json.loads(out)["results"]} == {60}


def test_other_commands_have_json_too(edgeai):
    for arguments in (("doctor",), ("bundle", "show", "blob"), ("bundle", "verify", "blob")):
        code, out, _ = edgeai(*arguments, "--json")
        assert code == 0
        assert len(lines(out)) == 1


def commands(group=None, path=()):
    group = group or get_command(app)
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [*commands()], ids=" ".join)
def test_every_help_shows_an_example(edgeai, path):
    code, out, _ = edgeai(*path, "--help")
    assert code == 0
    assert f"Example: edgeai {' '.join(path)}".strip() in " ".join(out.split())


GROUPS = ((), ("bench",), ("bundle",), ("engine",), ("mqtt",), ("outbox",), ("schema",))


@pytest.mark.parametrize(
    "path",
    [path for path in commands() if path not in GROUPS],
)
def test_every_command_has_json(edgeai, path):
    assert "--json" in edgeai(*path, "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("detect",), 2, "Missing argument"),
        (("detct",), 2, "No such command 'detct'"),
        (("detect", "walk.avi", "--nonsense"), 2, "No such option: --nonsense"),
        (("detect", "walk.avi", "--threads", "0"), 2, "--threads"),
        (("detect", "walk.avi", "--threshold", "7"), 2, "--threshold"),
        (("detect", "none.mp4", "-b", "blob"), 1, "there is no video file none.mp4"),
        (("detect", "device.toml", "-b", "blob"), 1, "device.toml is not a video that can be read"),
        (("detect", "rtsp://u:secret@h/", "-b", "blob"), 1, "holds a user or a password"),
        (("detect", "walk.avi", "-b", "none"), 1, "no bundle 'none'"),
        (("detect", "walk.avi", "-b", "voice"), 1, "a camera needs 'detect'"),
        (("detect", "walk.avi", "-b", "blob", "--engine", "plan"), 1, "no engine file 'plan'"),
        (("detect", "walk.avi", "-b", "blob", "--annotated", "device.toml/x.mp4"), 1, "no video can be written to"),
        (("listen", "none.wav", "-b", "voice"), 1, "no sound file 'none.wav'"),
        (("listen", "walk.avi", "-b", "voice"), 1, "cannot tell what kind of audio"),
        (("listen", "said.wav", "-b", "blob"), 1, "a microphone needs 'keyword'"),
        (("run", "none.toml"), 2, "no configuration at none.toml"),
        (("run", "."), 2, "is a folder"),
        (("check", "walk.avi"), 2, "walk.avi:"),
        (("bundle", "show", "none"), 1, "no bundle 'none'"),
        (("bundle", "verify", "device.toml"), 1, "is a file, a bundle is a folder"),
        (("bench", "audio", "mic", "-b", "voice"), 2, "a microphone cannot be measured"),
        (("bench", "audio", "none.wav", "-b", "voice"), 1, "no sound file"),
        (("bench", "pipeline", "none.avi", "-b", "blob"), 1, "there is no video file"),
        (("bench", "engines", "-b", "blob", "--runs", "0"), 2, "--runs"),
        (("bench", "engines", "-b", "blob", "--threads", "0"), 2, "--threads is '0', must be whole numbers from 1 to 64"),
        (("bench", "engines", "-b", "blob", "--instances", "2,2"), 2, "names a number twice"),
        (("bench", "engines", "-b", "blob", "--engine", "plan"), 1, "no engine file 'plan'"),
        (("bench", "engines", "-b", "blob", "--compare", "none.json"), 1, "none.json: cannot be read"),
        (("bench", "tracking", "--compare", "device.toml"), 1, "device.toml: no bench's JSON"),
        (("bench", "mqtt", "--host", "127.0.0.1", "--port", "1"), 1, "no broker answers at 127.0.0.1:1: "),
        (("bench", "mqtt", "--folder", "none"), 1, "nothing can be written in none"),
    ],
)  # fmt: skip
def test_wrong_arguments_get_one_line(edgeai, arguments, code, says):
    got, out, err = edgeai(*arguments)
    assert (got, out) == (code, "")
    assert err.count("\n") == 1, err
    assert err.startswith("edgeai: error: ")
    assert says in err
    assert "secret" not in err


@pytest.mark.parametrize("where", [(), ("bench",), ("bundle",)])
def test_no_arguments_is_help(edgeai, where):
    code, out, err = edgeai(*where)
    assert code in (0, 2)  # before click 8.2 it counts as asked for
    assert "Usage: edgeai" in out + err


def test_a_fault_of_ours_is_one_line_too(capsys, monkeypatch):
    faulty = typer.Typer()
    raised: list[Exception] = []

    @faulty.callback(invoke_without_command=True)
    def command() -> None:
        raise raised[0]

    monkeypatch.setattr("sys.argv", ["x"])
    for error, code, says in (
        (EdgeError("two\nlines", next_step="do"), 1, "x: error: two lines; do\n"),
        (OSError(28, "No space left on device", "a"), 1, "x: error: a: No space left on device\n"),
        (KeyError("k"), 70, "x: error: a fault of this program, KeyError: 'k'; please report it, with what EDGEAI_TRACEBACK=1 shows\n"),
    ):  # fmt: skip
        raised[:] = [error]
        assert run_app(faulty, program="x") == code
        assert capsys.readouterr().err == says
    monkeypatch.setenv("EDGEAI_TRACEBACK", "1")
    with pytest.raises(KeyError):
        run_app(faulty, program="x")


def test_json_on_a_terminal_without_unicode(monkeypatch):
    import io

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.print_json({"a": "é\udcff"})
    assert json.loads(raw.getvalue()) == {"a": "é\udcff"}


def test_tables_show_brackets(capsys):
    console.print_table(["a"], [["[bold]x[/bold]"]], title="[red]t")
    assert "[bold]x[/bold]" in (out := capsys.readouterr().out)
    assert "[red]t" in out
