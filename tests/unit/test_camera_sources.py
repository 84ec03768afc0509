"""Files of pictures: parts, loops, pace, and everything that is not a video."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest

from edgeai.clock import FakeClock
from edgeai.errors import EdgeError, SourceError, SourceFormatError, SourceMissingError
from edgeai.sources import CAMERAS, CameraRequest, open_camera
from edgeai.sources.addresses import Kind
from edgeai.sources.http_camera import HttpCamera
from edgeai.sources.image_folder import ImageFolder
from edgeai.sources.request import FpsCap
from edgeai.sources.rtsp import RtspCamera
from edgeai.sources.settings import CaptureSettings
from edgeai.sources.usb import UsbCamera
from edgeai.sources.video_file import VideoFile


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 frames at 5 a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5.0, (32, 32))
    for index in range(11):
        writer.write(np.full((32, 32, 3), 20 * index, np.uint8))
    writer.release()
    return path


def indexes(source) -> list[int]:
    with source:
        return [frame.index for frame in source]


def test_facts(clip):
    with VideoFile(clip, stream="s") as video:
        assert (video.fps, video.frame_count, video.width_px, video.height_px) == (5.0, 11, 32, 32)


@pytest.mark.parametrize("cut", [0.1, 0.25, 0.5, 0.77, 0.95])
def test_two_parts_are_the_whole(clip, cut):
    first, second = VideoFile(clip, stream="s", stop=cut), VideoFile(clip, stream="s", start=cut)
    assert indexes(first) + indexes(second) == list(range(11))


def test_a_part_is_never_empty(clip):
    assert indexes(VideoFile(clip, stream="s", start=0.5, stop=0.5001)) == [6]


def test_position_is_that_in_the_file(clip):
    with VideoFile(clip, stream="s", start=0.5) as video:
        frames = list(video)
    assert [frame.time_s for frame in frames] == pytest.approx([index / 5 for index in range(6, 11)])
    assert [round(frame.image.mean() / 20) for frame in frames] == [6, 7, 8, 9, 10]


def test_a_loop_runs_on_in_index_and_time(clip):
    with VideoFile(clip, stream="s", loop=True, start=0.5) as video:
        frames = list(itertools.islice(video, 13))
    assert [frame.index for frame in frames] == list(range(6, 19))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 5 for index in range(6, 19)])
    assert [round(frame.image.mean() / 20) for frame in frames] == [6, 7, 8, 9, 10] * 2 + [6, 7, 8]


def test_realtime_keeps_the_files_pace(clip):
    clock, times = FakeClock(), []
    with VideoFile(clip, stream="s", realtime=True, start=0.5, clock=clock) as video:
        for _ in video:
            times.append(clock.monotonic_s())
            clock.advance(0.05)
    assert times == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


def test_realtime_does_not_wait_for_what_is_late(clip):
    clock, times = FakeClock(), []
    with VideoFile(clip, stream="s", realtime=True, clock=clock) as video:
        for frame in video:
            times.append(clock.monotonic_s())
            clock.advance(1.0 if frame.index == 0 else 0.0)
    assert times == pytest.approx([0, 1, 1, 1, 1, 1, 1.2, 1.4, 1.6, 1.8, 2.0])


@pytest.mark.parametrize(("start", "stop"), [(0.5, 0.5), (-0.1, 1), (0, 1.1), (0.6, 0.5), (float("nan"), 1)])
def test_parts_that_are_none_are_refused(clip, start, stop):
    with pytest.raises(SourceError, match="0 <= start < stop <= 1"):
        VideoFile(clip, stream="s", start=start, stop=stop)


def test_a_cap_leaves_frames_out_by_their_times(clip):
    with VideoFile(clip, stream="s", max_fps=2.0) as video:
        frames = list(video)
    assert [frame.index for frame in frames] == [0, 3, 5, 8, 10]
    assert [round(frame.image.mean() / 20) for frame in frames] == [0, 3, 5, 8, 10]
    assert video.capped == 6


def test_a_capped_loop_keeps_its_pace_over_the_seam(clip):
    with VideoFile(clip, stream="s", max_fps=0.1, loop=True) as video:
        frames = list(itertools.islice(video, 4))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 9, 19, 29], abs=0.3)
    assert [frame.index for frame in frames] == [round(frame.time_s * 5) for frame in frames]


@pytest.mark.parametrize("given_fps", [1.0, 4.9, 5.0, 5.3, 10.0, 12.0, 29.97, 120.0])
@pytest.mark.parametrize("jitter_s", [0.0, 0.03])
def test_a_cap_gives_what_it_says(given_fps, jitter_s):
    cap, rng = FpsCap(5.0), np.random.default_rng(0)
    times = np.sort(
        np.arange(0, 60, 1 / given_fps) + rng.uniform(0, jitter_s, len(np.arange(0, 60, 1 / given_fps)))
    )
    taken = [time_s for time_s in times if cap.takes(time_s)]
    assert min(given_fps, 5.0) * 60 * 0.93 - 2 <= len(taken) <= 5.0 * 60 + 2


def test_cancel_ends_a_wait_for_a_frames_time(clip):
    with VideoFile(clip, stream="s", realtime=True, max_fps=0.1, loop=True) as video:
        frames = iter(video)
        next(frames)
        timer = threading.Timer(0.05, video.cancel)
        timer.start()
        assert list(frames) == []  # the next one is due in ten seconds
        timer.join()


def test_a_pipe_is_no_video_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with (
        pytest.raises(SourceFormatError, match="pipe or a device"),
        VideoFile(tmp_path / "pipe.mp4", stream="s"),
    ):
        pass


NOT_VIDEOS = {
    "empty.mp4": b"",
    "text.avi": b"hello\n" * 100,
    "noise.mp4": bytes(np.random.default_rng(0).integers(0, 256, 50_000, np.uint8)),
    "header.avi": b"RIFF\x00\x01\x00\x00AVI LIST",
    "list.m3u8": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n",
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_not_a_video_says_so(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_VIDEOS[name])
    with (
        pytest.raises(SourceFormatError, match=r"not a video|no frame") as caught,
        open_camera(str(tmp_path / name), stream="s"),
    ):
        pass
    assert "\n" not in str(caught.value)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=False, env=env, capture_output=True, text=True)


def test_libraries_below_keep_quiet(tmp_path, clip):
    """In a process of its own: the level is set before the first file is opened."""
    for name, content in NOT_VIDEOS.items():
        (tmp_path / name).write_bytes(content)
    data = clip.read_bytes()
    (tmp_path / "short.avi").write_bytes(data[: 2 * len(data) // 3])
    code = """
import contextlib, logging, pathlib, sys
logging.disable()
from edgeai.errors import SourceError
from edgeai.sources import open_camera
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    with contextlib.suppress(SourceError), open_camera(str(path), stream="s") as source:
        list(source)
"""
    done = run_python(code, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_file_is_missing(tmp_path):
    for path in (tmp_path / "no.mp4", tmp_path / "no" / "no.mp4"):
        with pytest.raises(SourceMissingError, match="no video file"), VideoFile(path, stream="s"):
            pass
    with pytest.raises(SourceMissingError, match="no video file"), VideoFile(tmp_path, stream="s"):
        pass


def test_a_truncated_video_gives_what_is_left_and_warns(clip, tmp_path, caplog):
    data = clip.read_bytes()
    short = tmp_path / "short.avi"
    short.write_bytes(data[: len(data) // 2])
    try:
        found = indexes(VideoFile(short, stream="s"))
    except SourceFormatError:
        return
    assert found == list(range(len(found)))
    assert len(found) < 11


def test_random_damage_gives_frames_or_an_edge_error(clip, tmp_path):
    data = clip.read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "damaged.avi"
    for _ in range(30):
        broken = bytearray(data)
        for place in rng.integers(0, len(broken), 40):
            broken[place] = rng.integers(0, 256)
        path.write_bytes(bytes(broken))
        try:
            with VideoFile(path, stream="s") as video:
                for frame in itertools.islice(video, 50):
                    assert frame.image.ndim == 3
        except EdgeError:
            pass


def test_pictures_in_natural_order_others_left_out(tmp_path):
    for name in ("10.png", "9.png", "a2.PNG", "1.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    with ImageFolder(tmp_path, stream="s", fps=2.0) as pictures:
        assert [file.name for file in pictures.files] == ["1.jpg", "9.png", "10.png", "a2.PNG"]
        assert [frame.time_s for frame in pictures] == [0, 0.5, 1.0, 1.5]


def test_grey_and_transparent_pictures_become_bgr(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 6), 9, np.uint8))
    cv2.imwrite(str(tmp_path / "rgba.png"), np.full((4, 6, 4), 9, np.uint8))
    cv2.imwrite(str(tmp_path / "sixteen.png"), np.full((4, 6, 3), 9 * 257, np.uint16))
    with ImageFolder(tmp_path, stream="s") as pictures:
        for frame in pictures:
            assert frame.image.shape == (4, 6, 3)
            assert frame.image.dtype == np.uint8


def test_a_broken_picture_is_named(tmp_path):
    for name, content in (
        ("a.png", b""),
        ("b.jpg", b"\xff\xd8\xff"),
        ("c.png", b"\x89PNG\r\n\x1a\n" + b"x" * 50),
    ):
        (tmp_path / name).write_bytes(content)
        with (
            pytest.raises(SourceFormatError, match=name),
            open_camera(str(tmp_path / name), stream="s") as source,
        ):
            list(source)


def test_a_picture_that_goes_away_is_missing(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    with ImageFolder(tmp_path, stream="s") as pictures:
        (tmp_path / "a.png").unlink()
        with pytest.raises(SourceMissingError, match=r"a\.png"):
            list(pictures)


def test_no_pictures_are_no_data(tmp_path):
    with pytest.raises(SourceMissingError, match="no picture in"), open_camera(str(tmp_path), stream="s"):
        pass
    with (
        pytest.raises(SourceMissingError, match="no picture or folder"),
        ImageFolder(tmp_path / "x", stream="s"),
    ):
        pass
    with pytest.raises(SourceError, match="fps"):
        ImageFolder(tmp_path, stream="s", fps=0)


def test_an_address_says_what_opens_it(clip, tmp_path):
    assert isinstance(open_camera(str(clip), stream="s"), VideoFile)
    assert isinstance(open_camera(clip.as_uri(), stream="s"), VideoFile)
    assert isinstance(open_camera(str(tmp_path), stream="s"), ImageFolder)
    assert isinstance(open_camera(str(tmp_path / "x.JPG"), stream="s"), ImageFolder)
    assert set(CAMERAS) == set(get_args(Kind))
    assert isinstance(open_camera("http://camera/mjpeg", stream="s"), HttpCamera)
    assert isinstance(open_camera("usb:0", stream="s"), UsbCamera)
    assert isinstance(open_camera("/dev/video0", stream="s"), UsbCamera)
    software = CameraRequest("s", capture=CaptureSettings(decoder="software"))
    assert isinstance(open_camera("rtsp://camera/1", request=software), RtspCamera)
    with open_camera("file://" + str(clip).replace("clip.avi", "%63lip.avi"), stream="s") as source:
        assert next(iter(source)).index == 0


@pytest.mark.parametrize(
    "uri",
    ["rtsp://user:secret@camera/1", "http://:secret@camera/x.jpg", "concat://secret|b", "rtsp:///secret"],
)
def test_other_addresses_are_refused_without_their_secrets(uri):
    with pytest.raises(SourceFormatError, match="stream 'gate'") as caught:
        open_camera(uri, stream="gate")
    assert "secret" not in str(caught.value)


def test_no_video_library_is_loaded_by_an_address():
    done = run_python(
        "import sys; from edgeai.sources import open_camera; open_camera('x.mp4', stream='s'); sys.exit('cv2' in sys.modules)"
    )
    assert done.returncode == 0
