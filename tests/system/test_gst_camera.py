"""Real GStreamer: test pictures, an H.264 file, a real RTSP server, sizes that change, pipelines that stall or fail."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rtsp_server import SYSTEM_PYTHON, RtspServer, require_rtsp_server

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources import open_camera
from edgeai.sources.addresses import parse_address
from edgeai.sources.gstreamer.boards import rtsp_pipeline
from edgeai.sources.gstreamer.parse import Element
from edgeai.sources.gstreamer.source import GstCamera
from edgeai.sources.request import CameraRequest
from edgeai.sources.settings import CaptureSettings, LoginSettings

pytestmark = pytest.mark.system

LIVE = "videotestsrc is-live=true ! video/x-raw,width={},height=48,framerate=20/1"
MAKE = """
import sys, gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
line = Gst.parse_launch(
    "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=162,height=90,framerate=10/1"
    " ! x264enc key-int-max=10 ! h264parse ! mp4mux ! filesink location=" + sys.argv[1])
line.set_state(Gst.State.PLAYING)
line.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
line.set_state(Gst.State.NULL)
"""


@pytest.fixture(scope="module", autouse=True)
def gstreamer():
    require_rtsp_server()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gst") / "clip.mp4"
    subprocess.run([SYSTEM_PYTHON, "-c", MAKE, str(path)], check=True, timeout=90)
    return path


def opened(pipeline, *, max_fps=None, realtime=False, **capture):
    request = CameraRequest("gate", realtime=realtime, max_fps=max_fps, capture=CaptureSettings(**capture))
    return open_camera(f"gst:{pipeline}", request=request)


@pytest.mark.parametrize("decode", ["decodebin", "qtdemux ! h264parse ! avdec_h264"])
def test_every_picture_of_a_file(clip, decode):
    """Of a width whose rows are padded in memory; the same pictures as by FFmpeg, but for its rounding of colours."""
    with opened(f"filesrc location={clip} ! {decode}") as source:
        frames = list(source)
    with open_camera(str(clip), stream="s") as other:
        theirs = list(other)
    assert len(frames) == len(theirs) == 30
    assert [frame.index for frame in frames] == list(range(30))
    assert np.diff([frame.time_s for frame in frames]) == pytest.approx(np.full(29, 0.1), abs=0.002)
    for ours, their in zip(frames, theirs, strict=True):
        assert ours.image.shape == their.image.shape == (90, 162, 3)
        assert np.abs(ours.image.astype(int) - their.image).mean() < 4
        ours.image[:] = 0  # pixels of its own


def test_a_live_pipeline_gives_pictures_until_it_is_told_to_end():
    source = opened(LIVE.format(64))
    assert source.live
    with source:
        frames = iter(source)
        times = [next(frames).time_s for _ in range(10)]
        assert times == sorted(times)
        threading.Timer(0.3, source.cancel).start()
        assert sum(1 for _ in frames) < 100


def test_a_rate_is_capped_before_a_picture_is_copied():
    with opened(LIVE.format(64), max_fps=5) as source:
        frames = iter(source)
        for _ in range(6):
            next(frames)
    assert source.capped >= 8


def test_opening_again_after_an_end(clip):
    source = opened(f"filesrc location={clip} ! decodebin")
    for _ in range(3):
        with source:
            assert next(iter(source)).index == 0
    with pytest.raises(SourceError, match="not open"):
        next(iter(source))


def test_what_cannot_be_opened_says_why(tmp_path):
    (tmp_path / "text.mp4").write_text("hello\n" * 1000)
    (tmp_path / "folder").mkdir()
    wrong = {
        f"filesrc location={tmp_path}/none.mp4 ! decodebin": (SourceMissingError, "No such file"),
        f"filesrc location={tmp_path}/folder ! decodebin": (SourceFormatError, "no plain file"),
        "filesrc location=/dev/zero ! decodebin": (SourceFormatError, "no plain file"),
        f"filesrc location={tmp_path}/text.mp4 ! decodebin": (SourceError, "decodebin|gave no picture"),
        "v4l2src device=/dev/video99": (SourceError, "v4l2src"),
        "nvarguscamerasrc": (SourceError, "no element 'nvarguscamerasrc'.*install the board's"),
        LIVE.format(64) + " ! h264parse": (SourceFormatError, "does not take"),
        "videotestsrc is-live=true pattern=nonsense": (SourceError, ""),
    }
    for pipeline, (kind, says) in wrong.items():
        began_s = time.monotonic()
        try:
            with opened(pipeline, open_s=3) as source:
                next(iter(source))
        except kind as error:
            import re

            assert re.search(says, str(error)), (pipeline, str(error))
            assert "\n" not in str(error)
        else:
            assert "nonsense" in pipeline, pipeline  # GStreamer takes its default then
        assert time.monotonic() - began_s < 30


def test_a_stall_is_an_error_in_its_time():
    with RtspServer(width_px=160, height_px=90, fps=10) as server:
        elements = rtsp_pipeline(parse_address(server.url), CameraRequest("s"), decoder="avdec_h264")
        source = GstCamera(elements, CameraRequest("s", capture=CaptureSettings(stall_s=1.5)))
        with source:
            frames = iter(source)
            for _ in range(5):
                assert next(frames).image.shape == (90, 160, 3)
            server.freeze()
            with pytest.raises(SourceError, match=r"no picture came for 1\.5 s|says"):
                list(frames)
            server.thaw()


def test_another_size_in_midstream():
    with RtspServer(width_px=160, height_px=90, fps=10) as server:
        elements = rtsp_pipeline(parse_address(server.url), CameraRequest("s"), decoder="avdec_h264")
        with GstCamera(elements, CameraRequest("s")) as source:
            frames = iter(source)
            assert next(frames).image.shape == (90, 160, 3)
            server.resize(320, 180)
            sizes = set()
            deadline_s = time.monotonic() + 30
            while (180, 320, 3) not in sizes and time.monotonic() < deadline_s:
                sizes.add(next(frames).image.shape)
            assert (180, 320, 3) in sizes


def test_a_login_is_filled_in_and_never_told(monkeypatch):
    with RtspServer(width_px=160, height_px=90, user="u", password="s3cret word") as server:
        elements = (Element("rtspsrc", {"location": server.url, "protocols": "tcp"}), Element("decodebin"))
        for word, good in (("s3cret word", True), ("n0t it", False)):
            monkeypatch.setenv("CAMERA_WORD", word)
            login = LoginSettings(username="u", password_env="CAMERA_WORD")
            request = CameraRequest("s", login=login, capture=CaptureSettings(open_s=5))
            if good:
                with GstCamera(elements, request) as source:
                    assert next(iter(source)).image.size
            else:
                with pytest.raises(SourceError) as caught, GstCamera(elements, request) as source:
                    next(iter(source))
                assert word not in str(caught.value)
