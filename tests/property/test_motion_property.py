"""What the motion gate keeps for any picture and any time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import EdgeError
from edgeai.stages.motion import MotionGate, MotionSettings

SEED = st.integers(0, 2**32 - 1)
FRACTION = st.floats(0, 1)
SIDE = st.one_of(st.integers(1, 12), st.integers(1, 700))


@settings(max_examples=60)
@given(
    SEED,
    st.lists(st.tuples(SIDE, SIDE, st.sampled_from([1, 3, 4])), min_size=1, max_size=3),
    st.lists(st.one_of(st.floats(0, 100), st.floats(-1e300, 1e300)), min_size=1, max_size=6),
)
def test_any_picture_at_any_time_has_an_answer(seed, shapes, times):
    rng = np.random.default_rng(seed)
    gate = MotionGate(MotionSettings(masks=(((0, 0), (0.5, 0), (0.3, 1)),)))
    for time_s in times:
        shape = shapes[rng.integers(len(shapes))]
        image = rng.integers(0, 256, shape, np.uint8) if rng.random() < 0.7 else np.zeros(shape, np.uint8)
        motion = gate.update(image, time_s)
        assert 0.0 <= motion.area <= 1.0
        assert motion.look or motion.area < gate.settings.min_area
    assert gate.frames == len(times)
    assert 0 <= gate.still < len(times)


@pytest.mark.parametrize(
    "shape", [(1, 70000, 3), (70000, 1, 3), (5000, 7000, 3)], ids=["flat", "thin", "huge"]
)
def test_pictures_of_unlikely_sizes(shape):
    gate = MotionGate()
    assert gate.update(np.zeros(shape, np.uint8), 0.0).look
    assert gate.update(np.full(shape, 255, np.uint8), 10.0).look


@settings(max_examples=100)
@given(
    SEED,
    st.sampled_from(["uint8", "int8", "uint16", "float32", "float64", "bool", "complex64", "object"]),
    st.lists(st.integers(0, 5), max_size=4),
    st.floats(),
)
def test_only_edge_errors_escape(seed, dtype, shape, time_s):
    image = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    gate = MotionGate()
    for _ in range(2):
        try:
            gate.update(image, time_s)
        except EdgeError:
            continue
        assert image.dtype == np.uint8
        assert np.isfinite(time_s)


@settings(max_examples=40)
@given(SEED, st.floats(0.5, 30), st.floats(0, 5), st.lists(st.floats(0.01, 20), min_size=5, max_size=60))
def test_no_longer_than_refresh_s_without_a_look_and_never_closed_within_hold_s(
    seed, refresh_s, hold_s, gaps
):
    rng = np.random.default_rng(seed)
    gate = MotionGate(MotionSettings(hold_s=hold_s, refresh_s=refresh_s))
    image = rng.integers(0, 256, (48, 64, 3), np.uint8)
    time_s = looked_s = moved_s = before_s = 0.0
    for gap_s in gaps:
        if rng.random() < 0.1:
            image = rng.integers(0, 256, (48, 64, 3), np.uint8)
        motion = gate.update(image, time_s)
        if motion.look:
            looked_s = time_s
        else:
            assert time_s - looked_s < refresh_s
            assert time_s - moved_s > hold_s
        if motion.area >= gate.settings.min_area:
            moved_s = time_s
        before_s, time_s = time_s, time_s + gap_s
    assert before_s <= time_s
