"""The matching against every permutation there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.stages.assignment import match


def best_total(weights: np.ndarray) -> float:
    """The greatest sum over all ways to give rows different columns, or none."""
    rows, columns = weights.shape
    if rows > columns:
        weights, rows, columns = weights.T, columns, rows
    return max(
        sum(float(weights[row, column]) for row, column in enumerate(choice))
        for choice in itertools.permutations(range(columns), rows)
    )


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.6, 0.9]))
def test_the_total_is_the_greatest(rows, columns, seed, gated):
    rng = np.random.default_rng(seed)
    # few different weights: ties are where a matching goes wrong
    weights = rng.integers(1, 9, (rows, columns)).astype(np.float32) / 8
    weights[rng.random(weights.shape) < gated] = 0.0
    matched, found = match(weights)
    assert sorted(set(matched.tolist())) == matched.tolist()
    assert len(set(found.tolist())) == len(found)
    assert (weights[matched, found] > 0).all()
    assert weights[matched, found].sum() == pytest.approx(best_total(weights) if weights.size else 0.0)


def test_a_crowd_in_which_everybody_may_be_anybody():
    rng = np.random.default_rng(3)
    hidden = rng.permutation(40)
    weights = rng.uniform(0.1, 0.5, (40, 40)).astype(np.float32)
    weights[np.arange(40), hidden] = 0.9
    rows, columns = match(weights)
    assert rows.tolist() == list(range(40))
    assert columns.tolist() == hidden.tolist()


def test_nan_may_not_match():
    rows, _ = match(np.array([[np.nan, 0.0]], np.float32))
    assert len(rows) == 0
