"""AP50 against a plain computation of its own, on cases worked out by hand, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from compress.data.detection import DetectionSet
from compress.measure.metric import bootstrap_ci95
from edgeai.errors import DataError
from edgeai.types import Detections

pytestmark = pytest.mark.compress


def picture(boxes, class_ids=None, crowd=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ids = np.zeros(len(boxes), np.int32) if class_ids is None else np.array(class_ids, np.int32)
    return boxes, ids, np.array(crowd, np.float32).reshape(-1, 4), 100, 100


def found(boxes, scores, class_ids=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ids = np.zeros(len(boxes), np.int32) if class_ids is None else np.array(class_ids, np.int32)
    return Detections(boxes, np.array(scores, np.float32), ids)


def ap(truth, detections, labels=("a",), **options):
    from compress.measure.detection import average_precision

    return average_precision(truth, detections, labels=labels, **options)


A, B, FAR = [0, 0, 20, 20], [40, 40, 70, 80], [80, 0, 99, 15]


def test_everything_found_is_one():
    assert ap([picture([A, B])], [found([A, B], [0.9, 0.8])]).value == pytest.approx(1)


def test_nothing_found_is_zero():
    metric = ap([picture([A])] * 3, [found([], [])] * 3)
    assert (metric.value, metric.ci95[0], metric.n) == (0.0, 0.0, 3)
    assert metric.ci95[1] == pytest.approx(0.56, abs=0.01), (
        "three pictures do not prove that nothing is found"
    )


def test_half_found_is_the_recall_reached():
    # 101-point AP: precision 1 at the recalls 0, 0.01 … 0.50, which are 51 of 101
    assert ap([picture([A, B])], [found([A], [0.9])]).value == pytest.approx(51 / 101)


def test_a_false_box_before_a_true_one_halves_the_precision():
    assert ap([picture([A])], [found([FAR, A], [0.9, 0.8])]).value == pytest.approx(0.5)


def test_a_false_box_after_all_true_ones_costs_nothing():
    assert ap([picture([A])], [found([A, FAR], [0.9, 0.1])]).value == pytest.approx(1)


def test_a_box_found_twice_is_one_true_one_false():
    assert ap([picture([A, B])], [found([A, A, B], [0.9, 0.8, 0.7])]).value == pytest.approx(
        (51 + 50 * 2 / 3) / 101
    )


def test_crowds_neither_reward_nor_punish():
    truth = [picture([A], crowd=[[60, 0, 100, 100]])]
    assert ap(truth, [found([FAR, A], [0.9, 0.8])]).value == pytest.approx(1)


def test_classes_are_averaged_and_those_that_do_not_occur_left_out():
    truth = [picture([A, B], [0, 1])]
    assert ap(truth, [found([A], [0.9], [0])], labels=("a", "b", "c")).value == pytest.approx(0.5)


def test_at_most_a_hundred_boxes_a_picture_count():
    boxes = [FAR] * 100 + [A]
    assert ap([picture([A])], [found(boxes, np.linspace(1, 0.1, 101))]).value == 0


def test_no_truth_at_all_is_no_data():
    with pytest.raises(DataError, match="no labelled boxes"):
        ap([picture([])], [found([A], [0.5])])


def plain_ap(truth, detections, iou=0.5):
    """One class, no crowds: greedy matching by score, 101 recall points (the COCO definition)."""
    from edgeai.stages.boxes import iou_matrix

    marks, total = [], 0
    for (boxes, *_), dets in zip(truth, detections, strict=True):
        total += len(boxes)
        free = set(range(len(boxes)))
        overlaps = iou_matrix(dets.xyxy_px, boxes) if len(boxes) and len(dets) else None
        for index in np.argsort(-dets.scores, kind="stable"):
            best = max(free, key=lambda g: overlaps[index, g], default=None) if overlaps is not None else None
            hit = best is not None and overlaps[index, best] >= iou
            if hit:
                free.discard(best)
            marks.append((float(dets.scores[index]), hit))
    marks.sort(key=lambda mark: -mark[0])
    hits = np.cumsum([hit for _, hit in marks])
    recall, precision = hits / total, hits / np.arange(1, len(marks) + 1)
    points = [precision[recall >= point - 1e-12].max(initial=0.0) for point in np.linspace(0, 1, 101)]
    return float(np.mean(points))


@pytest.mark.parametrize("seed", range(8))
def test_random_scenes_agree_with_a_plain_computation(seed):
    rng = np.random.default_rng(seed)
    truth, detections = [], []
    for _ in range(12):
        corners = rng.uniform(0, 60, (rng.integers(1, 6), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 40, corners.shape)], 1)
        near = boxes + rng.normal(0, 4, boxes.shape)
        strange = np.concatenate([c := rng.uniform(0, 60, (3, 2)), c + rng.uniform(10, 40, (3, 2))], 1)
        all_found = np.concatenate([near, strange])
        truth.append(picture(boxes))
        detections.append(found(all_found, rng.permutation(1000)[: len(all_found)] / 1000))
    got = ap(truth, detections)
    assert got.value == pytest.approx(plain_ap(truth, detections), abs=0.005)
    assert got.ci95[0] <= got.value <= got.ci95[1]
    assert 0 <= got.ci95[0] < got.ci95[1] <= 1


def test_the_interval_narrows_with_more_data():
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 2000):
        right = rng.random(n) < 0.8
        low, high = bootstrap_ci95(n, lambda picks, right=right: float(right[picks].mean()))
        assert low <= right.mean() <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 4


def test_the_interval_is_about_the_binomial_one():
    right = np.arange(1000) < 700
    low, high = bootstrap_ci95(1000, lambda picks: float(right[picks].mean()))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert low == pytest.approx(0.7 - half, abs=0.01)
    assert high == pytest.approx(0.7 + half, abs=0.01)


def test_splits_never_lose_or_double_a_picture():
    from pathlib import Path

    from compress.data.detection import LabelledPicture

    empty = np.empty((0, 4), np.float32)
    pictures = tuple(
        LabelledPicture(Path(f"{n}.jpg"), 9, 9, empty, np.empty(0, np.int32), np.empty(0, np.float32), empty)
        for n in range(50)
    )
    whole = DetectionSet(("a",), pictures)
    for parts in (whole.split(0.2), whole.split_in_order(0.2)):
        assert len(parts[0]) + len(parts[1]) == 50
        assert {p.path for part in parts for p in part.pictures} == {p.path for p in pictures}
    assert [p.path.name for p in whole.split_in_order(0.1)[1].pictures] == [f"{n}.jpg" for n in range(45, 50)]
