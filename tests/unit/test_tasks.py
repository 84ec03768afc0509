"""What tasks share: how often examples are drawn, how texts are spelled, which data fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipe import squares_recipe

from compress.data.spelling import spell
from compress.recipe import parse_recipe
from compress.tasks.sampling import Draw, example_shares, picture_shares
from edgeai.errors import DataError, RecipeError

LABELS = ("a", "b", "c")


def test_balanced_classes_are_drawn_alike_and_given_ones_as_given():
    ids = np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int32)
    balanced = example_shares(ids, LABELS, "balanced")
    assert balanced[ids == 0].sum() == pytest.approx(0.5)
    assert example_shares(ids, LABELS, "none") == pytest.approx(np.full(8, 1 / 8))
    assert example_shares(ids, LABELS, {"b": 3.0})[-1] == pytest.approx(3 / 12)


def test_pictures_of_rare_classes_are_drawn_more_often():
    pictures = [np.array([0], np.int32)] * 9 + [np.array([0, 1], np.int32), np.array([], np.int32)]
    shares = picture_shares(pictures, LABELS, "balanced")
    assert shares.sum() == pytest.approx(1)
    assert shares[9] / shares[0] == pytest.approx(np.sqrt(10))
    assert shares[10] == pytest.approx(shares[0])
    weighted = picture_shares(pictures, LABELS, {"b": 4.0})
    assert weighted[9] / weighted[0] == pytest.approx(4)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=20), st.integers(0, 9))
def test_draws_follow_their_shares(weights, seed):
    shares = np.array(weights) / sum(weights)
    picks = Draw(shares)(np.random.default_rng(seed), 4000)
    assert picks.min() >= 0
    assert picks.max() < len(weights)
    assert np.bincount(picks, minlength=len(weights)) / 4000 == pytest.approx(shares, abs=0.06)


def test_texts_are_spelled_longest_symbol_first():
    assert spell("on off", ("o", "n", "f", "off")) == [0, 1, 3]
    assert spell("a b", ("a", "b", " ")) == [0, 2, 1]
    assert spell("", ("a",)) == []
    with pytest.raises(DataError, match="'x'"):
        spell("axe", ("a", "e"))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"task": "classify"}, "'coco' does not fit task 'classify', which takes picture-folders"),
        ({"task": "detect", "data": {"train": [{"kind": "speech", "folder": "x"}]}}, "does not fit"),
        (
            {"data": {"train": [{"kind": "coco", "folder": "x"}], "class_weights": {"dog": 2.0}}},
            "'dog' is no label",
        ),
        (
            {"passes": [{"kind": "pretrain", "fit": {"steps": 1}}, {"kind": "quantize"}]},
            "data.unlabelled",
        ),
        (
            {
                "passes": [
                    {"kind": "train", "fit": {"steps": 1}},
                    {"kind": "pretrain", "fit": {"steps": 1}},
                    {"kind": "quantize"},
                ]
            },
            "pretrain must be the first pass",
        ),
        (
            {
                "data": {
                    "train": [{"kind": "coco", "folder": "x"}],
                    "unlabelled": [{"folder": "x", "file": "y"}],
                }
            },
            "either folder",
        ),
    ],
)
def test_data_that_does_not_fit_is_one_line(changes, told):
    with pytest.raises(RecipeError, match=told):
        parse_recipe(squares_recipe(**changes), where="here")
