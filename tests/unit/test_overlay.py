from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import StageError
from edgeai.stages.overlay import draw_overlay
from edgeai.stages.rules import LineRule, LineSettings, TrackRule, TrackSettings, ZoneRule, ZoneSettings
from edgeai.types import Detections

LABELS = ("person",)
RULES = (
    ZoneRule(ZoneSettings(name="lawn", polygon=((0, 0), (1, 0), (1, 1))), labels=LABELS),
    LineRule(LineSettings(name="gate", a=(0, 1), b=(1, 0)), labels=LABELS),
    TrackRule(TrackSettings(), labels=LABELS),
)


def tracks(*boxes, ids=()) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(n, 0.5, np.float32),
        np.zeros(n, np.int32),
        np.array(ids, np.int64),
    )


def test_it_draws_in_place_where_the_box_is():
    image = np.zeros((240, 320, 3), np.uint8)
    assert draw_overlay(image, tracks((100, 100, 150, 180), ids=[3]), labels=LABELS) is image
    assert image[100:182, 99:102].any()
    assert not image[:60].any()
    assert not image[:, 200:].any()


def test_nothing_to_draw_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    before = image.copy()
    draw_overlay(image, Detections.empty(), labels=LABELS)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 200), (200, 3), (240, 320), (1080, 1920)])
def test_any_size_and_any_box(size):
    image = np.zeros((*size, 3), np.uint8)
    boxes = [(-1e9, -1e9, 1e9, 1e9), (np.nan, 0, 1, 1), (5, 5, 5, 5), (9, 9, 1, 1), (0, 0, np.inf, 1)]
    notes = ["a note that is much longer than the picture is wide, by far", ""]
    draw_overlay(image, tracks(*boxes, ids=[1, 2, 3, -1, 5]), labels=LABELS, rules=RULES, notes=notes)
    draw_overlay(image, tracks(*boxes), labels=(), rules=RULES)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 8, 3), np.uint8)[:, ::2]],
)
def test_other_images_are_refused(image):
    with pytest.raises(StageError, match="draws on"):
        draw_overlay(image, Detections.empty(), labels=LABELS)
