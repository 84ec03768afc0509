"""Intersection over union and non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def iou_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every box of `a` (N, 4) with every box of `b` (M, 4), as (N, M) float32, 0..1.

    Boxes are x1 y1 x2 y2 on one scale, pixels or fractions. A box without area (x2 <= x1 or y2 <= y1) has IoU 0.

    >>> a = np.array([[0, 0, 2, 2]], np.float32)
    >>> iou_matrix(a, np.array([[1, 0, 3, 2], [0, 0, 2, 2]], np.float32)).round(3).tolist()
    [[0.3330000042915344, 1.0]]
    """
    a, b = np.asarray(a, np.float32).reshape(-1, 4), np.asarray(b, np.float32).reshape(-1, 4)
    width = np.minimum(a[:, 2, None], b[None, :, 2])
    width -= np.maximum(a[:, 0, None], b[None, :, 0])
    height = np.minimum(a[:, 3, None], b[None, :, 3])
    height -= np.maximum(a[:, 1, None], b[None, :, 1])
    np.maximum(width, 0.0, out=width)
    np.maximum(height, 0.0, out=height)
    shared = width
    shared *= height
    union = area(a)[:, None] + area(b)[None, :]
    union -= shared
    result = np.zeros_like(shared)
    np.divide(shared, union, out=result, where=(shared > 0.0) & (union > 0.0))
    return np.minimum(result, 1.0, out=result)


def area(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas (N,) of boxes (N, 4); 0 for a box turned inside out."""
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], np.float32(0.0))
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def nms(
    xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    *,
    iou_threshold: float,
    agnostic: bool = False,
    limit: int = 300,
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: indices (K,) of the boxes kept, best score first, at most `limit`.

    xyxy: (N, 4); scores: (N,); class_ids: (N,). A box goes where a better one of its class (of any class if
    `agnostic`) overlaps it with IoU > iou_threshold. Equal scores keep their order, so that a run repeats exactly.
    """
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    boxes = np.asarray(xyxy, np.float32)[order]
    rivals = iou_matrix(boxes, boxes) > iou_threshold
    if not agnostic:
        ids = np.asarray(class_ids)[order]
        rivals &= ids[:, None] == ids[None, :]
    rivals = np.triu(rivals, 1)
    alive = np.ones(len(order), np.bool_)
    # only boxes that overlap a worse one can suppress: the loop is over those, not over all
    for index in np.flatnonzero(rivals.any(axis=1)):
        if alive[index]:
            alive &= ~rivals[index]
    return np.asarray(order[alive][:limit], np.intp)
