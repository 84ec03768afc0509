"""USB cameras over a fake device and a fake /sys: what is there, what is not, and why."""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_camera_device import FakeDevice

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import parse_address
from edgeai.sources.request import CameraRequest
from edgeai.sources.settings import CaptureSettings
from edgeai.sources.usb import CameraNode, UsbCamera, list_cameras


class Bus:
    """A /sys/class/video4linux and a /dev with cameras in them."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.dev = folder / "sys", folder / "dev"
        self.sys.mkdir()
        (self.dev / "v4l" / "by-id").mkdir(parents=True)
        (self.dev / "v4l" / "by-path").mkdir(parents=True)

    def plug(self, number: int, name: str, *, node: int = 0, serial: str = "") -> Path:
        entry = self.sys / f"video{number}"
        entry.mkdir()
        (entry / "name").write_text(name + "\n")
        (entry / "index").write_text(f"{node}\n")
        device = self.dev / f"video{number}"
        device.touch()
        (self.dev / "v4l" / "by-path" / f"usb-{number}-video-index{node}").symlink_to(device)
        if serial:
            (self.dev / "v4l" / "by-id" / f"usb-{serial}-video-index{node}").symlink_to(device)
        return device

    def camera(self, where: str, device, **capture) -> UsbCamera:
        request = CameraRequest("gate", capture=CaptureSettings(**capture))
        made = device if callable(device) else lambda _node, _request: device
        address = parse_address(f"usb:{where}")
        return UsbCamera(address, request, device=made, sys_folder=self.sys, dev_folder=self.dev)


@pytest.fixture
def bus(tmp_path):
    return Bus(tmp_path)


def picture(shade: int):
    return np.full((48, 64, 3), shade, np.uint8)


def test_cameras_are_listed_by_number_without_their_metadata_nodes(bus):
    bus.plug(10, "Second camera")
    bus.plug(2, "Logi C270", serial="Logi_C270_1234")
    bus.plug(3, "Logi C270", node=1, serial="Logi_C270_1234")
    (bus.sys / "v4l-subdev0").mkdir()
    first, second = list_cameras(bus.sys, bus.dev)
    assert first == CameraNode(2, "Logi C270", f"{bus.dev}/v4l/by-id/usb-Logi_C270_1234-video-index0")
    assert second == CameraNode(10, "Second camera", f"{bus.dev}/v4l/by-path/usb-10-video-index0")
    assert str(first) == f"usb:{first.stable} (Logi C270)"


def test_drivers_say_which_nodes_give_pictures(bus, monkeypatch):
    """As on boards whose scalers and encoders are video devices too."""
    bus.plug(0, "scaler")
    bus.plug(1, "camera", node=1)
    capabilities = {"video0": 0x84000000, "video1": 0x84200001}

    def ioctl(handle, _request, _argument):
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        answer = bytearray(104)
        struct.pack_into("II", answer, 84, 0x80000000 | 0x1, capabilities[name] & 0x7FFFFFFF)
        return bytes(answer)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert [camera.name for camera in list_cameras(bus.sys, bus.dev)] == ["camera"]


def test_no_bus_is_no_camera(tmp_path):
    assert list_cameras(tmp_path / "none", tmp_path) == []


def test_names_of_devices_are_data(bus):
    bus.plug(0, "\x1b[31mred\x00" + "x" * 500)
    (camera,) = list_cameras(bus.sys, bus.dev)
    assert camera.name.isprintable()
    assert len(camera.name) <= 200


def test_frames_come_in_order_and_are_told_once(bus, caplog):
    bus.plug(0, "camera")
    device = FakeDevice([picture(0), *(picture(shade) for shade in (10, 20, 30))])
    with caplog.at_level(logging.INFO, "edgeai"), bus.camera("0", device) as source:
        assert source.live
        frames = list(itertools.islice(source, 3))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 20, 30]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert "gives 640 x 480 at 30 a second as MJPG" in caplog.text
    assert device.released == 1


def test_a_stable_path_is_resolved_at_every_opening(bus):
    device = bus.plug(4, "camera", serial="one")
    link = bus.dev / "v4l" / "by-id" / "usb-one-video-index0"
    opened = []

    def make(node, _request):
        opened.append(node)
        return FakeDevice([picture(1)] * 2)

    source = bus.camera(str(link), make)
    with source:
        next(iter(source))
    link.unlink()
    link.symlink_to(bus.plug(5, "camera"))
    device.unlink()
    with source:
        next(iter(source))
    assert [node.name for node in opened] == ["video4", "video5"]


def test_a_camera_that_is_not_there_names_those_that_are(bus):
    bus.plug(0, "Logi C270", serial="C270")
    with pytest.raises(
        SourceMissingError, match=r"no camera .*video3; there are: usb:.*C270.* \(Logi C270\)"
    ):
        bus.camera("3", FakeDevice()).open()


def test_no_camera_at_all(bus):
    with pytest.raises(SourceMissingError, match="no camera is plugged in"):
        bus.camera("0", FakeDevice()).open()


def test_addresses_that_are_none(bus):
    for where in ("", "front door", "-1", "12345", "video0"):
        with pytest.raises(SourceFormatError, match="stream 'gate': a USB camera is an index"):
            bus.camera(where, FakeDevice())


def test_what_is_no_device_is_not_opened(tmp_path):
    (tmp_path / "video.txt").touch()
    source = UsbCamera(parse_address(f"usb:{tmp_path / 'video.txt'}"), CameraRequest("gate"))
    with pytest.raises(SourceFormatError, match="is no device"):
        source.open()


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (errno.EACCES, SourceError, "group video"),
        (errno.EBUSY, SourceError, "in use by another program"),
        (errno.ENODEV, SourceMissingError, "there is no camera"),
        (errno.ENOTTY, SourceFormatError, "cannot be opened as a camera"),
    ],
)
def test_why_a_camera_does_not_open(bus, monkeypatch, fault, kind, said):
    bus.plug(0, "camera")

    def ioctl(*_):
        raise OSError(fault, "no")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    device = FakeDevice(opened=False)
    with pytest.raises(SourceError, match=said) as caught:
        bus.camera("0", device).open()
    assert type(caught.value) is kind
    assert device.released == 1


def test_a_camera_without_pictures_is_told_at_opening(bus):
    bus.plug(0, "camera")
    with pytest.raises(SourceFormatError, match="gives no picture"):
        bus.camera("0", FakeDevice([])).open()


def test_an_unplugged_camera(bus):
    node = bus.plug(0, "camera")
    device = FakeDevice([picture(0), picture(1), False])
    with bus.camera("0", device) as source:
        frames = iter(source)
        next(frames)
        node.unlink()
        with pytest.raises(SourceError, match="was unplugged"):
            next(frames)
    assert device.released == 1


def test_one_frame_that_a_cable_spoilt_is_no_loss_three_are(bus):
    bus.plug(0, "camera")
    device = FakeDevice(
        [picture(0), picture(1), False, cv2.error("assertion"), picture(2), False, False, False]
    )
    with bus.camera("0", device) as source, pytest.raises(SourceError, match="no pictures any more"):
        for frame in source:
            assert frame.index in (0, 1)


def test_bad_pictures_are_left_out_and_counted(bus):
    bus.plug(0, "camera")
    pictures = [None, np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4), np.float32), "no array"]
    with bus.camera("0", FakeDevice([picture(0), *pictures, picture(7)])) as source:
        assert next(iter(source)).index == 4
        assert source.bad == 4
    with (
        bus.camera("0", FakeDevice([picture(0)] + [None] * 100)) as source,
        pytest.raises(SourceError, match="30 pictures in a row are damaged"),
    ):
        list(source)


def test_grey_cameras_give_bgr(bus):
    bus.plug(0, "thermal")
    with bus.camera("0", FakeDevice([picture(0), np.full((8, 6), 0x1234, np.uint16)])) as source:
        image = next(iter(source)).image
    assert image.shape == (8, 6, 3)
    assert image[0, 0, 0] == 0x12


def test_frames_that_a_cap_leaves_out_are_not_decoded(bus):
    bus.plug(0, "camera")
    device = FakeDevice([picture(0)] * 20 + [False] * 3)
    request = CameraRequest("gate", max_fps=0.01)
    source = UsbCamera(
        parse_address("usb:0"), request, device=lambda *_: device, sys_folder=bus.sys, dev_folder=bus.dev
    )
    with source, pytest.raises(SourceError):
        list(source)
    assert (device.retrieved, source.capped) == (1, 18)


def test_closing_ends_the_frames_and_closing_twice_is_nothing(bus):
    bus.plug(0, "camera")
    device = FakeDevice([picture(0)] * 10)
    with bus.camera("0", device) as source:
        frames = iter(source)
        next(frames)
        source.cancel()
        assert list(frames) == []
        source.close()
    assert device.released == 1
    with pytest.raises(SourceError, match="not open"):
        next(iter(source))
