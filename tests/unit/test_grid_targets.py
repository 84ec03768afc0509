"""The assignment of boxes to cells against a loop that asks every cell, and on cases drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.train.grid_targets import CENTRE_RADIUS, grid_targets, stride_ranges

STRIDES = (8, 16, 32)
NOTHING = np.empty((0, 4), np.float32)


def targets_of(boxes, *, class_ids=None, scores=None, crowd=NOTHING, size=128, classes=3):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    class_ids = np.zeros(len(boxes), np.int32) if class_ids is None else np.array(class_ids, np.int32)
    scores = np.ones(len(boxes), np.float32) if scores is None else np.array(scores, np.float32)
    return grid_targets(
        boxes,
        class_ids,
        scores,
        np.array(crowd, np.float32).reshape(-1, 4),
        height=size,
        width=size,
        classes=classes,
        strides=STRIDES,
    )


def owner_by_loop(boxes, stride, row, column, size):
    """The box that cell (row, column) must show: the smallest whose centre is near and that holds the cell's middle."""
    low, high = stride_ranges(STRIDES)[STRIDES.index(stride)]
    best = None
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        if not low <= max(x2 - x1, y2 - y1) < high:
            continue
        cx, cy = (column + 0.5) * stride, (row + 0.5) * stride
        near = (
            abs(cx - (x1 + x2) / 2) <= CENTRE_RADIUS * stride
            and abs(cy - (y1 + y2) / 2) <= CENTRE_RADIUS * stride
        )
        inside = x1 <= cx <= x2 and y1 <= cy <= y2
        area = (x2 - x1) * (y2 - y1)
        if near and inside and (best is None or area <= best[0]):
            best = (area, index)
    return None if best is None else best[1]


@st.composite
def big_boxes(draw):
    """Boxes of whole pixels wide enough to hold a cell's middle at their stride, with areas that differ."""
    count = draw(st.integers(1, 5))
    made = {}
    for _ in range(count):
        w, h = draw(st.integers(34, 120)), draw(st.integers(34, 120))
        x, y = draw(st.integers(0, 128 - w)), draw(st.integers(0, 128 - h))
        made[w * h] = (x, y, x + w, y + h)
    return list(made.values())


@given(big_boxes())
@settings(max_examples=40)
def test_every_cell_is_as_a_plain_loop_says(boxes):
    targets = targets_of(boxes)
    for stride in STRIDES:
        score, box = targets[f"score_{stride}"], targets[f"box_{stride}"]
        for row in range(128 // stride):
            for column in range(128 // stride):
                owner = owner_by_loop(boxes, stride, row, column, 128)
                assert score[row, column].max() == (0 if owner is None else 1)
                if owner is not None:
                    assert tuple(box[row, column]) == boxes[owner]


def test_a_box_smaller_than_a_cell_still_has_one():
    targets = targets_of([[17, 33, 20, 36]])
    assert targets["score_8"].sum() == 1
    assert targets["score_8"][4, 2, 0] == 1


def test_class_and_score_of_the_label_are_kept():
    targets = targets_of([[0, 0, 40, 40]], class_ids=[2], scores=[0.7])
    at = targets["score_8"][2, 2]
    assert at[2] == pytest.approx(0.7)
    assert at[:2].tolist() == [0, 0]


def test_crowds_are_left_out_unless_a_box_lies_on_them():
    targets = targets_of([[0, 0, 40, 40]], crowd=[[0, 0, 128, 64]])
    weight = targets["weight_8"][..., 0]
    assert weight[2, 2] == 1
    assert weight[0, 15] == 0
    assert weight[8:].min() == 1


def test_a_crowd_outside_the_picture_touches_nothing():
    assert targets_of([], crowd=[[-40, -40, -10, -10]])["weight_8"].min() == 1


def test_a_picture_without_boxes_is_all_background():
    targets = targets_of([])
    assert all(targets[f"score_{s}"].sum() == 0 and targets[f"weight_{s}"].min() == 1 for s in STRIDES)


def test_stride_ranges_leave_no_side_out():
    ranges = stride_ranges(STRIDES)
    for side in np.linspace(0.5, 2000, 500):
        assert any(low <= side < high for low, high in ranges)
