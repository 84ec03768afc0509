"""Cameras in `edgeai run`: real RTSP servers that are cut, frozen, changed and damaged, four of them on one engine."""

from __future__ import annotations

import time

import pytest
from blob_bundle import write_blob_bundle
from device_run import DeviceRun
from rtsp_damage import DamagingLink
from rtsp_server import RtspServer, require_rtsp_server

pytestmark = pytest.mark.system

HEAD = """\
device = "cam"
[health]
every_s = 1
[engines]
workers = 1
"""
CAMERA = """
[[cameras]]
name = "{name}"
source = "{url}"
model = "./blob"
{more}
[cameras.capture]
stall_s = {stall_s}
retry_s = 0.5
retry_max_s = 2
"""


def camera(name, url, more="", stall_s=2):
    return CAMERA.format(name=name, url=url, more=more, stall_s=stall_s)


@pytest.fixture
def folder(tmp_path):
    require_rtsp_server()
    write_blob_bundle(tmp_path / "blob")
    return tmp_path


def states(health):
    return {name: each["state"] for name, each in health["streams"].items()}


def test_four_cameras_on_one_engine_one_cut_one_frozen(folder):
    """What happens to one is told, mended, and felt by no other."""
    names = ["cut", "frozen", "steady", "slow"]
    servers = {
        name: RtspServer(width_px=320, height_px=180, fps=5 if name == "slow" else 10) for name in names
    }
    for server in servers.values():
        server.__enter__()
    try:
        config = HEAD + "".join(camera(name, servers[name].url) for name in names)
        with DeviceRun(config, folder) as device:
            for name in names:
                device.wait_for(lambda name=name: device.frames(name) > 5, f"frames of {name}")
            servers["cut"].kill()
            servers["frozen"].freeze()
            for name in ("cut", "frozen"):
                lost = device.wait_event("camera_lost", name)
                assert lost["data"]["reason"]
            before = device.next_health()
            device.wait_frames("steady", 15)
            after = device.next_health()
            assert states(after) == {"cut": "lost", "frozen": "lost", "steady": "running", "slow": "running"}
            for name in ("steady", "slow"):
                assert (
                    after["streams"][name]["dropped"]["too_fast"]
                    - before["streams"][name]["dropped"]["too_fast"]
                    <= 2
                )
            servers["cut"].start()
            servers["frozen"].thaw()
            for name in ("cut", "frozen"):
                back = device.wait_event("camera_back", name)
                assert back["data"]["lost_s"] > 0
                assert back["data"]["connections"] == 2
                device.wait_frames(name, 5)
            assert not device.of("camera_lost", "steady") + device.of("camera_lost", "slow")
        assert device.process.returncode == 0
        assert "Traceback" not in device.logs
        # once when lost, once when back
        assert device.logs.count("camera cut: lost") == device.logs.count("camera cut: back") == 1
    finally:
        for server in servers.values():
            server.__exit__()


def test_another_size_and_rate_and_damage(folder):
    with RtspServer(width_px=320, height_px=180, fps=10) as server, DamagingLink(server.port) as link:
        config = HEAD + camera("gate", server.url) + camera("noise", server.url_through(link.port))
        with DeviceRun(config, folder) as device:
            for name in ("gate", "noise"):
                device.wait_for(lambda name=name: device.frames(name) > 5, f"frames of {name}")
            server.resize(480, 270)
            device.wait_frames("gate", 10)
            server.pace(5)
            device.wait_frames("gate", 10)
            link.damage = "flip"
            time.sleep(4)
            link.damage = None
            device.wait_frames("noise", 10)
            server.restart(width_px=640, height_px=360, fps=15)
            device.wait_event("camera_back", "gate")
            device.wait_frames("gate", 10)
        assert device.process.returncode == 0
        assert "Traceback" not in device.logs


def test_a_camera_that_is_not_there_yet_holds_up_nobody_and_no_secret_is_told(folder, monkeypatch):
    with RtspServer(width_px=320, height_px=180, user="u", password="s3cret-word") as server:
        login = '[cameras.login]\nusername = "u"\npassword_env = "CAMERA_WORD"\n'
        wrong = login.replace("CAMERA_WORD", "WRONG_WORD")
        config = HEAD + camera("right", server.url) + login + camera("wrong", server.url) + wrong
        with DeviceRun(config, folder, CAMERA_WORD="s3cret-word", WRONG_WORD="n0t-the-word") as device:
            device.wait_for(lambda: device.frames("right") > 5, "frames of the one that may")
            lost = device.wait_event("camera_lost", "wrong")
            assert lost["data"]["connections"] == 0
        assert device.process.returncode == 0
        told = device.logs + str(device.events)
        assert "s3cret" not in told
        assert "n0t-the" not in told
        assert "camera wrong: not there" in device.logs


def test_timed_stills_count_what_is_there_and_connect_for_each_alone(folder):
    with RtspServer(width_px=320, height_px=180, fps=10) as server:
        config = HEAD + camera("field", server.url) + "every_s = 4\nsettle_s = 0.5\n"
        with DeviceRun(config, folder) as device:
            device.wait_event("still_taken", "field", count=2)
            device.wait_for(lambda: server.clients() == 0, "a camera that sleeps")
            still = device.wait_event("still_taken", "field", count=3)
            assert set(still["data"]) == {"counts"}
            assert states(device.health()) == {"field": "running"}
        assert not device.of("camera_lost")
        assert device.process.returncode == 0


def test_the_rate_is_capped_and_that_is_told(folder):
    with RtspServer(width_px=320, height_px=180, fps=15) as server:
        config = HEAD + camera("gate", server.url, "max_fps = 3")
        with DeviceRun(config, folder) as device:
            device.wait_for(lambda: device.frames("gate") >= 9, "some frames")
            row = device.next_health()["streams"]["gate"]
            assert row["dropped"]["fps_cap"] > 2 * row["frames"]
            assert row["dropped"]["too_fast"] <= 1
