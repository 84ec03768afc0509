"""The command as a process: start-up, closed pipes, signals, full disks, and one line for each thing that is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from blob_bundle import picture, write_blob_bundle, write_walk
from broker import free_port

pytestmark = pytest.mark.system

EDGEAI = (sys.executable, "-m", "edgeai")
LIMIT_S = 60


def edgeai(*arguments, cwd, **options):
    return subprocess.run(
        [*EDGEAI, *arguments], cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, **options
    )


def config(folder: Path, extra: str = "", **changes) -> Path:
    keys = {"source": "walk.avi", "model": "./blob", "realtime": False} | changes
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    path = folder / "device.toml"
    path.write_text(
        f'device = "cam"\n[[cameras]]\nname = "gate"\n{text}\nrules = [{{ kind = "track" }}]\n{extra}'
    )
    return path


@pytest.fixture
def place(tmp_path):
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi")
    return tmp_path


def test_version_imports_next_to_nothing(tmp_path):
    script = """
import json, sys
sys.argv = ["edgeai", "--version"]
from edgeai.cli import main
code = main()
print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=LIMIT_S,
    )
    version, loaded = done.stdout.splitlines()
    code, modules = json.loads(loaded)
    assert version.startswith("edgeai ")
    assert code == 0
    heavy = {
        "tensorflow",
        "keras",
        "torch",
        "scipy",
        "numpy",
        "cv2",
        "onnxruntime",
        "sounddevice",
        "ai_edge_litert",
    }
    assert not (heavy | {"typer", "rich", "pydantic"}) & set(modules)


def test_run_never_imports_what_trains(place):
    script = """
import json, sys
sys.argv = ["edgeai", "run", sys.argv[1], "--json"]
from edgeai.cli import main
code = main()
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(config(place))],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "cv2" in modules
    assert not {"tensorflow", "keras", "torch", "scipy", "onnxruntime", "sounddevice"} & modules


def truncated_bundle(place):
    model = place / "blob" / "model.tflite"
    model.write_bytes(model.read_bytes()[:900])
    return "blob/model.tflite: truncated, 900 of 1848 bytes; copy the bundle again"


def changed_byte(place):
    model = place / "blob" / "model.tflite"
    content = bytearray(model.read_bytes())
    content[700] ^= 1
    model.write_bytes(content)
    return "blob/model.tflite: changed, SHA-256 is "


def cut_manifest(place):
    manifest = place / "blob" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:200])
    return "not JSON"


def missing_video(place):
    (place / "walk.avi").unlink()
    return f"there is no video file {place / 'walk.avi'}"


def no_video(place):
    (place / "walk.avi").write_bytes(b"\0" * 5000)
    return f"{place / 'walk.avi'} is not a video that can be read"


@pytest.mark.parametrize("damage", [truncated_bundle, changed_byte, cut_manifest, missing_video, no_video])
def test_what_is_broken_gets_its_one_line(place, damage):
    says = damage(place)
    done = edgeai("run", str(config(place)), "--json", cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("edgeai: error: camera gate: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    done = edgeai("detect", "walk.avi", "--bundle", "./blob", cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("edgeai: error: ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_key_gets_its_one_line(place):
    path = config(place, sourse="x")
    done = edgeai("run", str(path), cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    says = "unknown key 'cameras.0.sourse'; did you mean 'source'?"
    assert done.stderr == f"edgeai: error: {path}:7: {says}\n"


def test_a_missing_video_beside_one_that_is_there(place):
    extra = '[[cameras]]\nname = "yard"\nsource = "none.avi"\nmodel = "./blob"\n'
    done = edgeai("run", str(config(place, extra)), "--json", cwd=place)
    assert done.returncode == 1
    streams = json.loads(done.stdout.splitlines()[-1])["streams"]
    assert [stream["frames"] for stream in streams] == [40, 0]
    assert "there is no video file" in streams[1]["failed"]
    assert done.stderr.count("there is no video file") == 1


def test_an_outbox_that_cannot_be_written(place):
    (place / "file").write_text("")
    extra = f'[mqtt]\nhost = "127.0.0.1"\nport = {free_port()}\n'
    path = config(place, extra)
    path.write_text('state_dir = "file/state"\n' + path.read_text())
    done = edgeai("run", str(path), cwd=place)
    assert done.returncode == 1
    assert done.stderr == (
        f"edgeai: error: state_dir {place}/file/state cannot be made: Not a directory; "
        "name a folder that can be written\n"
    )


@pytest.mark.parametrize("command", ["run", "detect"])
def test_a_pipe_that_is_closed_is_quiet(place, command):
    """As with `| head -1`."""
    write_walk(place / "walk.avi", frames=400)
    first = (
        ["run", str(config(place))] if command == "run" else ["detect", "walk.avi", "-b", "./blob", "--json"]
    )
    with subprocess.Popen(
        [*EDGEAI, *first], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(LIMIT_S) == 0
    assert "Error" not in errors
    assert "Traceback" not in errors
    assert "Broken pipe" not in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("realtime", [True, False])
def test_a_signal_ends_a_run_in_order(place, number, realtime):
    write_walk(place / "walk.avi", frames=3000 if realtime else 30_000)
    with subprocess.Popen(
        [*EDGEAI, "run", str(config(place, realtime=realtime)), "--json"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = json.loads(process.stdout.readline())
        assert first["type"] == "track_started"
        process.send_signal(number)
        rest = [json.loads(line) for line in process.stdout.read().splitlines()]
        errors = process.stderr.read()
        assert process.wait(LIMIT_S) == 0, errors
    assert [event["type"] for event in rest[:-1]] == ["track_ended"]
    (report,) = rest[-1]["streams"]
    assert report["failed"] == ""
    assert 0 < report["frames"] < 30_000
    assert "Traceback" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [("doctor", "--json"), ("bundle", "show", "./blob"), ("--help",)])
def test_a_full_disk_is_one_line(place, arguments):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*EDGEAI, *arguments],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    assert done.returncode == 1
    assert done.stderr == "edgeai: error: No space left on device\n"


def test_file_names_that_are_no_text(place):
    """OpenCV dies of them."""
    name = os.fsdecode(b"w\xff.avi")
    (place / "walk.avi").rename(place / name)
    for arguments in ((name,), ("blob.png", "--annotated", name)):
        (place / "blob.png").write_bytes(cv2.imencode(".png", picture(8))[1].tobytes())
        done = edgeai("detect", *arguments, "-b", "./blob", cwd=place)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert r"w\udcff.avi" in done.stderr
