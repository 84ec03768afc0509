"""Letterbox, IoU and NMS against plain independent code, and the laws they keep."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeai.bundle.manifest import ImageInput
from edgeai.stages.boxes import iou_matrix, nms
from edgeai.stages.letterbox import place

SIDES = st.integers(1, 4096)


@given(
    SIDES,
    SIDES,
    st.integers(8, 1024),
    st.integers(8, 1024),
    st.sampled_from(["letterbox", "stretch"]),
    st.sampled_from(["corner", "centre"]),
    st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=8),
)
def test_there_and_back_is_the_identity(source_w, source_h, width, height, resize, anchor, unit):
    spec = ImageInput(width=width, height=height, resize=resize, anchor=anchor)
    placement = place(source_w, source_h, spec)
    boxes = np.array(unit, np.float32).reshape(-1, 4) * np.array([source_w, source_h] * 2, np.float32)
    there = placement.to_model(boxes)
    # inside the picture, and back within a rounding error of the picture's own grid
    assert (there >= -1e-2).all()
    assert (there[:, [0, 2]] <= width + 1e-2).all()
    assert (there[:, [1, 3]] <= height + 1e-2).all()
    tolerance = 1e-3 * max(1.0, 1 / placement.scale_x, 1 / placement.scale_y)
    np.testing.assert_allclose(placement.to_source(there), boxes, atol=tolerance, rtol=1e-5)
    if resize == "letterbox":
        assert round(placement.scale_x * source_w) == width or round(placement.scale_y * source_h) == height


BOX = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(-2, 25), st.integers(-2, 25)).map(
    lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3])
)


def plain_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0 or a[2] <= a[0] or b[2] <= b[0] or a[3] <= a[1] or b[3] <= b[1]:
        return Fraction(0)
    shared = width * height
    return Fraction(shared, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@given(st.lists(BOX, max_size=12), st.lists(BOX, max_size=12))
def test_iou_is_that_of_exact_arithmetic(a, b):
    got = iou_matrix(np.array(a, np.float32).reshape(-1, 4), np.array(b, np.float32).reshape(-1, 4))
    assert got.shape == (len(a), len(b))
    assert got.dtype == np.float32
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            assert abs(got[i, j] - float(plain_iou(one, other))) < 1e-6


def plain_nms(boxes, scores, classes, threshold, agnostic, limit):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        rivals = [k for k in kept if agnostic or classes[k] == classes[index]]
        if all(plain_iou(boxes[k], boxes[index]) <= threshold for k in rivals) and len(kept) < limit:
            kept.append(index)
    return kept


DETECTIONS = st.lists(st.tuples(BOX, st.integers(0, 20), st.integers(0, 2)), max_size=40)
# no ratio of two areas up to 1250 comes nearer to it than float32 can tell
THRESHOLD = Fraction(4567_1, 100_000)


@given(DETECTIONS, st.booleans(), st.sampled_from([1, 3, 300]))
def test_nms_is_that_of_a_plain_loop(found, agnostic, limit):
    boxes = [box for box, _, _ in found]
    scores = np.array([score / 20 for _, score, _ in found], np.float32)
    classes = np.array([class_id for _, _, class_id in found], np.int32)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    kept = nms(array, scores, classes, iou_threshold=float(THRESHOLD), agnostic=agnostic, limit=limit)
    assert kept.tolist() == plain_nms(boxes, scores.tolist(), classes.tolist(), THRESHOLD, agnostic, limit)

    again = nms(
        array[kept],
        scores[kept],
        classes[kept],
        iou_threshold=float(THRESHOLD),
        agnostic=agnostic,
        limit=limit,
    )
    assert again.tolist() == list(range(len(kept)))


@given(st.integers(0, 2**32 - 1), st.integers(129, 700), st.sampled_from([20, 300, 1000]))
def test_nms_in_blocks_is_nms_in_one(seed, count, limit):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 120, (count, 2))
    boxes = np.hstack([corner, corner + rng.integers(1, 40, (count, 2))])
    scores = rng.integers(0, 50, count).astype(np.float32) / 50
    classes = rng.integers(0, 3, count).astype(np.int32)
    iou = iou_matrix(boxes.astype(np.float32), boxes.astype(np.float32))
    kept: list[int] = []
    for index in sorted(range(count), key=lambda i: (-scores[i], i)):
        if len(kept) < limit and all(iou[k, index] <= 0.45671 or classes[k] != classes[index] for k in kept):
            kept.append(index)
    got = nms(boxes.astype(np.float32), scores, classes, iou_threshold=0.45671, limit=limit)
    assert got.tolist() == kept
