"""Points, lines and polygons on a frame, as fractions of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Float = NDArray[np.float64]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Point: TypeAlias = tuple[Fraction, Fraction]
"""x and y as fractions of the frame's width and height, from the top left."""

Anchor: TypeAlias = Literal["bottom", "centre", "top"]
"""The point of a box that stands for the object: the middle of its lower edge (feet, wheels), of it, of its top."""

_ANCHOR_Y: dict[Anchor, float] = {"bottom": 1.0, "centre": 0.5, "top": 0.0}


def anchor_points(xyxy_px: NDArray[np.float32], anchor: Anchor, width_px: int, height_px: int) -> Float:
    """The boxes' (N, 4) anchors as (N, 2) fractions of a frame of width_px x height_px."""
    boxes = xyxy_px.astype(np.float64)
    share = _ANCHOR_Y[anchor]
    x = (boxes[:, 0] + boxes[:, 2]) / (2.0 * width_px)
    y = (boxes[:, 1] * (1.0 - share) + boxes[:, 3] * share) / height_px
    return np.stack([x, y], axis=1)


def box_fractions(xyxy_px: NDArray[np.float32], width_px: int, height_px: int) -> list[float]:
    """One box (4,) as fractions x1 y1 x2 y2 of the frame, to four places, for an event."""
    sides = np.array((width_px, height_px) * 2, np.float64)
    return [round(value, 4) for value in (xyxy_px / sides).tolist()]


def signed_distance(points: Float, a: Float, b: Float) -> Float:
    """Distances (N,) of points (N, 2) from the endless line through a and b (2,).

    Positive on the right of one who goes from a to b, as the picture is seen (y points down).
    """
    along = b - a
    offset = points - a
    return np.asarray((along[0] * offset[:, 1] - along[1] * offset[:, 0]) / np.hypot(along[0], along[1]))


def position_along(points: Float, a: Float, b: Float) -> Float:
    """Where the feet (N,) of the perpendiculars from points (N, 2) lie between a (0.0) and b (1.0)."""
    along = b - a
    return np.asarray((points - a) @ along / (along @ along))


def inside_polygon(points: Float, polygon: Float) -> NDArray[np.bool_]:
    """Which of the points (N, 2) lie in the polygon (V, 2), by the even-odd rule.

    Half-open at the edges: of two polygons that share an edge, a point on it is in exactly one.
    """
    x, y = points[:, 0, None], points[:, 1, None]
    x1, y1 = polygon[:, 0], polygon[:, 1]
    x2, y2 = np.roll(x1, -1), np.roll(y1, -1)
    spans = (y1 > y) != (y2 > y)
    rise = np.where(y1 == y2, 1.0, y2 - y1)
    left_of_edge = x < (x2 - x1) * (y - y1) / rise + x1
    return np.asarray(np.count_nonzero(spans & left_of_edge, axis=1) % 2 == 1)


def distance_to_outline(points: Float, polygon: Float) -> Float:
    """Distances (N,) of points (N, 2) from the nearest point of the polygon's (V, 2) outline."""
    start = polygon[None, :, :]
    along = np.roll(polygon, -1, axis=0)[None, :, :] - start
    offset = points[:, None, :] - start
    length = np.maximum((along * along).sum(axis=2), np.finfo(np.float64).tiny)
    share = np.clip((offset * along).sum(axis=2) / length, 0.0, 1.0)
    gap = offset - share[:, :, None] * along
    return np.asarray(np.sqrt((gap * gap).sum(axis=2)).min(axis=1))


def polygon_area(polygon: Float) -> float:
    """Area by the shoelace formula; 0 for a polygon folded flat."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2.0)
