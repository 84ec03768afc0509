"""Any groups, any shares: none is parted, none is lost, and the shares are met as nearly as the groups allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.grouping import allocate_groups
from edgeai.errors import DataError


@st.composite
def cases(draw):
    parts = draw(st.integers(2, 4))
    weights = np.array(draw(st.lists(st.integers(1, 9), min_size=parts, max_size=parts)), float)
    groups = draw(st.integers(parts, 40))
    classes = draw(st.integers(1, 4))
    cells = draw(st.lists(st.integers(0, 12), min_size=groups * classes, max_size=groups * classes))
    counts = np.array(cells).reshape(groups, classes)
    files = counts.sum(axis=1) + draw(st.integers(1, 3))
    return (
        np.column_stack((counts, files)).astype(np.int64),
        weights / weights.sum(),
        draw(st.integers(0, 99)),
    )


@given(cases())
@settings(max_examples=60)
def test_every_group_has_one_part_and_shares_are_within_a_group(case):
    counts, shares, seed = case
    chosen = allocate_groups(counts, shares, seed=seed)
    assert chosen.shape == (len(counts),)
    assert set(chosen.tolist()) == set(range(len(shares)))  # none is empty
    files = counts[:, -1]
    got = np.bincount(chosen, weights=files, minlength=len(shares)) / files.sum()
    # no part is empty: one that deserves less than a group gets one all the same, at the others' cost
    forced = int((shares * files.sum() < files.max()).sum())
    assert np.abs(got - shares).max() <= (1.5 + forced) * files.max() / files.sum()
    assert (allocate_groups(counts, shares, seed=seed) == chosen).all()


@given(st.integers(100, 400), st.integers(0, 9))
@settings(max_examples=15)
def test_many_small_groups_come_within_two_percent(groups, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (groups, 5))
    counts[:, -1] = counts[:, :-1].sum(axis=1) + 1
    shares = np.array([0.7, 0.2, 0.1])
    chosen = allocate_groups(counts.astype(np.int64), shares, seed=seed)
    for column in range(5):
        got = np.bincount(chosen, weights=counts[:, column], minlength=3) / counts[:, column].sum()
        assert np.abs(got - shares).max() < 0.02


def test_fewer_groups_than_parts_is_told():
    with pytest.raises(DataError, match="2 groups cannot fill 3 parts"):
        allocate_groups(np.ones((2, 1), np.int64), [0.5, 0.3, 0.2])
