"""What samples are taken to say: winner, throttling, outliers, on samples made for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.bench.statistics import (
    BLOCKS,
    block_medians,
    decide,
    outlier_share,
    paired_ratio,
    sample_warnings,
    slowed_down,
    unpaired_ratio,
)

blocks = st.lists(st.floats(0.01, 100), min_size=1, max_size=BLOCKS)


def noisy(middle, sigma, *, seed, count=BLOCKS):
    return list(middle * np.exp(np.random.default_rng(seed).normal(0, sigma, count)))


def test_a_difference_within_the_spread_has_no_winner():
    verdict = decide({"a": noisy(1.0, 0.05, seed=1), "b": noisy(1.02, 0.05, seed=2)})
    assert verdict.winner is None
    assert verdict.text.startswith("no winner: ")
    assert "differ by" in verdict.text
    assert "their spread is" in verdict.text


def test_a_difference_beyond_the_spread_has_one():
    verdict = decide(
        {
            "slow": noisy(2.0, 0.03, seed=1),
            "fast": noisy(1.0, 0.03, seed=2),
            "slowest": noisy(9.0, 0.03, seed=3),
        }
    )
    assert verdict.winner == "fast"
    assert "slow takes 2." in verdict.text
    assert set(verdict.ratios) == {"slow", "slowest"}
    low, high = verdict.ratios["slow"].low, verdict.ratios["slow"].high
    assert low < 2.0 < high


def test_noise_that_weighs_on_both_is_taken_out():
    """A machine that slows down by half in the middle of the run, and a difference of 5 %."""
    machine = np.repeat([1.0, 1.5], BLOCKS // 2)
    a, b = (machine * noisy(middle, 0.005, seed=seed) for seed, middle in enumerate((1.0, 1.05)))
    assert decide({"a": a, "b": b}).winner == "a"
    assert not unpaired_ratio(a, b).told_apart


def test_the_same_has_no_winner():
    same = [1.0] * BLOCKS
    verdict = decide({"a": same, "b": same})
    assert verdict.winner is None
    assert "differ by 0.0 %" in verdict.text


@pytest.mark.parametrize(
    ("block_ms", "says"),
    [
        ({"a": [1.0]}, "nothing to compare"),
        ({}, "nothing to compare"),
        ({"a": [1.0] * 4, "b": [9.0] * 4}, "4 blocks of calls are too few"),
    ],
)
def test_too_little_has_no_winner(block_ms, says):
    verdict = decide(block_ms)
    assert verdict.winner is None
    assert says in verdict.text


def test_a_winner_beats_all_not_only_the_next():
    noise = noisy(1.0, 0.2, seed=5)
    verdict = decide({"a": [1.0] * BLOCKS, "b": [1.1] * BLOCKS, "noisy": [1.2 * each for each in noise]})
    assert verdict.winner is None
    assert "a and noisy" in verdict.text


@given(blocks)
def test_ratios_are_finite_and_ordered(values):
    for ratio in (paired_ratio(values, values[::-1]), unpaired_ratio(values, values[::-1])):
        assert ratio.low <= ratio.high
        assert ratio.spread >= 0
        assert np.isfinite([ratio.value, ratio.low, ratio.high, ratio.spread]).all()


def test_a_ratio_turned_round_is_its_inverse():
    a, b = noisy(1.0, 0.05, seed=1), noisy(3.0, 0.05, seed=2)
    assert paired_ratio(a, b).value == pytest.approx(1 / paired_ratio(b, a).value, rel=0.02)


def test_throttling_is_a_slower_last_third():
    steady = noisy(1.0, 0.02, seed=1, count=300)
    assert slowed_down(steady) is None
    throttled = [value * (1.0 if index < 150 else 1.2) for index, value in enumerate(steady)]
    assert slowed_down(throttled) == pytest.approx(1.2, abs=0.02)
    assert slowed_down(throttled[::-1]) is None  # faster is no throttling
    assert slowed_down([1.0] * 20 + [2.0] * 5) is None  # too few
    spikes = steady[:250] + [value * (5 if index % 3 == 0 else 1) for index, value in enumerate(steady[250:])]
    assert slowed_down(spikes) is None  # outliers at the end are no throttling


def test_outliers_are_far_from_the_median():
    steady = noisy(1.0, 0.01, seed=1, count=200)
    assert outlier_share(steady) == 0
    assert outlier_share([*steady, *[2.0] * 50]) == pytest.approx(0.2)
    assert outlier_share([1.0] * 99 + [1.005]) == 0  # no deviation at all: a per cent of the median counts
    assert outlier_share([1.0] * 90 + [1.5] * 10) == pytest.approx(0.1)


def test_warnings_name_the_figure():
    told = sample_warnings("tflite/int8", [1.0] * 80 + [9.0] * 20)
    assert len(told) == 1
    assert told[0].startswith("tflite/int8: 20 % of the calls are outliers")
    assert any(
        "slower from first to last third" in line for line in sample_warnings("x", [1.0] * 50 + [1.5] * 50)
    )
    assert sample_warnings("x", [1.0] * 100) == []


def test_blocks_hold_every_sample_once():
    assert block_medians(range(1, 101)) == [each + 3.0 for each in range(0, 100, 5)]
    assert block_medians([3.0, 1.0]) == [3.0, 1.0]
