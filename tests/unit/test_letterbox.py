"""The letterbox: pixels as a plain resize and pad gives them, hostile frames refused or converted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeai.bundle.manifest import ImageInput
from edgeai.errors import StageError
from edgeai.stages.letterbox import letterbox, place

RNG = np.random.default_rng(7)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("colour", ["BGR", "RGB"])
@pytest.mark.parametrize("anchor", ["corner", "centre"])
@pytest.mark.parametrize("size", [(720, 1280), (1280, 720), (300, 300), (31, 97), (1, 1), (2000, 3)])
def test_pixels_are_those_of_a_plain_resize_and_pad(size, anchor, colour):
    image = picture(*size)
    spec = ImageInput(width=320, height=256, anchor=anchor, colour=colour, pad=7)
    got, placement = letterbox(image, spec)

    ratio = min(320 / size[1], 256 / size[0])
    width, height = max(1, int(size[1] * ratio + 1e-9)), max(1, int(size[0] * ratio + 1e-9))
    wanted = np.full((256, 320, 3), 7, np.uint8)
    left, top = ((320 - width) // 2, (256 - height) // 2) if anchor == "centre" else (0, 0)
    wanted[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    np.testing.assert_array_equal(got, wanted if colour == "BGR" else wanted[:, :, ::-1])
    assert (placement.left_px, placement.top_px) == (left, top)
    assert placement.scale_x == width / size[1]
    assert placement.scale_y == height / size[0]


def test_stretch_fills_the_picture():
    image = picture(48, 100)
    got, placement = letterbox(image, ImageInput(width=64, height=64, resize="stretch"))
    np.testing.assert_array_equal(got, cv2.resize(image, (64, 64)))
    assert (placement.scale_x, placement.scale_y) == (0.64, 64 / 48)


def test_out_is_written_in_place_and_its_old_content_is_gone():
    spec = ImageInput(width=64, height=64)
    out = np.full((64, 64, 3), 255, np.uint8)
    for size in ((32, 64), (64, 32), (64, 64), (200, 100)):
        image = picture(*size)
        got, _ = letterbox(image, spec, out)
        assert got is out
        np.testing.assert_array_equal(got, letterbox(image, spec)[0])


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[:, ::-1],
        lambda image: image[::-1],
        lambda image: image[:, :, ::-1],
        lambda image: image[::2, ::3],
        lambda image: image[5:40, 3:50],
        lambda image: image.transpose(1, 0, 2),
        lambda image: np.broadcast_to(image[:1], image.shape),
        lambda image: np.broadcast_to(image[:, :1], image.shape),
        lambda image: np.asfortranarray(image),
        lambda image: np.dstack([image, image])[:, :, ::2],
    ],
)
@pytest.mark.parametrize("side", [64, 50])
def test_views_of_any_stride_are_read_right(view, side):
    image = view(picture(50, 60))
    spec = ImageInput(width=side, height=side)
    np.testing.assert_array_equal(letterbox(image, spec)[0], letterbox(np.array(image, order="C"), spec)[0])


def test_the_frame_itself_is_never_changed():
    image = picture(64, 64)
    before = image.copy()
    letterbox(image, ImageInput(width=64, height=64, colour="RGB"))
    np.testing.assert_array_equal(image, before)


def test_grey_and_bgra_are_converted():
    image = picture(40, 40)
    spec = ImageInput(width=32, height=32)
    grey = image[:, :, 0]
    wanted, _ = letterbox(np.dstack([grey] * 3), spec)
    np.testing.assert_array_equal(letterbox(grey, spec)[0], wanted)
    np.testing.assert_array_equal(letterbox(grey[:, :, None], spec)[0], wanted)
    np.testing.assert_array_equal(letterbox(np.dstack([image, grey]), spec)[0], letterbox(image, spec)[0])


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 0), np.uint8),
        np.zeros((10, 10, 3), np.uint16),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((10, 10, 2), np.uint8),
        np.zeros((10, 10, 5), np.uint8),
        np.zeros((10, 10, 0), np.uint8),
        np.zeros((1, 10, 10, 3), np.uint8),
        np.zeros(10, np.uint8),
        np.uint8(3),
        None,
        [[0, 0, 0]],
    ],
)
def test_other_frames_are_refused(bad):
    with pytest.raises(StageError, match="frame must be"):
        letterbox(bad, ImageInput(width=32, height=32))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((32, 31, 3), np.uint8),
        np.zeros((32, 32, 3), np.int8),
        np.zeros((32, 64, 3), np.uint8)[:, ::2],
        np.zeros((3, 32, 32), np.uint8),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(StageError, match="write into"):
        letterbox(picture(8, 8), ImageInput(width=32, height=32), out)


def test_a_read_only_out_is_refused():
    out = np.zeros((32, 32, 3), np.uint8)
    out.flags.writeable = False
    with pytest.raises(StageError):
        letterbox(picture(8, 8), ImageInput(width=32, height=32), out)


def test_boxes_are_clipped_to_the_source():
    placement = place(1280, 720, ImageInput(width=320, height=320))
    boxes = np.array([[-10, -10, 400, 400], [10, 20, 30, 40]], np.float32)
    np.testing.assert_array_equal(placement.to_source(boxes), [[0, 0, 1280, 720], [40, 80, 120, 160]])
    assert placement.to_source(np.empty((0, 4), np.float32)).shape == (0, 4)


def test_a_frame_without_size_has_no_place():
    with pytest.raises(StageError, match="at least 1 x 1"):
        place(0, 5, ImageInput(width=32, height=32))
