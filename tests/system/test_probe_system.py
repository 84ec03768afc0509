"""`edgeai check --probe` and `edgeai run --strict` against real RTSP cameras: one that plays, one that is frozen, one that
is away, one that refuses the password.
"""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import pytest
from blob_bundle import write_blob_bundle, write_walk
from rtsp_server import RtspServer, require_rtsp_server

pytestmark = pytest.mark.system

SECRET = "hunter2"
CAMERA = '[[cameras]]\nname = "{name}"\nsource = "{source}"\nmodel = "./blob"\ncapture = {{ open_s = 5 }}\n{more}\n'
LOGIN = 'login = { username = "viewer", password_file = "secret" }'


def edgeai(place, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "edgeai", *arguments],
        capture_output=True,
        text=True,
        cwd=place,
        timeout=120,
        check=False,
    )
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.fixture
def place(tmp_path):
    require_rtsp_server()
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi")
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def test_a_probe_tells_what_cameras_give_and_all_that_give_nothing(place):
    with (
        RtspServer(width_px=640, height_px=360, fps=15) as plays,
        RtspServer(user="viewer", password=SECRET) as locked,
        RtspServer(user="viewer", password="another") as refuses,
        RtspServer() as frozen,
        RtspServer() as away,
    ):
        frozen.freeze()
        away.kill()
        cameras = (
            ("plays", plays, ""),
            ("locked", locked, LOGIN),
            ("refuses", refuses, LOGIN),
            ("frozen", frozen, ""),
            ("away", away, ""),
        )
        (place / "device.toml").write_text(
            "".join(CAMERA.format(name=name, source=server.url, more=more) for name, server, more in cameras)
        )
        code, out, lines = edgeai(place, "check", "device.toml", "--json", "--snapshots", "pictures")
        frozen.thaw()
    told = json.loads(out)
    by_name = {each["name"]: each for each in told["streams"]}
    assert code == 1
    errors = [line for line in lines if line.startswith("edgeai: error: ")]
    assert [line.removeprefix("edgeai: error: camera ").partition(":")[0] for line in errors] == [
        "refuses",
        "frozen",
        "away",
    ]
    assert (by_name["plays"]["width_px"], by_name["plays"]["height_px"]) == (640, 360)
    assert by_name["plays"]["fps"] == pytest.approx(15, rel=0.3)
    assert 0 < by_name["plays"]["first_frame_s"] < 5
    assert by_name["locked"]["width_px"] == 640
    assert by_name["frozen"]["width_px"] is None
    assert sorted(path.name for path in (place / "pictures").iterdir()) == ["locked.jpg", "plays.jpg"]
    assert cv2.imread(str(place / "pictures" / "plays.jpg")).shape == (360, 640, 3)


def test_a_strict_run_names_every_camera_that_gives_no_picture(place):
    with RtspServer() as frozen, RtspServer() as away, RtspServer() as plays:
        frozen.freeze()
        away.kill()
        (place / "device.toml").write_text(
            "".join(
                CAMERA.format(name=name, source=server.url, more="")
                for name, server in (("frozen", frozen), ("away", away), ("plays", plays))
            )
        )
        before = sorted(place.rglob("*"))
        code, _, lines = edgeai(place, "run", "device.toml", "--strict")
        frozen.thaw()
    assert code == 1
    named = [line.partition(" ERROR ")[2] for line in lines if "(--strict)" in line]
    assert len(named) == 2
    assert named[0].startswith("camera frozen: no picture within 5 s")
    assert named[1].startswith("camera away: no picture within 5 s: ")
    assert "refused the connection" in named[1]
    assert sorted(place.rglob("*")) == before  # and nothing was written


def test_a_strict_run_does_not_begin_with_a_warning(place):
    (place / "device.toml").write_text(
        CAMERA.format(name="a", source="walk.avi", more="login = { username = 'u' }")
    )
    code, out, lines = edgeai(place, "run", "device.toml", "--strict")
    assert (code, out) == (2, "")
    assert lines[-1].startswith("edgeai: error: camera a: login does nothing")
    assert lines[-1].endswith("(--strict)")
    assert not (place / "state").exists()
