"""Real GStreamer: test pictures, an H.264 file, a real RTSP server, sizes that change, pipelines that stall or fail."""

from __future__ import annotations

import gc
import socket
import subprocess
import threading
import time
import wave
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from gstreamer_here import require_gstreamer
from rtsp_server import SYSTEM_PYTHON, RtspServer, require_rtsp_server

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources import open_camera
from edgeai.sources.addresses import parse_address
from edgeai.sources.gstreamer import boards
from edgeai.sources.gstreamer.bindings import load_gst
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
    "audiotestsrc num-buffers=150 ! audio/x-raw,rate=48000,channels=1 ! alawenc ! mux. "
    "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=162,height=90,framerate=10/1"
    " ! x264enc key-int-max=10 ! h264parse ! queue ! qtmux name=mux ! filesink location=" + sys.argv[1])
line.set_state(Gst.State.PLAYING)
line.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
line.set_state(Gst.State.NULL)
"""


@pytest.fixture(scope="module", autouse=True)
def gstreamer():
    require_rtsp_server()
    require_gstreamer()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """30 pictures, 10 a second, with sound."""
    path = tmp_path_factory.mktemp("gst") / "clip.mov"
    subprocess.run([SYSTEM_PYTHON, "-c", MAKE, str(path)], check=True, timeout=90)
    return path


def opened(pipeline, *, max_fps=None, realtime=False, **capture):
    request = CameraRequest("gate", realtime=realtime, max_fps=max_fps, capture=CaptureSettings(**capture))
    return open_camera(f"gst:{pipeline}", request=request)


@pytest.mark.parametrize(
    "decode",
    [
        "decodebin",
        "qtdemux ! h264parse ! avdec_h264",
        # a queue takes anything: the sound must not get there first
        "qtdemux ! queue ! h264parse ! avdec_h264",
        "parsebin ! queue ! avdec_h264",
    ],
)
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


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-VERSION:3\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n"
WRONG = {
    "filesrc location={}/none.mp4 ! decodebin": (SourceMissingError, "No such file"),
    "filesrc location={}/folder ! decodebin": (SourceFormatError, "no plain file"),
    "uridecodebin uri=file://{}/folder": (SourceFormatError, "no plain file"),
    "filesrc location=/dev/zero ! decodebin": (SourceFormatError, "no plain file"),
    "filesrc location={}/text.mp4 ! decodebin": (SourceError, "nothing on this machine for|says"),
    "filesrc location={}/sound.wav ! decodebin": (
        SourceFormatError,
        "decodebin gives no pictures, but audio",
    ),
    "filesrc location={}/sound.wav ! parsebin ! avdec_h264": (
        SourceFormatError,
        "parsebin gives no pictures, but audio",
    ),
    "filesrc location={}/list.m3u8 ! decodebin": (SourceFormatError, r"not followed, a playlist .*hls"),
    "uridecodebin uri=file://{}/list.m3u8": (SourceFormatError, r"not followed, a playlist .*hls"),
    "v4l2src device=/dev/video99": (SourceMissingError, "v4l2src says"),
    "nvarguscamerasrc": (SourceError, "no element 'nvarguscamerasrc'.*install the board's"),
    LIVE.format(64) + " ! h264parse": (SourceFormatError, "h264parse does not take what video/x-raw,"),
    "videotestsrc pattern=nonsense": (SourceFormatError, "pattern cannot be 'nonsense'; known are smpte"),
    "videotestsrc is-live=perhaps": (SourceFormatError, "is-live cannot be 'perhaps'; must be true or false"),
    "videotestsrc num-buffers=-2": (SourceFormatError, "must be a whole number from -1 to"),
    "videotestsrc ! videobalance hue=nan": (SourceFormatError, "must be a number from -1.0 to 1.0"),
    "rtspsrc location=rtsp://127.0.0.1:9/ protocols=tcp+pigeon": (SourceFormatError, "'tcp.pigeon'"),
    "rtspsrc location=rtsp://127.0.0.1:9/?token=s3cret ! decodebin": (SourceError, "rtspsrc says"),
    "souphttpsrc location=http://127.0.0.1:9/s3cret ! decodebin": (SourceError, "souphttpsrc says"),
    "uridecodebin uri=http://127.0.0.1:9/s3cret": (SourceError, "souphttpsrc says"),
    "videotestsrc num-buffers=0": (SourceFormatError, "ended without a picture"),
    "udpsrc port=0 caps=application/x-rtp,media=video ! rtph264depay ! avdec_h264": (
        SourceError,
        "no picture within 2 s",
    ),
}


@pytest.mark.parametrize("pipeline", WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_opened_says_why(pipeline, tmp_path):
    (tmp_path / "text.mp4").write_text("hello\n" * 1000)
    (tmp_path / "list.m3u8").write_text(HLS.format("file:///etc/hostname"))
    (tmp_path / "folder").mkdir()
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(32000))
    kind, says = WRONG[pipeline]
    source = opened(pipeline.format(tmp_path), open_s=2)
    began_s = time.monotonic()
    with pytest.raises(kind, match=says) as caught, source:
        pass
    assert time.monotonic() - began_s < 30
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SourceError, match="not open"):
        next(iter(source))


def test_a_playlist_opens_nothing(tmp_path):
    """Whoever wrote it: neither what it names on this machine nor on another."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.5)
    (tmp_path / "list.m3u8").write_text(HLS.format(f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"))
    with server:
        with (
            pytest.raises(SourceFormatError, match="playlist"),
            opened(f"filesrc location={tmp_path}/list.m3u8 ! decodebin"),
        ):
            pass
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_live_stream_that_ends_is_lost():
    with opened("videotestsrc is-live=true num-buffers=5 ! video/x-raw,framerate=20/1") as source:
        with pytest.raises(SourceError, match="the stream has ended"):
            list(source)
        source.close()
        source.close()


def test_closed_in_the_middle_a_live_stream_just_ends():
    with opened(LIVE.format(64)) as source:
        frames = iter(source)
        next(frames)
        source.close()
        assert list(frames) == []


def test_a_cancel_ends_an_opening():
    source = opened("udpsrc port=0 caps=application/x-rtp,media=video ! rtph264depay ! avdec_h264", open_s=60)
    threading.Timer(0.3, source.cancel).start()
    began_s = time.monotonic()
    with pytest.raises(SourceError, match="given up"):
        source.open()
    assert time.monotonic() - began_s < 20


def test_pictures_of_another_size_in_one_file(tmp_path, caplog):
    """Each as large as it is, and what was changed is told once."""
    for number, size in enumerate(((40, 30), (40, 30), (33, 21), (64, 48))):
        picture = np.full((size[1], size[0], 3), 50 * number, np.uint8)
        picture[:, -1] = 255
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    pictures = {"location": str(tmp_path / "%d.png"), "caps": "image/png,framerate=1/1", "stop-index": "3"}
    caplog.set_level("INFO", logger="edgeai")
    source = GstCamera((Element("multifilesrc", pictures), Element("pngdec")), CameraRequest("s"))
    source.live = False
    with source:
        frames = list(source)
    assert [frame.image.shape for frame in frames] == [(30, 40, 3), (30, 40, 3), (21, 33, 3), (48, 64, 3)]
    for number, frame in enumerate(frames):
        assert (frame.image[:, :-1] == 50 * number).all()
        assert (frame.image[:, -1] == 255).all()
    assert len([line for line in caplog.messages if "33 x 21 now, were 40 x 30" in line]) == 1


def test_played_at_its_own_speed(clip):
    with opened(f"filesrc location={clip} ! decodebin", realtime=True) as source:
        began_s = time.monotonic()
        assert len(list(source)) == 30
        assert time.monotonic() - began_s > 2.5


def test_with_pythons_overrides_for_gstreamer(clip, monkeypatch):
    """python3-gst-1.0, which many boards have, makes some calls raise that return here."""
    core = load_gst().core
    make, link = core.ElementFactory.make, core.Pad.link

    def makes(name, title=None):
        element = make(name, title)
        if element is None:
            raise RuntimeError("No such element")
        return element

    def links(pad, other):
        if (result := link(pad, other)) != core.PadLinkReturn.OK:
            raise RuntimeError(result)
        return result

    monkeypatch.setattr(core.ElementFactory, "make", staticmethod(makes))
    monkeypatch.setattr(core.Pad, "link", links)
    with opened(f"filesrc location={clip} ! qtdemux ! h264parse ! avdec_h264") as source:
        assert len(list(source)) == 30
    with (
        pytest.raises(
            SourceFormatError, match="vp8dec does not take what qtdemux gives, which is video/x-h264"
        ),
        opened(f"filesrc location={clip} ! qtdemux ! vp8dec"),
    ):
        pass
    with pytest.raises(SourceError, match="no element 'nvarguscamerasrc'"), opened("nvarguscamerasrc"):
        pass


def test_opened_a_hundred_times_it_leaves_nothing_behind(clip):
    """Threads, files and memory: a camera that comes and goes for years."""
    process = psutil.Process()

    def turn(times):
        for _ in range(times):
            with opened(
                "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=100/1"
            ) as source:
                next(iter(source))
        gc.collect()
        return process.num_threads(), process.num_fds(), process.memory_info().rss

    turn(20)
    threads, files, memory = turn(20)
    for _ in range(3):  # a thread of GStreamer's pool may end a little later
        after = turn(20)
    assert after[0] <= threads + 3
    assert after[1] <= files + 3
    assert after[2] <= memory + (8 << 20)


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


def test_sound_and_data_beside_the_pictures_are_not_fetched():
    with RtspServer(width_px=160, height_px=90, fps=10, audio=True) as server:
        elements = rtsp_pipeline(parse_address(server.url), CameraRequest("s"), decoder="avdec_h264")
        with GstCamera(elements, CameraRequest("s")) as source:
            frames = iter(source)
            for _ in range(5):
                assert next(frames).image.shape == (90, 160, 3)


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_a_decoder_that_does_not_take_the_codec_leaves_it_to_the_processor(codec, caplog):
    """No board here: a decoder of the processor plays the hardware."""
    with RtspServer(width_px=160, height_px=90, fps=10, codec=codec) as server:
        for decoder in ("auto", "hardware"):
            request = CameraRequest("s", capture=CaptureSettings(decoder=decoder))
            source = boards.HardwareRtsp(parse_address(server.url), request, decoder="avdec_h264")
            if codec == "mjpeg" and decoder == "hardware":
                with pytest.raises(
                    SourceError, match="avdec_h264 does not take what parsebin gives, which is image/jpeg"
                ):
                    source.open()
                continue
            for _ in range(2):
                with source:
                    frames = iter(source)
                    for _ in range(3):
                        assert next(frames).image.shape[1] == 160
    said = [line for line in caplog.messages if "decoded in software" in line]
    assert len(said) == (codec == "mjpeg")


def test_a_camera_that_is_away_is_missing_through_a_hardware_decoder_too():
    source = boards.HardwareRtsp(
        parse_address("rtsp://127.0.0.1:9/live"), CameraRequest("s"), decoder="avdec_h264"
    )
    with pytest.raises(SourceMissingError, match="the camera rtsp://127"):
        source.open()
    source.close()


@pytest.mark.parametrize("word", ["s3cret word", '"s3cret\\@/:%', "s3crét"], ids=["plain", "signs", "accent"])
@pytest.mark.parametrize("place", ["login", "address", "properties", "uridecodebin"])
def test_a_login_is_filled_in_and_never_told(word, place, monkeypatch):
    with RtspServer(width_px=160, height_px=90, user="u", password=word) as server:
        text = {
            "login": f"rtspsrc location={server.url} ! decodebin",
            "address": "rtspsrc location="
            + server.url.replace("//", "//{username}:{password}@")
            + " ! decodebin",
            "properties": f"rtspsrc location={server.url} user-id={{username}} user-pw={{password}} ! decodebin",
            "uridecodebin": f"uridecodebin uri={server.url}",
        }[place]
        login = LoginSettings(username="u", password_env="CAMERA_WORD")
        request = CameraRequest("s", login=login, capture=CaptureSettings(open_s=20))
        monkeypatch.setenv("CAMERA_WORD", word)
        with open_camera(f"gst:{text}", request=request) as source:
            assert next(iter(source)).image.size
        monkeypatch.setenv("CAMERA_WORD", f"not {word}")
        with (
            pytest.raises(SourceError, match=r"look at \[cameras.login\]") as caught,
            open_camera(f"gst:{text}", request=request),
        ):
            pass
        assert "s3cr" not in str(caught.value)
