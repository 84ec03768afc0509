"""What every source of frames keeps. One more source: one more line in SOURCES."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera_device import FakeDevice
from gstreamer_here import require_gstreamer
from http_camera_server import HttpCameraServer

from edgeai.errors import SourceError
from edgeai.sources import open_camera
from edgeai.sources.addresses import Address
from edgeai.sources.http_camera import HttpCamera
from edgeai.sources.image_folder import ImageFolder
from edgeai.sources.request import CameraRequest
from edgeai.sources.source import Source
from edgeai.sources.usb import UsbCamera
from edgeai.sources.video_file import VideoFile
from edgeai.types import Frame

FRAMES = 12
_SERVERS = contextlib.ExitStack()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """clip.avi (12 frames, 10 a second, 64 x 48, grey rising by 20) and pictures/ with the same."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "pictures").mkdir()
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    assert writer.isOpened()
    for index in range(FRAMES):
        image = np.full((48, 64, 3), 20 * index, np.uint8)
        writer.write(image)
        cv2.imwrite(str(folder / "pictures" / f"{index}.png"), image)
    writer.release()
    with _SERVERS:
        yield folder


def _pictures(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(folder / "pictures" / f"{index}.png")) for index in range(FRAMES)]


def _http(folder: Path) -> Source[Frame]:
    """A camera that streams the pictures and is switched off."""

    def play(end, _head) -> None:
        end.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n")
        for picture in _pictures(folder):
            end.sendall(b"--b\r\n\r\n" + cv2.imencode(".jpg", picture)[1].tobytes() + b"\r\n")
        end.sendall(b"--b--")

    server = _SERVERS.enter_context(HttpCameraServer(play))
    return HttpCamera(Address("http", server.url), CameraRequest("s"))


def _usb(folder: Path) -> Source[Frame]:
    """A camera that gives the pictures and is unplugged; the first of them is what opening tries."""

    def device(_node, _request) -> FakeDevice:
        pictures = _pictures(folder)
        return FakeDevice([pictures[0], *pictures])

    (folder / "video0").touch()
    return UsbCamera(Address("usb", "0"), CameraRequest("s"), device=device, dev_folder=folder)


def _gst(folder: Path) -> Source[Frame]:
    require_gstreamer()
    return open_camera(f'gst:filesrc location="{folder}/clip.avi" ! decodebin', stream="s")


SOURCES: dict[str, Callable[[Path], Source[Frame]]] = {
    "video": lambda folder: VideoFile(folder / "clip.avi", stream="s"),
    "gst": _gst,
    "pictures": lambda folder: ImageFolder(folder / "pictures", stream="s"),
    "http": _http,
    "usb": _usb,
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def source(request: pytest.FixtureRequest, material: Path) -> Source[Frame]:
    return request.param(material)


def read(source: Source[Frame]) -> list[Frame]:
    """All frames. A live source never ends: it is lost."""
    frames = []
    with pytest.raises(SourceError) if source.live else contextlib.nullcontext():
        for frame in source:
            frames.append(frame)  # noqa: PERF402
    return frames


def test_frames_are_pictures_in_order(source):
    with source:
        frames = read(source)
    assert frames
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert abs(int(frame.image.mean()) - 20 * frame.index) <= 3
        assert frame.stream == "s"
    for before, after in itertools.pairwise(frames):
        assert after.index > before.index
        assert after.time_s > before.time_s
    assert frames[-1].index == FRAMES - 1


def test_frames_own_their_pixels(source):
    with source:
        frames = read(source)
    for frame in frames:
        frame.image[:] = 255
        assert frame.image.min() == 255
    assert len({id(frame.image) for frame in frames}) == len(frames)


def test_reading_a_closed_source_is_an_error(source):
    with pytest.raises(SourceError, match="not open"):
        next(iter(source))


def test_closing_twice_and_opening_again(source):
    for _ in range(2):
        with source:
            assert next(iter(source)).image.shape == (48, 64, 3)
        source.close()
    source.close()


def test_closing_in_the_middle_ends_the_frames(source):
    with source:
        frames = iter(source)
        next(frames)
        source.close()
        assert len(list(frames)) <= FRAMES
