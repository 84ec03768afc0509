"""Counting lines against an oracle in exact fractions, and against walks whose answer is known beforehand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeai.stages.rules import LineRule, LineSettings, Scene
from edgeai.types import Detections

SIDE = 64
GRID = st.tuples(st.integers(0, SIDE), st.integers(0, SIDE))


def run(path, a, b, hysteresis) -> tuple[int, int]:
    """Counts of one track along `path`, grid points of a frame of 64 x 64 px."""
    settings = LineSettings(
        name="x",
        a=(a[0] / SIDE, a[1] / SIDE),
        b=(b[0] / SIDE, b[1] / SIDE),
        hysteresis=hysteresis,
        anchor="centre",
    )
    rule = LineRule(settings, labels=("p",))
    for step, (x, y) in enumerate(path):
        boxes = np.array([[x - 1, y - 1, x + 1, y + 1]], np.float32)
        tracks = Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int32), np.ones(1, np.int64))
        rule.update(Scene(tracks, SIDE, SIDE, step / 10, "s"))
    totals = rule.totals()
    return totals["in"], totals["out"]


def oracle(path, a, b, clear_px) -> tuple[int, int]:
    """Sides by the sign of a determinant, distance by its square, passages by Cramer's rule; all exact."""
    ux, uy = b[0] - a[0], b[1] - a[1]
    turns = [ux * (y - a[1]) - uy * (x - a[0]) for x, y in path]
    believed = [
        k for k, turn in enumerate(turns) if turn * turn > Fraction(clear_px) ** 2 * (ux * ux + uy * uy)
    ]
    counted = {1: 0, -1: 0}
    for here, there in itertools.pairwise(believed):
        side = 1 if turns[there] > 0 else -1
        if turns[here] * side > 0:
            continue
        net = 0
        for k in range(here, there):
            if (turns[k] > 0) == (turns[k + 1] > 0):
                continue
            dx, dy = path[k + 1][0] - path[k][0], path[k + 1][1] - path[k][1]
            # a + s * u = path[k] + t * d
            wx, wy = path[k][0] - a[0], path[k][1] - a[1]
            s = Fraction(dx * wy - dy * wx, dx * uy - dy * ux)
            assume(s not in (0, 1))  # through the very end: rounding may decide
            if 0 < s < 1:
                net += 1 if turns[k + 1] > 0 else -1
        counted[side] += net * side > 0
    return counted[1], counted[-1]


@given(
    st.lists(GRID, min_size=1, max_size=25),
    GRID,
    GRID,
    st.sampled_from([Fraction(0), Fraction(3, 10), Fraction(17, 10), Fraction(51, 10)]),
)
def test_counts_are_those_of_exact_arithmetic(path, a, b, clear_px):
    assume(a != b)
    # as a fraction of 64 px no threshold falls on a grid point's distance, but for 0 on the line itself
    assert run(path, a, b, float(clear_px) / SIDE) == oracle(path, a, b, clear_px)


@given(
    st.lists(st.sampled_from(["over", "stay", "stop", "round"]), max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_walks_with_jitter_stops_and_ways_round_count_as_they_were_made(steps, seed):
    """A line across the middle from x 16 to 48; jitter of up to 1 px stays below the hysteresis of 2 px."""
    rng = np.random.default_rng(seed)
    side, path, wanted = 1, [], {1: 0, -1: 0}

    def go(x: float, y: float, n: int) -> None:
        last = path[-1] if path else (x, y)
        shares = np.linspace(0, 1, n + 1)[1:]
        path.extend((last[0] + share * (x - last[0]), last[1] + share * (y - last[1])) for share in shares)

    go(32, 32 + 20 * side, 1)
    for step in steps:
        if step == "over":
            go(rng.uniform(20, 44), 32, int(rng.integers(1, 6)))
            side = -side
            go(rng.uniform(20, 44), 32 + 20 * side, int(rng.integers(1, 6)))
            wanted[side] += 1
        elif step == "stop":
            x = rng.uniform(20, 44)
            go(x, 32, int(rng.integers(1, 6)))
            go(x, 32, int(rng.integers(1, 20)))
            go(x, 32 + 20 * side, int(rng.integers(1, 6)))
        elif step == "round":
            go(58, 32 + 20 * side, int(rng.integers(1, 6)))
            side = -side
            go(58, 32 + 20 * side, int(rng.integers(1, 6)))
            go(32, 32 + 20 * side, int(rng.integers(1, 6)))
        else:
            go(rng.uniform(20, 44), 32 + 20 * side, int(rng.integers(1, 6)))
    noisy = [(x + rng.uniform(-0.7, 0.7), y + rng.uniform(-0.7, 0.7)) for x, y in path]
    assert run(noisy, (16, 32), (48, 32), 2 / SIDE) == (wanted[1], wanted[-1])
