"""RTSP cameras against a real server: what goes well, and what happens to cameras in the field."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import psutil
import pytest
from fault_suite.link import Link
from rtsp_damage import DamagingLink
from rtsp_server import RtspServer, age_ms, read_mark, require_rtsp_server

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import parse_address
from edgeai.sources.capture import Capture
from edgeai.sources.request import CameraRequest
from edgeai.sources.rtsp import RtspCamera
from edgeai.sources.settings import CaptureSettings, LoginSettings

pytestmark = pytest.mark.system

SMALL = {"width_px": 320, "height_px": 180}
PASSWORD = "p@ss:w/rd?&%é"


@pytest.fixture(autouse=True)
def _server_is_installed():
    require_rtsp_server()


@pytest.fixture(scope="module")
def server():
    """A camera that nobody does any harm."""
    require_rtsp_server()
    with RtspServer(**SMALL) as running:
        yield running


def camera(
    url: str, *, login: LoginSettings | None = None, max_fps: float | None = None, expect=None, **capture
):
    settings = CaptureSettings(**{"stall_s": 2.0, "open_s": 10.0} | capture)
    request = CameraRequest(
        "gate", max_fps=max_fps, capture=settings, login=login, expect=expect or (lambda _: None)
    )
    return RtspCamera(parse_address(url), request)


def frames_of(source, count: int):
    return list(itertools.islice(source, count))


def fault(source) -> SourceError:
    with pytest.raises(SourceError) as caught, source:
        for _ in source:
            pass
    assert "\n" not in str(caught.value)
    return caught.value


def test_frames_are_whole_in_order_and_their_own(server):
    with camera(server.url) as source:
        assert source.live
        frames = frames_of(source, 20)
    marks = [read_mark(frame.image)[0] for frame in frames]
    assert marks == list(range(marks[0], marks[0] + 20))
    for before, after in itertools.pairwise(frames):
        assert after.index == before.index + 1
        assert after.time_s > before.time_s
    assert 0.5 < frames[-1].time_s - frames[0].time_s < 8  # 19 intervals of 1/15 s
    for frame in frames:
        assert frame.image.shape == (180, 320, 3)
        assert frame.stream == "gate"
        frame.image[:] = 0
    assert source.bad == source.capped == 0


def test_what_ffmpeg_gathered_at_opening_is_not_given(server):
    with camera(server.url) as source:
        first = next(iter(source))
    assert first.index > 0  # some were there, and old


def test_sound_beside_the_picture_is_left_alone():
    with RtspServer(**SMALL, audio=True) as server, camera(server.url) as source:
        assert len(frames_of(source, 10)) == 10


def test_a_camera_is_joined_between_key_frames():
    with RtspServer(**SMALL, key_frame_s=4) as slow, camera(slow.url) as other:
        frames_of(other, 5)
        with camera(slow.url) as source:
            assert len({read_mark(frame.image)[0] for frame in frames_of(source, 20)}) == 20


def test_mjpeg_and_another_size_within_one_connection():
    with RtspServer(**SMALL, codec="mjpeg") as server, camera(server.url) as source:
        frames = iter(source)
        assert next(frames).image.shape == (180, 320, 3) or next(frames).image.shape[1] == 320
        server.resize(640, 360)
        assert any(frame.image.shape[1] == 640 for frame in itertools.islice(frames, 60))


def test_a_cap_leaves_frames_out(server):
    with camera(server.url, max_fps=5) as source:
        frames = frames_of(source, 6)
    marks = [read_mark(frame.image)[0] for frame in frames]
    assert marks[-1] - marks[0] == pytest.approx(15, abs=2)
    assert source.capped >= 8


def test_a_source_tells_how_long_a_step_may_take(server):
    told: list[float] = []
    with camera(server.url, max_fps=1, expect=told.append) as source:
        frames_of(source, 2)
    assert len(told) > 12  # once a frame, those left out too
    assert set(told) <= {2.0}


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_users_and_passwords(digest, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text(PASSWORD)
    monkeypatch.setenv("WRONG", "hunter2")
    with RtspServer(**SMALL, user="gate keeper", password=PASSWORD, digest=digest) as server:
        right = LoginSettings(username="gate keeper", password_file=tmp_path / "secret")
        with camera(server.url, login=right) as source:
            assert len(frames_of(source, 2)) == 2
        wrong = LoginSettings(username="gate keeper", password_env="WRONG")
        error = fault(camera(server.url + "?token=hunter3", login=wrong))
        assert "refused (401)" in str(error)
        assert not any(secret in str(error) for secret in ("hunter", "gate keeper", "token"))
        assert "[cameras.login]" in str(fault(camera(server.url)))


def test_no_such_stream(server):
    error = fault(camera(server.url + "/nowhere"))
    assert type(error) is SourceMissingError
    assert "404" in str(error)


def test_nobody_there():
    error = fault(camera("rtsp://127.0.0.1:1/live"))
    assert type(error) is SourceMissingError
    assert "refused the connection" in str(error)


def test_a_frozen_camera_is_given_up_and_comes_back():
    with RtspServer(**SMALL) as server:
        source = camera(server.url, stall_s=1.0, open_s=2.0)
        with source:
            frames = iter(source)
            next(frames)
            server.freeze()
            began_s = time.monotonic()
            with pytest.raises(SourceError, match="gave no picture for 1 s"):
                list(frames)
            assert time.monotonic() - began_s < 20
        began_s = time.monotonic()
        assert "does not answer" in str(fault(source))  # it accepts connections, its kernel does
        assert time.monotonic() - began_s < 20
        server.thaw()
        _opens_again(source)


def _opens_again(source, limit_s: float = 60):
    """Its first frame, after it failed for a while."""
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            with source:
                return next(iter(source))
        except SourceError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


def test_a_power_cut_and_another_camera_in_its_place():
    with RtspServer(**SMALL) as server:
        source = camera(server.url)
        with source:
            frames = iter(source)
            next(frames)
            server.kill()
            began_s = time.monotonic()
            with pytest.raises(SourceError, match="ended its stream"):
                list(frames)
            assert time.monotonic() - began_s < 20
        assert type(fault(source)) is SourceMissingError
        server.restart(width_px=480, height_px=272, fps=5)
        assert _opens_again(source).image.shape == (272, 480, 3)


def test_another_size_under_way_is_opened_anew():
    """OpenCV would stretch the new pictures to the old size."""
    with RtspServer(width_px=640, height_px=360) as server:
        source = camera(server.url)
        with source, pytest.raises(SourceError, match="changed its pictures"):
            for number, _ in enumerate(source):
                if number == 20:
                    server.resize(320, 180)
                assert number < 300
        with source:
            assert next(iter(source)).image.shape == (180, 320, 3)


def test_another_rate_under_way_is_nothing():
    with RtspServer(**SMALL) as server, camera(server.url) as source:
        frames = iter(source)
        next(frames)
        for fps in (4, 25):
            server.pace(fps)
            assert len(frames_of(frames, 12)) == 12


@pytest.mark.parametrize("damage", ["flip", "drop", "garble", "lie", "noise"])
def test_damaged_packets_end_nothing_but_their_frames(damage):
    """The camera is read on, or the connection is given up and the next one works; nothing else may happen."""
    with RtspServer(**SMALL) as server, DamagingLink(server.port, damage=damage, share=0.3, seed=7) as link:
        source = camera(server.url_through(link.port))
        with contextlib.suppress(SourceError), source:
            link.damage = None
            frames = iter(source)
            next(frames)
            link.damage = damage
            for frame in itertools.islice(frames, 60):
                assert frame.image.shape == (180, 320, 3)
        assert link.damaged
        link.damage = None
        assert _opens_again(source).image.shape == (180, 320, 3)


def test_a_camera_that_sends_nothing_but_damage_is_given_up():
    with (
        RtspServer(**SMALL) as server,
        DamagingLink(server.port, damage=None, share=1.0) as link,
        camera(server.url_through(link.port)) as source,
    ):
        frames = iter(source)
        next(frames)
        link.damage = "drop"
        with pytest.raises(SourceError):
            list(frames)


@pytest.mark.parametrize("mode", ["black hole", "half open", "cut"])
def test_links_that_fail_while_it_plays(mode):
    with RtspServer(**SMALL) as server, Link(server.port) as link:
        source = camera(server.url_through(link.port), stall_s=1.0, open_s=2.0)
        with source:
            frames = iter(source)
            next(frames)
            if mode == "half open":
                link.half_open()
            else:
                link.set(mode)
            began_s = time.monotonic()
            with pytest.raises(SourceError):
                list(frames)
            assert time.monotonic() - began_s < 20
        link.set("pass")
        _opens_again(source)


@pytest.mark.parametrize("mode", ["black hole", "accept then close", "cut"])
def test_links_that_fail_before_it_plays(mode, server):
    with Link(server.port, mode=mode) as link:
        began_s = time.monotonic()
        assert type(fault(camera(server.url_through(link.port), open_s=1.0))) is SourceMissingError
        assert time.monotonic() - began_s < 20


def test_over_udp():
    with RtspServer(**SMALL) as server:
        with camera(server.url, transport="udp") as source:
            frames = frames_of(source, 15)
            assert psutil.Process().net_connections("udp")
        assert read_mark(frames[-1].image)[0] > read_mark(frames[0].image)[0]


def test_a_camera_without_udp_says_so():
    with RtspServer(**SMALL, transports="tcp") as server:
        error = fault(camera(server.url, transport="udp"))
        assert 'transport = "tcp"' in str(error)


def test_a_camera_that_does_not_answer_keeps_no_other_from_opening(server):
    with Link(server.port, mode="black hole") as link:
        dead = camera(server.url_through(link.port), open_s=30)
        threads = [threading.Thread(target=lambda: fault(dead))]
        for thread in threads:
            thread.start()
        _wait_for(lambda: link.accepted)
        with camera(server.url) as source:
            next(iter(source))
        assert threads[0].is_alive()  # it was opened beside, not after
        dead.cancel()
        threads[0].join(20)
        assert not threads[0].is_alive()


def test_files_and_cameras_are_opened_side_by_side(server, tmp_path):
    """They want other options of FFmpeg's, which OpenCV takes from the environment."""
    from edgeai.sources.video_file import VideoFile

    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5.0, (32, 32))
    for _ in range(3):
        writer.write(_grey())
    writer.release()
    level = cv2.utils.logging.getLogLevel()
    faults: list[BaseException] = []

    def work(make, rounds):
        try:
            for _ in range(rounds):
                with make() as source:
                    next(iter(source))
        except BaseException as error:
            faults.append(error)

    makers = [
        (lambda: camera(server.url), 3),
        (lambda: camera(server.url, transport="udp"), 3),
        (lambda: VideoFile(tmp_path / "clip.avi", stream="s"), 30),
    ]
    threads = [threading.Thread(target=work, args=maker) for maker in makers]
    with camera(server.url):  # while one watches, the server takes nothing down
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert not faults
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == ""
    assert cv2.utils.logging.getLogLevel() == level


def _grey():
    import numpy as np

    return np.full((32, 32, 3), 90, np.uint8)


def test_a_reader_that_is_slow_gets_what_is_new():
    """The slot holds the newest; nothing piles up in FFmpeg or in the sockets while its taker sleeps."""
    with RtspServer(**SMALL) as server:
        capture = Capture(lambda _: camera(server.url), label="gate")
        capture.open()
        try:
            ages = []
            for _ in range(8):
                _wait_for(lambda: capture.ready)
                time.sleep(0.5)  # as a model that takes eight frames' time
                taken = capture.take()
                assert taken is not None
                ages.append(age_ms(taken.frame.image))
        finally:
            capture.close()
    # two intervals and some load of the machine; a queue of 0.5 s a turn would be seconds behind
    assert sorted(ages)[len(ages) // 2] < 700
    assert ages[-1] < 1500
    assert capture.dropped > 10


def test_opening_again_and_again_leaves_nothing_behind(server):
    me = psutil.Process()

    def use():
        with camera(server.url) as source:
            next(iter(source))

    use()
    before = me.num_fds(), me.num_threads()
    for _ in range(5):
        use()
        fault(camera(server.url + "/nowhere"))
    _wait_for(lambda: me.num_threads() <= before[1])
    assert me.num_fds() <= before[0]


def test_no_secret_and_no_library_reaches_the_terminal(tmp_path):
    """In a process of its own: OpenCV would print addresses, and FFmpeg every damaged frame."""
    (tmp_path / "secret").write_text("hunter2")
    code = """
import contextlib, sys
from edgeai.errors import SourceError
from edgeai.sources.addresses import parse_address
from edgeai.sources.request import CameraRequest
from edgeai.sources.rtsp import RtspCamera
from edgeai.sources.settings import CaptureSettings, LoginSettings
login = LoginSettings(username="hunter1", password_file=sys.argv[1])
for url in sys.argv[2:]:
    request = CameraRequest("s", capture=CaptureSettings(stall_s=1, open_s=4), login=login)
    with contextlib.suppress(SourceError), RtspCamera(parse_address(url), request) as source:
        for frame in source:
            if frame.index > 40:
                break
"""
    with (
        RtspServer(**SMALL, user="hunter1", password="hunter2") as server,
        RtspServer(**SMALL, user="x", password="y") as closed,
        DamagingLink(server.port, damage="flip", share=0.2) as link,
    ):
        urls = [
            server.url,
            server.url_through(link.port),
            closed.url,
            server.url + "?k=hunter3",
            "rtsp://127.0.0.1:1/",
        ]
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "secret"), *urls],
            check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_cancel_while_it_is_read(server):
    source = camera(server.url, stall_s=3)
    with source:
        frames = iter(source)
        next(frames)
        timer = threading.Timer(0.1, source.cancel)
        timer.start()
        for _ in frames:
            pass
        timer.join()
    with pytest.raises(SourceError, match="not open"):
        next(iter(source))


def test_no_rtsp_server_is_told():
    from http_camera_server import HttpCameraServer

    with HttpCameraServer(lambda end, _: end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        error = fault(camera(f"rtsp://127.0.0.1:{server.port}/x"))
    assert type(error) is SourceFormatError
    assert "no RTSP server" in str(error)


def _wait_for(happened, limit_s: float = 30) -> None:
    deadline_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)
