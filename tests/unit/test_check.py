"""`edgeai check`: every fault and warning in one run, and what a probe tells of cameras."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from blob_bundle import write_blob_bundle, write_walk
from live_camera import LiveCamera, scene
from test_config import TYPOS

from edgeai import sources
from edgeai.cli.commands import app
from edgeai.cli.remarks import remark_on
from edgeai.config import load_config
from edgeai.console import run_app
from edgeai.data import find_data

CAMERA = '[[cameras]]\nname = "{name}"\nsource = "{source}"\nmodel = "./blob"\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a bundle and a video, and fake cameras behind csi:<index>."""
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cameras(monkeypatch):
    """cameras[index]: what csi:<index> opens."""
    made: dict[str, LiveCamera] = {}
    monkeypatch.setitem(sources.CAMERAS, "csi", lambda address, request: made[address.where])
    return made


@pytest.fixture
def check(place, capsys, monkeypatch):
    """check(text, *options) -> (exit code, standard output, lines of standard error)."""

    def run(text, *options):
        (place / "device.toml").write_text(text)
        monkeypatch.setattr("sys.argv", ["edgeai", "check", "device.toml", *options])
        code = run_app(app, program="edgeai")
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def camera(name="gate", source="walk.avi", more=""):
    return CAMERA.format(name=name, source=source) + more + "\n"


def test_every_typo_is_told_in_one_run(check):
    code, out, lines = check(TYPOS)
    assert (code, out) == (2, "")
    assert len(lines) == 13
    assert all(line.startswith("edgeai: error: device.toml:") for line in lines)
    code, out, again = check(TYPOS, "--json")
    told = json.loads(out)
    assert (code, told["ok"], again) == (2, False, lines)
    assert [f"edgeai: error: {each}" for each in told["faults"]] == lines


def test_a_file_that_is_something_else_does_not_flood(check):
    code, _, lines = check("".join(f"k{number} = 1\n" for number in range(1000)))
    assert (code, len(lines)) == (2, 101)
    assert lines[-1] == "edgeai: error: device.toml: and 900 faults more"


def test_the_faults_of_all_parts_are_told(check):
    code, _, lines = check(
        '[mqtt]\nhost = "h"\nusername = "u"\npassword_file = "none"\n[outbox]\nkey_file = "none"\n'
        + camera("a", more="rules = [{ kind = 'track', classes = ['dog'] }]")
        + camera("b").replace("./blob", "./none")
        + '[[microphones]]\nname = "hall"\nsource = "walk.avi"\nmodel = "./blob"\n'
    )
    assert code == 2
    parts = (
        "password file",
        "key file",
        "camera a: rule",
        "camera b: no bundle",
        "microphone hall: ",
        "microphone hall: ",
    )
    assert len(lines) == len(parts), lines
    for line, part in zip(lines, parts, strict=True):
        assert line.startswith("edgeai: error: ")
        assert part in line


WARNINGS = [
    ("usb", camera("a", "usb:7", 'capture = { transport = "udp" }'), "a: capture.transport does nothing: it is for rtsp sources (line 5)"),
    ("absent", camera("a", "later.avi"), "a: there is no "),
    ("absent device", camera("a", "usb:/dev/video93"), "a: there is no /dev/video93 now (line 3)"),
    ("size", camera(more="capture = { width = 640 }"), "capture.width does nothing: it is for usb and csi sources"),
    ("decoder", camera(more="capture = { decoder = 'software' }"), "capture.decoder does nothing: it is for rtsp sources"),
    ("loop", camera("a", "csi:0", "capture = { loop = true }"), "capture.loop does nothing: it is for video sources"),
    ("stall", camera("a", "csi:0", "capture = { fps = 0.5, stall_s = 1 }"), "capture.stall_s (1) is less than the 2 s between two pictures"),
    ("stills and motion", camera("a", "csi:0", "capture = { every_s = 60 }\nmotion = {}"), "motion has nothing to compare"),
    ("stills and line", camera("a", "csi:0", "capture = { every_s = 60 }\nrules = [{ kind = 'line', name = 'd', a = [0, 0], b = [1, 1] }]"), "rule d counts crossings, which takes video"),
    ("login of a file", camera(more="login = { username = 'u' }"), "login does nothing: it is for rtsp and http sources, this is video"),
    ("metrics", camera() + '[metrics]\nhost = "0.0.0.0"', "metrics.host: whoever reaches 0.0.0.0:19477"),
    ("same camera", camera("a", "csi:0") + camera("b", "csi:0"), "b: it has the source of camera a: only one of them can have it (line 8)"),
    ("same device", camera("a", "usb:0") + camera("b", "usb:/dev/video0"), "b: it has the source of camera a: only one"),
    ("usb by number", camera("a", "usb:0") + camera("b", "usb:1"), "b: the numbers of USB cameras may be others"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"), [each[1:] for each in WARNINGS], ids=[each[0] for each in WARNINGS]
)
def test_warnings(check, cameras, monkeypatch, text, says):
    cameras["0"] = LiveCamera([scene()])
    for kind in ("usb", "rtsp", "http"):
        monkeypatch.setitem(sources.CAMERAS, kind, lambda address, request: cameras["0"])
    code, out, lines = check(text)
    assert (code, "good" in out) == (0, True)
    assert any(line.startswith("edgeai: warning: ") and says in line for line in lines), lines
    code, out, strict = check(text, "--strict")
    assert (code, out) == (2, "")
    assert [each.replace("error", "warning", 1) for each in strict] == lines


@pytest.mark.parametrize(
    ("source", "secret"),
    [
        ("rtsp://h/live?user=u&password=hunter2", True),
        ("rtsp://h/user=u_password=hunter2_channel=1", True),
        ("http://h/video?TOKEN=hunter2", True),
        ("rtsp://h/live?api_key=hunter2", True),
        ("rtsp://h/live?user={username}&password={password}", False),
        ("rtsp://h/live?channel=1&subtype=0", False),
        ("rtsp://h/passage=3", False),
    ],
)
def test_a_password_in_an_address_is_a_warning_that_does_not_repeat_it(place, source, secret):
    (place / "device.toml").write_text(camera("a", source))
    said = [each.text for each in remark_on(load_config(place / "device.toml"))]
    assert ("looks like a secret" in " ".join(said)) == secret
    assert "hunter2" not in " ".join(said)


def test_the_same_stream_twice_is_a_warning(place):
    (place / "device.toml").write_text(
        camera("a", "rtsp://h/1") + camera("b", "rtsp://h/1") + camera("c", "rtsp://h/2")
    )
    said = [each.text for each in remark_on(load_config(place / "device.toml"))]
    assert said == [
        "camera b: it has the source of camera a: it is fetched and decoded twice; give one camera the rules of both"
    ]


def test_files_of_secrets(place):
    login = "[cameras.login]\nusername = 'u'\npassword_file = 'secret'\n"
    (place / "device.toml").write_text(camera("a", "rtsp://h/1", login) + "[outbox]\nkey_file = 'key'\n")

    def said():
        return [each.text for each in remark_on(load_config(place / "device.toml"))]

    assert said() == [f"camera a: there is no password file {place / 'secret'} now"]
    for name in ("secret", "key"):
        (place / name).write_text("hunter2")
        (place / name).chmod(0o644)
    assert said() == [
        f"outbox.key_file: every user of this device can read {place / 'key'}; chmod o-rw it",
        f"cameras.0.login.password_file: every user of this device can read {place / 'secret'}; chmod o-rw it",
    ]
    for name in ("secret", "key"):
        (place / name).chmod(0o640)
    assert said() == []


def test_an_environment_variable_that_is_not_set(place, monkeypatch):
    login = "[cameras.login]\nusername = 'u'\npassword_env = 'GATE_PASSWORD'\n"
    (place / "device.toml").write_text(camera("a", "rtsp://h/1", login))
    config = load_config(place / "device.toml")
    (said,) = remark_on(config)
    assert said.text == "camera a: the environment variable GATE_PASSWORD is not set here"
    monkeypatch.setenv("GATE_PASSWORD", "hunter2")
    assert remark_on(config) == []


def test_a_hardware_decoder_takes_a_device_that_has_one(check, monkeypatch):
    monkeypatch.setattr("edgeai.cli.host._profile", lambda: None)
    code, _, lines = check(camera("a", "rtsp://h/1", "capture = { decoder = 'hardware' }"))
    assert (code, len(lines)) == (1, 1)
    assert "camera a: this computer has no hardware decoder" in lines[0]


def test_stills_of_a_file_are_a_fault(check):
    code, _, lines = check(camera(more="capture = { every_s = 60 }"))
    assert (code, lines) == (
        1,
        [
            "edgeai: error: camera gate: capture.every_s is for cameras, its source is a file; leave it out, or name a camera"
        ],
    )


def test_strict_writes_in_state_dir_alone(check):
    text = (
        "[engines]\ncache = 'cache'\n[[sinks]]\nkind = 'file'\nname = 'log'\npath = 'events.jsonl'\n"
        + camera()
    )
    assert check(text)[0] == 0
    code, _, lines = check(text, "--strict")
    assert (code, len(lines)) == (2, 2)
    assert all("is not in state_dir" in line for line in lines)
    inside = text.replace("'cache'", "'state/cache'").replace("'events", "'state/events")
    assert check(inside, "--strict")[0] == 0


# --probe ---------------------------------------------------------------------------------------------------


def test_a_probe_tells_what_each_camera_gives(check, cameras):
    cameras["0"] = LiveCamera([scene(160, 120)], every_s=0.05)
    cameras["1"] = LiveCamera([scene(1920, 1080)], every_s=0.02)
    text = camera("yard-with-a-long-name", "csi:0") + camera("gate", "csi:1") + camera("film", "walk.avi")
    code, out, lines = check(text, "--probe")
    assert (code, lines) == (0, [])
    assert all(len(line) <= 80 for line in out.splitlines()[1:]), out  # the title holds the file's name
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["yard-with-a-long-name"][1] == "160x120"
    assert rows["gate"][1] == "1920x1080"
    assert cameras["0"].closed and cameras["1"].closed
    told = json.loads(check(text, "--probe", "--json")[1])
    yard, gate, film = told["streams"]
    assert told["probed"] is True
    assert (yard["width_px"], yard["height_px"], yard["source"]) == (160, 120, "csi:0")
    assert yard["fps"] == pytest.approx(20, rel=0.01)  # by the frames' own times
    assert film["fps"] == pytest.approx(20, rel=0.01)
    assert 0 < gate["first_frame_s"] < 30
    assert gate["engine"].startswith("tflite")
    assert gate["runs"].startswith("blob on tflite")


def test_every_source_that_fails_is_told_on_a_line(check, cameras):
    cameras["0"] = LiveCamera([scene()], missing="there is no camera 0")
    cameras["1"] = LiveCamera([scene()], hangs=0)
    cameras["2"] = LiveCamera([scene()])
    cameras["3"] = LiveCamera([scene()], fails=0)
    cameras["4"] = LiveCamera([np.zeros((0, 0, 3), np.uint8)])
    open_s = "capture = { open_s = 0.5 }"
    names = ("missing", "silent", "good", "broken", "damaged")
    text = "".join(camera(name, f"csi:{index}", open_s) for index, name in enumerate(names))
    code, out, lines = check(text, "--probe")
    assert code == 1
    assert [line.removeprefix("edgeai: error: ") for line in lines] == [
        "camera missing: there is no camera 0",
        "camera silent: it gave no picture within 0.5 s (capture.open_s)",
        "camera broken: the cable was pulled",
        "camera damaged: it gave no picture within 0.5 s (capture.open_s): a picture must have 1 to 16384 pixels a side, this is 0 x 0",
    ]
    assert "good" in out  # its figures all the same


def test_what_is_odd_about_a_picture_is_a_warning(check, cameras):
    cameras["0"] = LiveCamera([np.zeros((120, 160, 3), np.uint8)])
    cameras["1"] = LiveCamera([np.full((120, 160, 3), (0, 135, 0), np.uint8)])
    cameras["2"] = LiveCamera([scene(160, 120)], every_s=0.1)
    cameras["3"] = LiveCamera([scene()], fails=2)
    text = (
        camera("black", "csi:0")
        + camera("green", "csi:1")
        + camera("other", "csi:2", "capture = { width = 640, height = 480, fps = 25 }")
        + camera("short", "csi:3")
    )
    code, _, lines = check(text, "--probe")
    assert code == 0
    said = [line.removeprefix("edgeai: warning: ") for line in lines]
    assert said[0] == "camera black: its picture is black: is the lens covered, is it night?"
    assert said[1].startswith("camera green: its picture is all of one colour")
    assert said[2] == "camera other: it gives 160x120, capture asks for 640x480"
    assert said[3] == "camera other: it gives 10.0 frames a second, capture asks for 25"
    assert said[4] == "camera short: it ended after 2 frames: the cable was pulled"
    code, _, lines = check(text, "--probe", "--strict")
    assert code == 2
    assert all(line.startswith("edgeai: error: ") for line in lines)


def test_snapshots_are_whole_files_in_their_folder(check, cameras, place):
    cameras["0"] = LiveCamera([np.full((120, 160, 3), 80, np.uint8), scene(160, 120)])
    cameras["1"] = LiveCamera([scene()], missing="there is no camera 1")
    text = camera("a.b", "csi:0") + camera("away", "csi:1")
    code, out, _ = check(text, "--snapshots", "pictures/new", "--json")
    assert code == 1
    assert [path.name for path in (place / "pictures/new").iterdir()] == ["a.b.jpg"]
    assert cv2.imread(str(place / "pictures/new/a.b.jpg")).shape == (120, 160, 3)
    assert json.loads(out)["streams"][0]["snapshot"] == "pictures/new/a.b.jpg"
    code, _, lines = check(text, "--snapshots", "walk.avi")
    assert code == 1
    assert any("walk.avi" in line for line in lines)


def test_a_snapshot_does_not_follow_a_link(check, cameras, place):
    cameras["0"] = LiveCamera([scene()])
    (place / "pictures").mkdir()
    (place / "other").write_text("mine")
    (place / "pictures" / "gate.jpg").symlink_to(place / "other")
    assert check(camera("gate", "csi:0"), "--snapshots", "pictures")[0] == 0
    assert (place / "other").read_text() == "mine"
    assert cv2.imread(str(place / "pictures/gate.jpg")) is not None


def test_the_examples_check_with_warnings_only(capsys, monkeypatch):
    for path in sorted(find_data("firmware_configs", "examples").glob("*.toml")):
        monkeypatch.setattr("sys.argv", ["edgeai", "check", str(path)])
        code = run_app(app, program="edgeai")
        _, err = capsys.readouterr()
        assert code == 0, err
        assert all(line.startswith("edgeai: warning: ") for line in err.splitlines())
