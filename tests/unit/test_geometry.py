from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.stages import geometry


def points(*rows) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 2)


def test_right_of_the_way_is_positive():
    a, b = np.array([0.0, 0.0]), np.array([1.0, 0.0])
    # from left to right on the screen, below (y down) is to the right
    np.testing.assert_allclose(
        geometry.signed_distance(points((0.5, 0.3), (7, -2), (3, 0)), a, b), [0.3, -2, 0]
    )


def test_anchors():
    box = np.array([[10, 20, 30, 60]], np.float32)
    for anchor, y in (("bottom", 0.6), ("centre", 0.4), ("top", 0.2)):
        np.testing.assert_allclose(geometry.anchor_points(box, anchor, 200, 100), [[0.1, y]])


def test_a_point_on_a_shared_edge_is_in_one_polygon():
    left, right = points((0, 0), (0.5, 0), (0.5, 1), (0, 1)), points((0.5, 0), (1, 0), (1, 1), (0.5, 1))
    on_edge = points((0.5, 0.25), (0.5, 0.5))
    inside = geometry.inside_polygon(on_edge, left).astype(int) + geometry.inside_polygon(on_edge, right)
    assert inside.tolist() == [1, 1]


COORDINATE = st.integers(0, 12)
POINT = st.tuples(COORDINATE, COORDINATE)


@given(st.lists(POINT, min_size=3, max_size=7), POINT)
def test_inside_is_an_odd_number_of_crossings_of_a_ray(polygon, point):
    x, y = point[0] + 0.25, point[1] + 0.25  # no vertex, and no ray through one
    crossings = 0
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 < y) != (y2 < y):
            at = x1 + (y - y1) / (y2 - y1) * (x2 - x1)
            if at == x:
                return  # on the edge
            crossings += at > x
    assert geometry.inside_polygon(points((x, y)), points(*polygon))[0] == (crossings % 2 == 1)


@given(st.lists(POINT, min_size=3, max_size=7, unique=True), POINT)
def test_distance_is_that_of_the_nearest_of_many_points(polygon, point):
    corners = points(*polygon)
    shares = np.linspace(0, 1, 201)[:, None]
    outline = np.concatenate(
        [a + shares * (b - a) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
    )
    nearest = np.hypot(*(outline - point).T).min()
    assert geometry.distance_to_outline(points(point), corners)[0] == pytest.approx(nearest, abs=0.05)


def test_area():
    assert geometry.polygon_area(points((0, 0), (2, 0), (2, 1), (0, 1))) == 2
    assert geometry.polygon_area(points((0, 0), (1, 1), (0.5, 0.5))) == 0
