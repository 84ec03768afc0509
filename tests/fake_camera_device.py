"""A capture device as OpenCV gives one, without a camera."""

from __future__ import annotations

import cv2


class FakeDevice:
    """What cv2.VideoCapture is to a driver. pictures: an array, None for one that cannot be decoded, False for no frame."""

    def __init__(self, pictures=(), *, opened: bool = True) -> None:
        self.pictures = iter(pictures)
        self.opened = opened
        self.released = 0
        self.retrieved = 0

    def isOpened(self) -> bool:
        return self.opened

    def grab(self) -> bool:
        self.current = next(self.pictures, False)
        if isinstance(self.current, Exception):
            raise self.current
        return self.current is not False

    def retrieve(self):
        self.retrieved += 1
        return self.current is not None, self.current

    def get(self, name: int) -> float:
        facts = {cv2.CAP_PROP_FRAME_WIDTH: 640, cv2.CAP_PROP_FRAME_HEIGHT: 480, cv2.CAP_PROP_FPS: 30}
        return float(facts.get(name, cv2.VideoWriter.fourcc(*"MJPG")))

    def release(self) -> None:
        self.released += 1
