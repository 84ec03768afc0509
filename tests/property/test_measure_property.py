"""What holds for every model and data set: order does not matter, truth is perfect, nothing differs from itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compress.measure.matches import COCO_IOUS, match_boxes
from compress.measure.metric import group_numbers, wilson_ci95
from compress.measure.pairs import paired_difference
from compress.measure.ranking import roc_auc
from compress.measure.thresholds import best_threshold, threshold_curve
from edgeai.types import Detections

pytestmark = pytest.mark.compress

SEEDS = st.integers(0, 2**32 - 1)


def scene(seed, *, classes=2, pictures=6, crowds=False):
    """(truth, found): boxes near the true ones and boxes anywhere, all scores different."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    scores = iter(rng.permutation(2000) / 2000)
    for _ in range(pictures):
        n = int(rng.integers(0, 5))
        corner = rng.uniform(0, 70, (n, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(3, 90, (n, 2))], 1).astype(np.float32)
        ids = rng.integers(0, classes, n).astype(np.int32)
        near = boxes + rng.normal(0, 5, boxes.shape)
        stray = np.concatenate([c := rng.uniform(0, 70, (3, 2)), c + rng.uniform(3, 60, (3, 2))], 1)
        said = np.concatenate([near, stray]).astype(np.float32)
        said[:, 2:] = np.maximum(said[:, 2:], said[:, :2] + 1)
        said_ids = np.concatenate([ids, rng.integers(0, classes, 3)]).astype(np.int32)
        crowd = stray[:1].astype(np.float32) if crowds else np.empty((0, 4), np.float32)
        truth.append((boxes, ids, crowd, 160, 160))
        found.append(Detections(said, np.array([next(scores) for _ in said], np.float32), said_ids))
    return truth, found


def average(truth, found, ious=(0.5,)):
    return match_boxes(truth, found, classes=2, ious=ious)["all"].average()


@settings(max_examples=25)
@given(SEEDS)
def test_the_order_of_the_pictures_does_not_matter(seed):
    truth, found = scene(seed)
    order = np.random.default_rng(seed).permutation(len(truth))
    there, back = average(truth, found), average([truth[i] for i in order], [found[i] for i in order])
    assert there == pytest.approx(back, nan_ok=True)


@settings(max_examples=25)
@given(SEEDS)
def test_the_truth_itself_is_perfect(seed):
    truth, _ = scene(seed)
    found = [Detections(b, np.ones(len(b), np.float32), k) for b, k, *_ in truth]
    assume(sum(len(b) for b, *_ in truth))
    assert average(truth, found, COCO_IOUS) == pytest.approx(1)


@settings(max_examples=25)
@given(SEEDS, st.booleans())
def test_our_average_is_the_librarys(seed, crowds):
    from pycocotools import cocoeval

    truth, found = scene(seed, crowds=crowds)
    assume(sum(len(b) for b, *_ in truth))
    kept = []
    evaluate = cocoeval.COCOeval.evaluate

    def keep(self):
        evaluate(self)
        kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cocoeval.COCOeval, "evaluate", keep)
        tables = match_boxes(
            truth, found, classes=2, ious=COCO_IOUS, sizes={"small": (0, 900), "large": (900, 1e9)}
        )
    kept[0].accumulate()
    precision = kept[0].eval["precision"]
    for number, matches in enumerate(tables.values()):
        theirs = precision[:, :, :, number, 0]
        assert matches.average() == pytest.approx(
            theirs[theirs > -1].mean() if (theirs > -1).any() else np.nan, nan_ok=True
        )


@settings(max_examples=20)
@given(SEEDS)
def test_a_picture_picked_twice_counts_as_two(seed):
    truth, found = scene(seed, pictures=4)
    picks = np.random.default_rng(seed).integers(0, 4, 6)
    matches = match_boxes(truth, found, classes=2)["all"]
    # equal scores of the copies come next to each other in both
    doubled = average([truth[i] for i in picks], [found[i] for i in picks])
    assert matches.average(picks) == pytest.approx(doubled, nan_ok=True)


@settings(max_examples=20)
@given(SEEDS, st.booleans())
def test_a_model_does_not_differ_from_itself(seed, grouped):
    truth, found = scene(seed, pictures=24)
    assume(sum(len(b) for b, *_ in truth))
    matches = match_boxes(truth, found, classes=2)["all"]
    groups = group_numbers([f"site {i // 2}" for i in range(24)]) if grouped else None
    gap = paired_difference(24, matches.average, matches.average, groups=groups, rounds=20)
    assert (gap.value, gap.ci95, gap.seen) == (0.0, (0.0, 0.0), False)


@given(
    SEEDS,
    st.integers(1, 200),
    st.floats(0.05, 1.0),
    st.booleans(),
    st.integers(0, 3),
)
def test_a_threshold_reaches_its_precision_on_the_data(seed, n, precision, sure, digits):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), digits)
    right = rng.random(n) < scores
    point = best_threshold(scores, right, wanted=n, precision=precision, lower_bound=sure)
    if point.threshold is None:
        curve = threshold_curve(scores, right, wanted=n)
        assert ((curve.precision_low() if sure else curve.precision) < precision).all()
        return
    said = scores >= point.threshold
    assert said.sum() == point.n
    assert right[said].mean() == pytest.approx(point.precision)
    assert (point.precision_low if sure else point.precision) >= precision
    assert point.precision_low <= point.precision
    # any lower threshold that changes something is not precise enough
    for lower in np.unique(scores[scores < point.threshold]):
        kept = scores >= lower
        bound = wilson_ci95(right[kept].sum(), kept.sum())[0] if sure else right[kept].mean()
        # the two-sided bound lies below the one-sided
        assert bound < precision + 1e-12


@given(SEEDS, st.integers(2, 80))
def test_turning_scores_round_turns_auc_round(seed, n):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 9, n), rng.random(n) < 0.5
    assume(positive.any() and not positive.all())
    assert roc_auc(scores, positive) + roc_auc(-scores, positive) == pytest.approx(1)
    assert roc_auc(scores * 3.0 + 1, positive) == pytest.approx(roc_auc(scores, positive))
