"""Metrics against plain formulas written down twice, and what they say where there is little to say."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from compress.measure.anomalies import measure_anomaly
from compress.measure.calibration import measure_calibration
from compress.measure.classes import count_confusion, measure_classes, one_score_a_label
from compress.measure.false_accepts import measure_wake_word, miss_curve
from compress.measure.metric import bootstrap_ci95, group_numbers, interval95, resamples, wilson_ci95
from compress.measure.pairs import mcnemar, paired_difference, sign_flip_p
from compress.measure.ranking import partial_auc, roc_auc, roc_curve, score_average_precision
from compress.measure.transcripts import edit_distance, measure_transcripts
from edgeai.errors import DataError

LABELS = ("a", "b", "c")


# --- classes ---------------------------------------------------------------------------------------------------------


def one_hot(said, k=3):
    return np.eye(k)[said]


def test_accuracy_and_recalls_by_hand():
    metric = measure_classes(one_hot([0, 0, 1, 2]), np.array([0, 1, 1, 2]), LABELS)
    assert (metric.name, metric.value, metric.n) == ("accuracy", 0.75, 4)
    assert metric.details["recall"] == {"a": 1.0, "b": 0.5, "c": 1.0}
    assert "without_silence" not in metric.details


def test_silence_is_told_apart():
    metric = measure_classes(one_hot([0, 0, 1]), np.array([0, 1, 1]), ("yes", "silence", "c"))
    assert metric.details["without_silence"] == 1.0


def test_confusion_gives_precision_recall_and_f1():
    table = count_confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), LABELS)
    assert table.counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert table.precision[:2] == pytest.approx([1 / 2, 2 / 3])
    assert table.recall[:2] == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan([table.precision[2], table.recall[2], table.f1[2]]).all()
    averages = table.averages()
    assert averages["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2), "c neither occurs nor is said"
    assert averages["micro_f1"] == table.accuracy == pytest.approx(3 / 5)
    assert table.worst_pairs() == [("a", "b", 1), ("b", "a", 1)]


def test_a_class_that_is_never_said_has_no_precision_but_counts_as_zero():
    table = count_confusion(np.array([0, 0]), np.array([0, 1]), LABELS)
    assert np.isnan(table.precision[1])
    assert table.averages()["macro_precision"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "scores, ids, told",
    [
        (np.zeros((0, 3)), np.zeros(0, int), "nothing to measure"),
        (np.zeros((2, 2)), np.zeros(2, int), r"\(2, 3\)"),
        (np.zeros((2, 3)), np.array([0, 3]), "0 to 2"),
        (np.array([[np.nan, 0, 0]]), np.array([0]), "no numbers"),
    ],
)
def test_scores_that_do_not_fit_are_told(scores, ids, told):
    with pytest.raises(DataError, match=told):
        measure_classes(scores, ids, LABELS)


def test_a_model_with_other_outputs_than_labels_is_told():
    assert one_score_a_label({"x": np.ones((1, 3))}, LABELS).shape == (3,)
    with pytest.raises(DataError, match="holds 4 scores, there are 3 labels"):
        one_score_a_label({"x": np.ones((1, 4))}, LABELS)
    with pytest.raises(DataError, match="gives x, state"):
        one_score_a_label({"x": np.ones(3), "state": np.ones(3)}, LABELS)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_groups_are_resampled_whole():
    groups = group_numbers([f"s{i // 5}" for i in range(100)])
    for picks in resamples(100, groups=groups, rounds=5):
        counts = np.bincount(picks, minlength=100).reshape(20, 5)
        assert (counts == counts[:, :1]).all()
        assert counts[:, 0].sum() == 20


def test_clips_of_few_speakers_widen_the_interval():
    right = np.repeat(np.random.default_rng(0).random(20) < 0.7, 50)  # a speaker is understood or not
    groups = group_numbers([f"s{i // 50}" for i in range(1000)])

    def share(picks):
        return float(right[picks].mean())

    by_clip, by_speaker = bootstrap_ci95(1000, share), bootstrap_ci95(1000, share, groups=groups)
    assert by_speaker[1] - by_speaker[0] > 4 * (by_clip[1] - by_clip[0])


@pytest.mark.parametrize(
    "groups, known",
    [
        (None, False),
        ([f"file{i}" for i in range(40)], False),
        ([f"s{i % 3}" for i in range(40)], False),
        ([f"s{i % 12}" for i in range(40)], True),
    ],
)
def test_groups_are_resampled_where_there_are_enough(groups, known):
    assert (group_numbers(groups) is not None) == known


def test_few_examples_do_not_promise_everything():
    low, high = interval95(3, lambda picks: 1.0)
    assert (round(low, 2), high) == (0.44, 1.0)
    assert interval95(3, lambda picks: 0.0)[1] > 0.5
    assert wilson_ci95(0, 0) == (0.0, 1.0)
    assert wilson_ci95(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)  # by hand from the formula
    assert math.isnan(bootstrap_ci95(3, lambda picks: math.nan)[0])


# --- two models ------------------------------------------------------------------------------------------------------


def binomial_p(fewer, total):
    return min(1.0, 2 * sum(math.comb(total, k) for k in range(fewer + 1)) / 2**total)


@pytest.mark.parametrize("only_a, only_b", [(0, 0), (0, 5), (3, 9), (10, 10), (40, 25), (0, 1200)])
def test_mcnemar_is_the_exact_binomial(only_a, only_b):
    right_a = np.array([True] * only_a + [False] * only_b + [True] * 7)
    right_b = np.array([False] * only_a + [True] * only_b + [True] * 7)
    test = mcnemar(right_a, right_b)
    assert (test.only_a, test.only_b) == (only_a, only_b)
    assert test.p == pytest.approx(binomial_p(min(only_a, only_b), only_a + only_b), rel=1e-9)


def test_mcnemar_needs_pairs():
    with pytest.raises(DataError, match="paired"):
        mcnemar(np.zeros(2, bool), np.zeros(3, bool))


def test_sign_flips_of_groups_by_all_signs():
    gains, groups = np.array([1, 1, 0, -1, 1, 1, 1.0]), np.array([0, 0, 1, 1, 2, 3, 4])
    sums = np.bincount(groups, gains)
    far = [abs(np.dot(s, sums)) >= abs(sums.sum()) for s in product((-1, 1), repeat=5)]
    assert sign_flip_p(gains, groups) == pytest.approx(np.mean(far))
    assert sign_flip_p(np.zeros(5), np.arange(5)) == 1


def test_many_groups_are_flipped_by_chance_and_never_give_zero():
    p = sign_flip_p(np.ones(60), np.arange(60))
    assert 0 < p < 0.01


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(1)
    hard = rng.random(400)
    first, second = hard < 0.70, hard < 0.73
    gap = paired_difference(400, lambda p: float(first[p].mean()), lambda p: float(second[p].mean()))
    alone = bootstrap_ci95(400, lambda p: float(first[p].mean()))
    assert gap.value == pytest.approx(second.mean() - first.mean())
    assert gap.ci95[0] <= gap.value <= gap.ci95[1]
    assert gap.ci95[1] - gap.ci95[0] < (alone[1] - alone[0]) / 2
    assert gap.seen


# --- scores of two kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_auc_counts_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 8, 60) / 8, rng.random(60) < 0.4
    wins = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert roc_auc(scores, positive) == pytest.approx(np.mean(wins))
    x, y = roc_curve(scores, positive)
    assert ((np.diff(x) * (y[1:] + y[:-1])).sum() / 2) == pytest.approx(np.mean(wins))
    assert partial_auc(scores, positive, max_false=1.0) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_of_scores_sums_thresholds(seed):
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 9, 50) / 9, rng.random(50) < 0.3
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        said = scores >= threshold
        recall = positive[said].sum() / positive.sum()
        total += (recall - before) * positive[said].mean()
        before = recall
    assert score_average_precision(scores, positive) == pytest.approx(total)


def test_partial_auc_of_a_step_at_the_limit():
    # one of ten normal sounds is stranger than every strange one: at 10 % false alarms the curve rises straight up
    scores = np.array([*np.arange(10) / 10, 0.85, 0.85])
    positive = np.arange(12) >= 10
    assert partial_auc(scores, positive, max_false=0.1) == pytest.approx(0.0)
    assert partial_auc(scores, positive, max_false=0.2) == pytest.approx(0.5)


def test_anomalies_are_measured_by_auc():
    scores, strange = np.array([0.1, 0.2, 0.3, 0.9, 0.25]), np.array([0, 0, 0, 1, 1])
    metric = measure_anomaly(scores, strange)
    assert (metric.name, metric.n) == ("AUC", 5)
    assert metric.value == pytest.approx(5 / 6)
    assert set(metric.details) == {"AP", "pAUC"}
    for wrong in (np.zeros(5), np.ones(5)):
        with pytest.raises(DataError, match="both kinds"):
            measure_anomaly(scores, wrong)
    with pytest.raises(DataError, match="one length"):
        measure_anomaly(scores, strange[:3])
    with pytest.raises(DataError, match="no numbers"):
        measure_anomaly(np.full(5, np.nan), strange)


# --- wake words ------------------------------------------------------------------------------------------------------


def test_misses_fall_as_false_accepts_rise():
    curve = miss_curve(np.array([0.9, 0.8, 0.4]), np.array([0.85, 0.3, 0.2]), negative_hours=2.0)
    assert curve.miss_rate[0] == 1
    assert curve.miss_rate[-1] == 0
    assert (np.diff(curve.miss_rate) <= 0).all()
    assert (np.diff(curve.false_accepts) >= 0).all()
    assert curve.best(per_hour=0).miss_rate == pytest.approx(2 / 3)
    point = curve.best(per_hour=0.5)
    assert (point.false_accepts, point.miss_rate) == (1, 0.0)
    assert 0.3 < point.threshold < 0.4


def test_no_false_accept_in_an_hour_does_not_promise_none():
    point = miss_curve(np.array([0.9]), np.array([]), negative_hours=1.0).best(per_hour=0.1)
    assert (point.per_hour, point.per_hour_high, point.miss_rate) == (0, 3, 0)


def test_a_wake_word_is_told_at_the_bundles_threshold():
    metric = measure_wake_word(
        np.array([0.9, 0.7, 0.2]), np.array([0.8, 0.1]), negative_hours=0.5, threshold=0.7
    )
    assert metric.value == pytest.approx(2 / 3)
    assert metric.details == {"false_accepts": 1, "negative_hours": 0.5}


@pytest.mark.parametrize(
    "words, others, hours, told",
    [([], [0.1], 1, "no utterances"), ([0.1], [], 0, "hours"), ([np.inf], [], 1, "no numbers")],
)
def test_wake_words_need_words_and_hours(words, others, hours, told):
    with pytest.raises(DataError, match=told):
        miss_curve(np.array(words), np.array(others), negative_hours=hours)


# --- transcripts -----------------------------------------------------------------------------------------------------


def plain_distance(a, b):
    table = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, j in product(range(1, len(a) + 1), range(1, len(b) + 1)):
        table[i][j] = min(
            table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
        )
    return table[-1][-1]


def test_edit_distance_agrees_with_the_textbook_table():
    rng = np.random.default_rng(0)
    for _ in range(60):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(2))
        assert edit_distance(a, b) == plain_distance(a, b)
    assert edit_distance(["turn", "on"], ["turn", "it", "on"]) == 1


def test_character_and_sentence_errors():
    said, wanted = ["turn on", "stop", ""], ["turn on", "step", "go"]
    metric = measure_transcripts(said, wanted)
    assert (metric.name, metric.n) == ("CER", 3)
    assert metric.value == pytest.approx(3 / 13)
    assert metric.details == {"CER": round(3 / 13, 4), "SER": round(2 / 3, 4), "symbols": 13}
    assert measure_transcripts(said, wanted, metric="SER").value == pytest.approx(2 / 3)
    assert measure_transcripts(["aaaa"], ["b"]).value == 4, "more errors than there are letters"
    with pytest.raises(DataError, match="no texts"):
        measure_transcripts([""], [""])
    with pytest.raises(DataError, match="cannot be compared"):
        measure_transcripts(["a"], [])


# --- calibration -----------------------------------------------------------------------------------------------------


def test_scores_that_mean_what_they_say_have_no_error():
    scores = np.repeat([0.25, 0.75], 400)
    right = (
        np.tile([True, False, False, False], 100).tolist() + np.tile([True, True, True, False], 100).tolist()
    )
    made = measure_calibration(scores, np.array(right))
    assert made.error == pytest.approx(0, abs=1e-12)
    assert made.count == (400, 400)


def test_a_model_too_sure_of_itself_is_told():
    made = measure_calibration(np.full(10, 1.0), np.arange(10) < 6)
    assert made.error == pytest.approx(0.4)
    assert math.isnan(measure_calibration(np.zeros(0), np.zeros(0, bool)).error)
