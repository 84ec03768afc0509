"""Frames from a USB camera, or any other that Linux shows as /dev/video*, through V4L2."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import Address
from edgeai.sources.ffmpeg import SILENCE
from edgeai.sources.pictures import as_bgr
from edgeai.sources.request import CameraRequest, FpsCap
from edgeai.sources.source import Source
from edgeai.types import Frame

_LOG = logging.getLogger("edgeai")

MAX_BAD_IN_A_ROW: Final = 30
_FAILURES: Final = 3  # reads in a row: one may be a frame that a cable spoilt

# linux/videodev2.h: _IOR('V', 0, struct v4l2_capability), _IOWR('V', 8, struct v4l2_requestbuffers)
_QUERYCAP, _CAPABILITY_BYTES = 0x80685600, 104
_REQBUFS: Final = 0xC0145608
_SELECT_S: Final = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
_CAN_CAPTURE: Final = 0x00000001 | 0x00001000  # V4L2_CAP_VIDEO_CAPTURE, _MPLANE
_HAS_DEVICE_CAPS: Final = 0x80000000


class Device(Protocol):
    """What is used of cv2.VideoCapture."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, property_id: int, /) -> float: ...
    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class CameraNode:
    """A camera as Linux lists it. stable: a path that stays when others are plugged in, "" where there is none."""

    index: int
    name: str
    stable: str = ""

    def __str__(self) -> str:
        return f"usb:{self.stable or self.index} ({self.name})"


def list_cameras(
    sys_folder: Path = Path("/sys/class/video4linux"), dev_folder: Path = Path("/dev")
) -> list[CameraNode]:
    """The cameras that are plugged in, by number: only the nodes that give pictures."""
    stable: dict[str, str] = {}
    for folder in ("by-path", "by-id"):  # the second wins: it survives another socket
        try:
            for link in sorted((dev_folder / "v4l" / folder).iterdir()):
                stable[link.resolve().name] = str(link)
        except OSError:
            continue
    cameras = []
    try:
        nodes = list(sys_folder.iterdir())
    except OSError:
        return []
    for node in nodes:
        number = re.fullmatch(r"video(\d+)", node.name)
        if number and _captures(node, dev_folder / node.name):
            name = _text(node / "name") or node.name
            cameras.append(CameraNode(int(number[1]), name, stable.get(node.name, "")))
    return sorted(cameras, key=lambda camera: camera.index)


class UsbCamera(Source[Frame]):
    """The frames of a V4L2 camera. Its address is an index, or a path: `/dev/v4l/by-id/...` stays when numbers change.

    capture.width, height and fps are asked for, as MJPEG, which is all that USB 2 carries at HD; what the camera gives in the
    end is told in the log. Frames that max_fps leaves out are not decoded.

    Raises at opening SourceMissingError where there is no such camera, SourceError where it is in use or this user may not
    read it, SourceFormatError where it gives no pictures; while reading SourceError where it was unplugged, or gave none for
    capture.stall_s (in whole seconds, and those of the first camera opened count: OpenCV reads its limit once).
    """

    live = True

    def __init__(
        self,
        address: Address,
        request: CameraRequest,
        *,
        device: Callable[[Path, CameraRequest], Device] | None = None,
        sys_folder: Path = Path("/sys/class/video4linux"),
        dev_folder: Path = Path("/dev"),
    ) -> None:
        where = address.where
        if not re.fullmatch(r"\d{1,4}|/.+", where):
            raise SourceFormatError(
                f"stream {request.stream!r}: a USB camera is an index or a path below /dev, not {where!r}",
                next_step=_there_are(list_cameras(sys_folder, dev_folder)),
            )
        self.capped = self.bad = 0
        self._node = dev_folder / f"video{where}" if where.isdecimal() else Path(where)
        self._called = f"the camera {address}"
        self._request = request
        self._make = device or _opened
        self._folders = (sys_folder, dev_folder)
        self._device: Device | None = None
        self._closing = threading.Event()

    def open(self) -> None:
        self.close()
        self._closing.clear()
        self._see_that_it_is_there()
        SILENCE.begin()
        try:
            self._device = self._checked()
        finally:
            if self._device is None:
                SILENCE.end()
        _LOG.info("%s: %s", self._called, _described(self._device))

    def _checked(self) -> Device:
        device = self._make(self._node.resolve(), self._request)  # numbers change when it is plugged in anew
        if device.isOpened() and _grabbed(device):
            return device
        opened = device.isOpened()
        device.release()
        if opened:
            raise SourceFormatError(f"{self._called} is open and gives no picture")
        raise self._why_not()

    def close(self) -> None:
        self._closing.set()
        device, self._device = self._device, None
        if device is not None:
            device.release()
            SILENCE.end()

    def cancel(self) -> None:
        """A read that is under way ends with its own limit: V4L2 cannot be interrupted."""
        self._closing.set()

    def __iter__(self) -> Iterator[Frame]:
        if self._device is None:
            raise SourceError(f"{self._called} is not open", next_step="use `with`, or call open() first")
        clock, cap = self._request.clock, FpsCap(self._request.max_fps)
        opened_s = clock.monotonic_s()
        # OpenCV's own limit is in whole seconds, and the first camera's
        limit_s = max(self._request.capture.stall_s, _select_limit_s())
        index, failures, bad_in_a_row = -1, 0, 0
        while (device := self._device) is not None and not self._closing.is_set():
            began_s = time.monotonic()
            self._request.expect(limit_s)
            if not _grabbed(device):
                failures += 1
                slow = time.monotonic() - began_s >= 0.9 * self._request.capture.stall_s
                if self._closing.is_set():
                    return
                if slow or failures >= _FAILURES or not self._node.exists():
                    raise SourceError(self._why_lost())
                continue
            failures = 0
            index += 1
            time_s = clock.monotonic_s() - opened_s
            if not cap.takes(time_s):
                self.capped += 1
                continue
            try:
                picture = _retrieved(device)
            except SourceFormatError as error:
                self.bad += 1
                bad_in_a_row += 1
                if bad_in_a_row >= MAX_BAD_IN_A_ROW:
                    raise SourceError(
                        f"{self._called}: {bad_in_a_row} pictures in a row are damaged: {error}"
                    ) from None
                continue
            bad_in_a_row = 0
            yield Frame(picture, index, time_s, self._request.stream)

    def _see_that_it_is_there(self) -> None:
        try:
            found = self._node.stat()
        except OSError:
            raise SourceMissingError(
                f"there is no camera {self._node}", next_step=_there_are(list_cameras(*self._folders))
            ) from None
        if not stat.S_ISCHR(found.st_mode) and self._make is _opened:
            raise SourceFormatError(
                f"{self._node} is no device", next_step=_there_are(list_cameras(*self._folders))
            )

    def _why_not(self) -> SourceError:
        fault = _fault(self._node)
        if fault in (errno.EACCES, errno.EPERM):
            return SourceError(
                f"{self._called}: this user may not read {self._node}",
                next_step="add him to the group video: sudo usermod -aG video $USER, and log in again",
            )
        if fault == errno.EBUSY:
            return SourceError(
                f"{self._called} is in use by another program", next_step=f"fuser -v {self._node} names it"
            )
        if fault in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return SourceMissingError(
                f"there is no camera {self._node}", next_step=_there_are(list_cameras(*self._folders))
            )
        return SourceFormatError(
            f"{self._called} cannot be opened as a camera", next_step=_there_are(list_cameras(*self._folders))
        )

    def _why_lost(self) -> str:
        if not self._node.exists():
            return f"{self._called} was unplugged"
        return f"{self._called} gives no pictures any more"


def _opened(node: Path, request: CameraRequest) -> Device:
    """The camera, asked for what the configuration wants; opened or not."""
    settings = request.capture
    # read by OpenCV at its first frame in this process; without them a camera that fell silent holds its reader for 10 s
    os.environ.setdefault(_SELECT_S, str(max(1, round(settings.stall_s))))
    import cv2

    wanted = {
        # before size and rate, which depend on it
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: settings.width,
        cv2.CAP_PROP_FRAME_HEIGHT: settings.height,
        cv2.CAP_PROP_FPS: settings.fps,
    }
    device = cv2.VideoCapture(str(node), cv2.CAP_V4L2)
    for name, value in wanted.items():
        if value is not None and device.isOpened():
            device.set(name, value)
    return device


def _select_limit_s() -> float:
    """How long OpenCV waits for a frame, as it reads it itself."""
    said = os.environ.get(_SELECT_S, "")
    return float(said) if re.fullmatch(r"\d{1,6}", said) else 10.0


def _grabbed(device: Device) -> bool:
    import cv2

    try:
        return device.grab()
    except cv2.error:  # what it asserts of a driver's answers
        return False


def _retrieved(device: Device) -> NDArray[np.uint8]:
    import cv2

    try:
        read, image = device.retrieve()
    except cv2.error:
        read, image = False, None
    if not read:
        raise SourceFormatError("the picture cannot be decoded")
    return as_bgr(image)


def _described(device: Device) -> str:
    import cv2

    code = int(device.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    coding = letters if letters.isprintable() and code > 0 else "?"
    width, height = (int(device.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    return f"gives {width} x {height} at {device.get(cv2.CAP_PROP_FPS):g} a second as {coding}"


def _there_are(cameras: list[CameraNode]) -> str:
    return f"there are: {', '.join(map(str, cameras))}" if cameras else "no camera is plugged in"


def _captures(node: Path, device: Path) -> bool:
    """Whether a node gives pictures: as its driver says, else the first of its device (the others give metadata)."""
    try:
        handle = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return _text(node / "index") in ("", "0")
    try:
        answer = fcntl.ioctl(handle, _QUERYCAP, bytes(_CAPABILITY_BYTES))
        capabilities, of_node = struct.unpack_from("II", answer, 84)
        return bool((of_node if capabilities & _HAS_DEVICE_CAPS else capabilities) & _CAN_CAPTURE)
    except OSError:
        return _text(node / "index") in ("", "0")
    finally:
        os.close(handle)


def _fault(node: Path) -> int:
    """Why a camera cannot be opened, as an errno; 0 where it can."""
    try:
        handle = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return error.errno or 0
    try:
        # no buffers, of V4L2_BUF_TYPE_VIDEO_CAPTURE in V4L2_MEMORY_MMAP: who may not even ask for those is not alone
        fcntl.ioctl(handle, _REQBUFS, struct.pack("IIIII", 0, 1, 1, 0, 0))
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(handle)
    return 0


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return "".join(sign for sign in opened.read(200).strip() if sign.isprintable())
    except OSError:
        return ""
