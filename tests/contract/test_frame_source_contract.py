"""What every source of frames keeps. One more source: one more line in SOURCES."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeai.errors import SourceError
from edgeai.sources.image_folder import ImageFolder
from edgeai.sources.source import Source
from edgeai.sources.video_file import VideoFile
from edgeai.types import Frame

FRAMES = 12


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return folder


SOURCES: dict[str, Callable[[Path], Source[Frame]]] = {
    "video": lambda folder: VideoFile(folder / "clip.avi", stream="s"),
    "pictures": lambda folder: ImageFolder(folder / "pictures", stream="s"),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def source(request: pytest.FixtureRequest, material: Path) -> Source[Frame]:
    return request.param(material)


def test_frames_are_pictures_in_order(source):
    with source:
        frames = list(source)
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
        frames = list(source)
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
