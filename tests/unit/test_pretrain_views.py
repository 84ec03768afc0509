"""Two views of a picture: windows inside it that overlap, points that are the same place in both, light that differs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from compress.train.pretrain_views import (
    ViewSettings,
    Window,
    cut,
    draw_points,
    draw_windows,
    make_views,
    recolour,
)
from edgeai.bundle.manifest import ImageInput
from edgeai.errors import DataError

SPEC = ImageInput(width=96, height=64, std=(255.0, 255.0, 255.0))
PLAIN = ViewSettings(colour=0, tint=0, grey=0, blur=0)


def coordinates(width, height):
    """A picture whose blue is x and whose green is y, in pixels."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = np.arange(width)[None, :], np.arange(height)[:, None]
    return picture


@settings(max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 10_000), st.floats(0.05, 20))
def test_windows_lie_in_the_picture_and_overlap(width, height, seed, high):
    wide = ViewSettings(scale=(0.05, max(0.05, high)))
    rng = np.random.default_rng(seed)
    a, b = draw_windows(width, height, SPEC, wide, height=48, width=64, rng=rng)
    for window in (a, b):
        assert window.left >= -1e-6 and window.top >= -1e-6
        assert window.right <= width + 1e-6 and window.bottom <= height + 1e-6
        assert (window.right - window.left) / (window.bottom - window.top) == pytest.approx(64 / 48)
    points = draw_points(a, b, 4, rng)
    for window in (a, b):
        unit = window.to_unit(points)
        assert unit.shape == (16, 2)
        assert (unit > -1e-6).all() and (unit < 1 + 1e-6).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_shows_what_its_edges_say(mirrored):
    view = cut(coordinates(200, 150), Window(20, 30, 148, 126, mirrored), height=48, width=64)
    # two source pixels to one of the view: its first middle lies at 20 + 1 from the left edge, less half a pixel
    across = 20 + 2 * np.arange(64) + 0.5
    np.testing.assert_allclose(view[10, :, 0], across[::-1] if mirrored else across, atol=0.51)
    np.testing.assert_allclose(view[:, 5, 1], 30 + 2 * np.arange(48) + 0.5, atol=0.51)


def test_shared_points_show_the_same_place_in_both_views():
    source, rng = coordinates(250, 200), np.random.default_rng(3)
    for _ in range(20):
        windows = draw_windows(250, 200, SPEC, PLAIN, height=64, width=96, rng=rng)
        points = draw_points(*windows, 4, rng)
        seen = []
        for window in windows:
            view = cut(source, window, height=64, width=96).astype(np.float32)
            at = (window.to_unit(points) * (96, 64) - 0.5).astype(np.float32)
            seen.append(cv2.remap(view, at[:, None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        np.testing.assert_allclose(seen[0][:, 0, :2], points - 0.5, atol=3)
        np.testing.assert_allclose(seen[0], seen[1], atol=4)


def write(folder, count, *, width=120, height=80):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
        paths.append(path)
    return paths


def test_batches_hold_each_picture_twice_and_none_again(tmp_path):
    paths = write(tmp_path, 5)
    made = make_views(paths, SPEC, ViewSettings(), height=32, width=48, batch=8)(np.random.default_rng(0))
    assert made["inputs"].shape == (10, 32, 48, 3)
    assert made["inputs"].dtype == made["targets"]["first"].dtype == np.float32
    assert made["targets"]["second"].shape == (5, 16, 2)
    assert made["inputs"].min() >= 0 and made["inputs"].max() <= 1


def test_the_same_seed_gives_the_same_batch(tmp_path):
    make = make_views(write(tmp_path, 4), SPEC, ViewSettings(), height=32, width=48, batch=3)
    one, same, other = (make(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["inputs"], same["inputs"])
    assert (one["inputs"] != other["inputs"]).any()


def test_channels_come_in_the_order_of_the_network(tmp_path):
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((80, 120, 3), (250, 0, 0), np.uint8))
    for colour, channel in (("BGR", 0), ("RGB", 2)):
        spec = SPEC.model_copy(update={"colour": colour})
        make = make_views([tmp_path / "blue.png"], spec, PLAIN, height=32, width=48, batch=1)
        means = make(np.random.default_rng(0))["inputs"].mean((0, 1, 2))
        assert means[channel] == pytest.approx(250 / 255, abs=0.01)
        assert means.sum() == pytest.approx(250 / 255, abs=0.01)


def test_large_photographs_are_read_small(tmp_path, monkeypatch):
    from compress.data import detection

    asked = []
    read = detection.read_picture
    monkeypatch.setattr(
        detection,
        "read_picture",
        lambda path, *, reduction=1: asked.append(reduction) or read(path, reduction=reduction),
    )
    (tmp_path / "large").mkdir()
    for paths in (write(tmp_path, 1), write(tmp_path / "large", 1, width=1200, height=800)):
        make_views(paths, SPEC, ViewSettings(), height=32, width=48, batch=1)(np.random.default_rng(0))
    assert asked == [1, 4]  # 1.6 times 96 pixels are needed of 1200


def test_light_is_changed_within_bounds_and_grey_is_grey():
    view = coordinates(96, 64)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(recolour(view, PLAIN, rng), view)
    grey = recolour(view, ViewSettings(tint=0, grey=1, blur=0), rng)
    np.testing.assert_allclose(grey[..., 0], grey[..., 2], atol=1e-3)
    for _ in range(20):
        made = recolour(view, ViewSettings(colour=1, tint=1, blur=1), rng)
        assert made.shape == view.shape and made.min() >= 0 and made.max() <= 255


def test_what_is_no_picture_is_told(tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    make = make_views([tmp_path / "a.jpg"], SPEC, ViewSettings(), height=32, width=48, batch=1)
    with pytest.raises(DataError, match="no picture"):
        make(np.random.default_rng(0))


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(ValidationError, match="from small to large"):
        ViewSettings(scale=(2, 1))
    with pytest.raises(ValidationError):
        ViewSettings(colours=1)
