"""Frames from a folder of pictures, or from one picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.source import Source
from edgeai.types import Frame

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))


class ImageFolder(Source[Frame]):
    """The pictures of a folder in natural order (2.png before 10.png), or the one picture `path` is.

    Pictures are read as BGR, turned as their EXIF orientation says. Time runs at `fps` pictures a second.
    Raises SourceMissingError where there is no such folder or no picture in it, SourceFormatError, naming the file,
    for one that cannot be read.
    """

    def __init__(self, path: str | Path, *, stream: str, fps: float = 1.0) -> None:
        if not 0.0 < fps <= 1000.0:
            raise SourceError(f"fps must be above 0 and at most 1000, got {fps}")
        self.path = Path(path)
        self.stream = stream
        self.fps = fps
        self.files: tuple[Path, ...] = ()

    def open(self) -> None:
        """List the pictures, in `files`."""
        if self.path.is_dir():
            found = [
                file
                for file in self.path.iterdir()
                if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
            ]
            self.files = tuple(sorted(found, key=_natural_order))
            if not self.files:
                raise SourceMissingError(f"there is no picture in {self.path}")
        elif self.path.is_file():
            self.files = (self.path,)
        else:
            raise SourceMissingError(f"there is no picture or folder {self.path}")

    def __iter__(self) -> Iterator[Frame]:
        if not self.files:
            raise SourceError(f"{self.path} is not open", next_step="use `with`, or call open() first")
        for index, file in enumerate(self.files):
            yield Frame(_read(file), index, index / self.fps, self.stream)

    def close(self) -> None:
        self.files = ()


def decode_picture(data: bytes, *, called: str) -> NDArray[np.uint8]:
    """The picture in a file's bytes, (H, W, 3) uint8 BGR, turned as its EXIF orientation says.

    Raises SourceFormatError, naming it as `called`, for what OpenCV cannot read.
    """
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise SourceFormatError(
            f"{called} is not a picture that can be read: {' '.join(str(error).split())}"
        ) from None
    if image is None:
        raise SourceFormatError(f"{called} is not a picture that can be read")
    return np.asarray(image, np.uint8)


def _read(file: Path) -> NDArray[np.uint8]:
    try:
        # through memory: imread complains on standard error by itself, and cannot tell absent from broken
        data = file.read_bytes()
    except OSError as error:
        raise SourceMissingError(f"{file} cannot be read: {error.strerror}") from None
    return decode_picture(data, called=str(file))


def _natural_order(file: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"([0-9]+)", file.name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]
