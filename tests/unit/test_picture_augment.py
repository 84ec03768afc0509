"""Augmented pictures: the box stays on its object through scale, move, flip and mosaic; same seed, same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.detection import LabelledPicture
from compress.train.picture_augment import PictureAugment, augment

GREEN = (0, 200, 0)
EMPTY = np.empty((0, 4), np.float32)


def scene(number, *, width=90, height=60, box=(30, 15, 60, 45), told=None):
    """A grey picture with a green rectangle, labelled at `told` (width, height) where that differs from the file."""
    image = np.full((height, width, 3), 128, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = GREEN
    told_width, told_height = told or (width, height)
    scale = np.array([told_width / width, told_height / height] * 2, np.float32)
    labelled = LabelledPicture(
        Path(f"{number}.png"),
        told_width,
        told_height,
        np.array([box], np.float32) * scale,
        np.array([0], np.int32),
        np.array([0.8], np.float32),
        np.array([box], np.float32) * scale,
    )
    return labelled, image


def made_of(scenes, seed, *, size=(64, 96), **changes):
    images = {labelled.path: image for labelled, image in scenes}
    plain = {"hue": 0, "saturation": 0, "value": 0}
    return augment(
        [labelled for labelled, _ in scenes],
        height=size[0],
        width=size[1],
        settings=PictureAugment(**{**plain, **changes}),
        rng=np.random.default_rng(seed),
        read=images.__getitem__,
    )


def is_green(image):
    return (image[..., 1] > 160) & (image[..., 0] < 70)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0]), st.booleans())
@settings(max_examples=150)
def test_boxes_lie_on_their_objects(seed, mosaic, other_size):
    told = (180, 120) if other_size else None
    made = made_of([scene(n, told=told) for n in range(4)], seed, mosaic=mosaic)
    green = is_green(made.image)
    assert made.image.shape == (64, 96, 3)
    assert len(made.xyxy_px) == len(made.class_ids) == len(made.scores) <= 4
    for x1, y1, x2, y2 in made.xyxy_px:
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 64
        rows, columns = np.mgrid[:64, :96] + 0.5
        inside = (columns > x1 + 1) & (columns < x2 - 1) & (rows > y1 + 1) & (rows < y2 - 1)
        assert green[inside].mean() > 0.99 if inside.any() else True
        around = (columns > x1 - 3) & (columns < x2 + 3) & (rows > y1 - 3) & (rows < y2 + 3)
        edge = around & ~((columns > x1 - 1) & (columns < x2 + 1) & (rows > y1 - 1) & (rows < y2 + 1))
        if mosaic == 0 and edge.any():
            assert green[edge].mean() < 0.01


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.77, 1.0, 1.4])
def test_edges_are_right_to_a_part_of_a_pixel(scale):
    made = made_of([scene(0)], 3, scale=(scale, scale), move=0.0, flip=0.0, mosaic=0.0, size=(120, 180))
    if not len(made.xyxy_px):
        pytest.skip("the object was moved out of the picture")
    share = (made.image[..., 1].astype(float) - 128) / 72  # 1 on the object, 0 beside it, between at its edge
    share[made.image[..., 1] == 114] = 0
    x1, y1, x2, y2 = made.xyxy_px[0]
    middle_row, middle_column = int((y1 + y2) / 2), int((x1 + x2) / 2)
    assert share[middle_row].clip(0, 1).sum() == pytest.approx(x2 - x1, abs=0.35)
    assert share[:, middle_column].clip(0, 1).sum() == pytest.approx(y2 - y1, abs=0.35)
    left = np.arange(180) @ share[middle_row].clip(0, 1) / share[middle_row].clip(0, 1).sum() + 0.5
    assert left == pytest.approx((x1 + x2) / 2, abs=0.15)


def test_the_same_seed_gives_the_same_picture():
    scenes = [scene(n) for n in range(4)]
    first, again, other = (made_of(scenes, seed, hue=20, saturation=0.5, value=0.5) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.xyxy_px, again.xyxy_px)
    assert (first.image != other.image).any()


def test_scores_and_crowds_come_along():
    made = made_of([scene(0)], 1, scale=(1, 1), move=0, flip=1.0, mosaic=0)
    assert made.scores.tolist() == pytest.approx([0.8])
    np.testing.assert_allclose(made.crowd_px, made.xyxy_px, atol=1e-4)


def test_what_is_mostly_cut_off_is_no_label():
    for seed in range(30):
        made = made_of([scene(0)], seed, scale=(3, 3), move=0.5, flip=0, mosaic=0)
        for x1, y1, x2, y2 in made.xyxy_px:
            assert (x2 - x1) * (y2 - y1) > 0.3 * (30 * 30) * 9 * (64 / 60) ** 2
