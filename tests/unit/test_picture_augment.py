"""Augmented pictures: the box stays on its object through scale, move, flip, turn and mosaic; same seed, same picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.detection import LabelledPicture, PictureCache
from compress.train.picture_augment import PictureAugment, ReadsReduced, augment, turned_boxes

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


def made_of(scenes, seed, *, size=(64, 96), zoom=(1.0, 1.0), **changes):
    images = {labelled.path: image for labelled, image in scenes}
    plain = {"hue": 0, "saturation": 0, "value": 0}
    return augment(
        [labelled for labelled, _ in scenes],
        height=size[0],
        width=size[1],
        settings=PictureAugment(**{**plain, **changes}),
        rng=np.random.default_rng(seed),
        read=images.__getitem__,
        zoom=zoom,
    )


def is_green(image):
    return (image[..., 1] > 160) & (image[..., 0] < 70)


@given(
    seed=st.integers(0, 2**32 - 1),
    mosaic=st.sampled_from([0.0, 1.0]),
    other_size=st.booleans(),
    turn=st.booleans(),
    scale=st.sampled_from([(0.5, 1.6), (0.2, 0.4), (2.5, 6.0)]),
)
@settings(max_examples=200)
def test_boxes_lie_on_their_objects(seed, mosaic, other_size, turn, scale):
    told = (180, 120) if other_size else None
    scenes = [scene(n, told=told) for n in range(4)]
    made = made_of(scenes, seed, mosaic=mosaic, turn=turn, flip_vertical=0.5, scale=scale)
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
    share[(made.image == 114).all(axis=2)] = 0
    x1, y1, x2, y2 = made.xyxy_px[0]
    middle_row, middle_column = int((y1 + y2) / 2), int((x1 + x2) / 2)
    assert share[middle_row].clip(0, 1).sum() == pytest.approx(x2 - x1, abs=0.35)
    assert share[:, middle_column].clip(0, 1).sum() == pytest.approx(y2 - y1, abs=0.35)
    left = np.arange(180) @ share[middle_row].clip(0, 1) / share[middle_row].clip(0, 1).sum() + 0.5
    assert left == pytest.approx((x1 + x2) / 2, abs=0.15)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("mirrored", "upside_down"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_turned_boxes_lie_on_the_turned_pixels(turns, mirrored, upside_down):
    image = np.zeros((40, 60), np.uint8)
    image[5:11, 20:50] = 1
    expected = image[::-1] if upside_down else image
    expected = np.rot90(expected[:, ::-1] if mirrored else expected, -turns)
    (x1, y1, x2, y2) = turned_boxes(
        np.array([[20, 5, 50, 11]], np.float32), 60, 40, mirrored, upside_down, turns
    )[0].astype(int)
    found = np.zeros_like(expected)
    found[y1:y2, x1:x2] = 1
    np.testing.assert_array_equal(found, expected)


def test_every_turn_and_flip_comes_about():
    corner = np.zeros((60, 90, 3), np.uint8)
    corner[:10, :10] = 255
    labelled = replace(scene(0)[0], xyxy_px=EMPTY, class_ids=np.empty(0, np.int32), crowd_px=EMPTY)
    where = set()
    for seed in range(60):
        image = made_of(
            [(labelled, corner)],
            seed,
            scale=(1, 1),
            move=0,
            mosaic=0,
            turn=True,
            flip_vertical=0.5,
            size=(90, 90),
        ).image
        y, x = np.argwhere(image[..., 0] == 255)[0]
        where.add((bool(y > 30), bool(x > 30)))
    assert len(where) == 4


def test_the_same_seed_gives_the_same_picture():
    scenes = [scene(n) for n in range(4)]
    bad = {"blur": 0.5, "noise": 0.5, "jpeg": 0.5, "dark": 0.5, "turn": True}
    first, again, other = (
        made_of(scenes, seed, hue=20, saturation=0.5, value=0.5, **bad) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.xyxy_px, again.xyxy_px)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()


def test_a_grey_picture_stays_grey_and_red_turns_with_the_hue():
    def recoloured(colour, **changes):
        labelled, image = scene(0)
        image[:] = colour
        made = made_of([(labelled, image)], 1, scale=(3, 3), move=0, mosaic=0, **changes)
        return made.image[32, 48].astype(int)

    grey = recoloured((128, 128, 128), hue=90, saturation=1)
    assert np.ptp(grey) <= 1 and abs(grey[0] - 128) <= 1
    assert recoloured((128, 128, 128), value=0.9).tolist() != grey.tolist()
    hues = set()
    for seed in range(12):
        labelled, image = scene(0)
        image[:] = (20, 20, 200)
        pixel = made_of([(labelled, image)], seed, scale=(3, 3), move=0, mosaic=0, hue=90).image[32, 48]
        hues.add(int(np.argmax(pixel)))
    assert hues == {0, 1, 2}, "a hue of 90 either way is the whole circle"


@pytest.mark.parametrize("fault", ["blur", "noise", "jpeg", "dark"])
def test_bad_cameras_change_pixels_and_leave_boxes(fault):
    for seed in range(4):
        plain, spoiled = (made_of([scene(0)], seed, mosaic=0, **{fault: chance}) for chance in (0.0, 1.0))
        assert spoiled.image.shape == plain.image.shape and spoiled.image.dtype == np.uint8
        assert (spoiled.image != plain.image).any()
        np.testing.assert_array_equal(spoiled.xyxy_px, plain.xyxy_px)
        if fault == "dark":
            assert spoiled.image.mean() < 0.8 * plain.image.mean()
        else:
            assert abs(spoiled.image.astype(int) - plain.image).mean() < 20


class Reader:
    """Notes what was asked for, and gives the picture as a reducing decoder would."""

    def __init__(self, image, *, file_scale=1.0):
        self.image = cv2.resize(image, None, fx=file_scale, fy=file_scale)
        self.asked = []

    def __call__(self, path):
        self.asked.append(1)
        return self.image

    def reduced(self, path, factor):
        self.asked.append(factor)
        return cv2.resize(self.image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("scale", "file_scale", "asked"), [(1.0, 1, [1]), (0.5, 1, [2]), (0.2, 1, [4]), (0.5, 0.25, [2, 1])]
)
def test_pictures_to_be_shrunk_are_read_reduced(scale, file_scale, asked):
    labelled, image = scene(0, width=360, height=240, box=(120, 60, 240, 180))
    reader = Reader(image, file_scale=file_scale)
    changes = {"scale": (scale, scale), "move": 0.0, "mosaic": 0.0, "flip": 0.0, "hue": 0, "value": 0}
    made = augment(
        [labelled],
        height=240,
        width=360,
        settings=PictureAugment(**changes, saturation=0),
        rng=np.random.default_rng(0),
        read=reader,
    )
    assert reader.asked == asked
    x1, y1, x2, y2 = made.xyxy_px[0]
    green = np.argwhere(is_green(made.image))
    assert green.min(0) == pytest.approx([y1, x1], abs=1.5)
    assert green.max(0) + 1 == pytest.approx([y2, x2], abs=1.5)


def test_a_cache_keeps_what_fits_and_reads_each_size_apart(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), scene(0)[1])
    cache = PictureCache(max_bytes=60 * 90 * 3)
    assert isinstance(cache, ReadsReduced)
    assert cache(path) is cache(path)
    assert cache.reduced(path, 2).shape == (30, 45, 3)
    assert cache.reduced(path, 2) is not cache.reduced(path, 2), "there was no more room"


def test_pictures_without_boxes_and_out_of_sight_give_empty_arrays():
    labelled, image = scene(0)
    bare = replace(
        labelled,
        xyxy_px=EMPTY,
        class_ids=np.empty(0, np.int32),
        scores=np.empty(0, np.float32),
        crowd_px=EMPTY,
    )
    made = made_of([(bare, image)] * 4, 0, mosaic=1.0)
    assert made.xyxy_px.shape == made.crowd_px.shape == (0, 4)
    for seed in range(
        40
    ):  # moved by up to its own width at a twentieth of the size: often out of the picture
        made = made_of([scene(0)], seed, scale=(0.05, 0.06), move=1.0, mosaic=0)
        assert len(made.xyxy_px) == len(made.class_ids) == len(made.scores)


def test_scores_and_crowds_come_along():
    made = made_of([scene(0)], 1, scale=(1, 1), move=0, flip=1.0, mosaic=0)
    assert made.scores.tolist() == pytest.approx([0.8])
    np.testing.assert_allclose(made.crowd_px, made.xyxy_px, atol=1e-4)


def test_what_is_mostly_cut_off_is_no_label():
    for seed in range(30):
        made = made_of([scene(0)], seed, scale=(3, 3), move=0.5, flip=0, mosaic=0)
        for x1, y1, x2, y2 in made.xyxy_px:
            assert (x2 - x1) * (y2 - y1) > 0.3 * (30 * 30) * 9 * (64 / 60) ** 2


@pytest.mark.parametrize("turn", [False, True])
def test_a_window_shows_objects_as_large_as_the_whole_does_and_all_places(turn):
    """A window of 32 x 32 of an input of 64 x 96: a box of a third of the width is 32 pixels wide in both."""
    whole = scene(0, width=96, height=64, box=(24, 16, 56, 48))
    plain = {"scale": (1.0, 1.0), "move": 0.0, "mosaic": 0.0, "turn": turn}
    seen = np.zeros((64, 96), int)
    for seed in range(300):
        made = made_of([whole], seed, size=(32, 32), zoom=(2.0, 3.0), **plain)
        assert made.image.shape == (32, 32, 3)
        grey_or_green = (made.image[..., 1] > 114).all()
        assert grey_or_green  # the window lies within the picture: nothing is padded
        for x1, y1, x2, y2 in made.xyxy_px:
            assert x2 - x1 <= 32 and y2 - y1 <= 32
            area = is_green(made.image).sum()
            assert area == pytest.approx((x2 - x1) * (y2 - y1), abs=70)
        seen[0, 0] += not len(made.xyxy_px)
    assert 0 < seen[0, 0] < 290  # some windows miss the object, or hold too little of it to count
