"""Whatever is in a batch comes back from disk, close enough, in its type and place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from compress.distill.kept_batches import ABSOLUTE, RELATIVE, TARGETS, TINY, write_batches

FLOATS = st.one_of(
    st.integers(0, 255).map(float), st.floats(-1e6, 1e6, width=32), st.sampled_from([np.nan, np.inf, -1e-30])
)
LEAVES = array_shapes(min_dims=1, max_dims=3, max_side=4).flatmap(
    lambda shape: st.one_of(
        arrays(np.float32, (3, *shape), elements=FLOATS),
        arrays(np.int32, (3, *shape)),
        arrays(np.bool_, (3, *shape)),
    )
)


@settings(max_examples=30)  # each writes files
@given(
    LEAVES,
    st.one_of(LEAVES, st.dictionaries(st.sampled_from("abc"), LEAVES, min_size=1)),
    st.dictionaries(st.sampled_from(["class", "box_8"]), LEAVES),
)
def test_batches_come_back(inputs, targets, answers):
    nest = {"inputs": inputs, TARGETS: targets} | ({"teacher": answers} if answers else {})

    def part(value, number):
        return {k: part(v, number) for k, v in value.items()} if isinstance(value, dict) else value[number]

    made = [part(nest, number) for number in range(3)]
    several = iter(made)
    with tempfile.TemporaryDirectory() as folder:
        kept = write_batches(Path(folder) / "kept", "key", lambda: next(several), 3)
        for number, wanted in enumerate(made):
            check(kept.read(number), wanted, ())
        del kept


def check(told, wanted, path):
    if isinstance(wanted, dict):
        assert list(told) == list(wanted)
        for name, value in wanted.items():
            check(told[name], value, (*path, name))
        return
    assert told.dtype == wanted.dtype
    assert told.shape == wanted.shape
    if wanted.dtype != np.float32:
        np.testing.assert_array_equal(told, wanted)
    elif path[0] == TARGETS:
        np.testing.assert_allclose(told, wanted, rtol=0, atol=ABSOLUTE)
    else:
        np.testing.assert_allclose(told, wanted, rtol=RELATIVE, atol=TINY)
