"""What a grid detector should say at each cell, given boxes: the assignment of boxes to strides and cells.

A box belongs to the strides whose size range holds its longer side (ranges overlap by half, so that no size falls
between two), there to the cells within 1.5 cells of its centre (centre sampling, Tian et al. 2019, "FCOS"). Where boxes
meet in a cell, the smaller wins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CENTRE_RADIUS = 1.5
SIDE_PER_STRIDE = (3.0, 10.0)
Map = NDArray[np.float32]


def stride_ranges(strides: Sequence[int]) -> list[tuple[float, float]]:
    """Pixel ranges of a box's longer side for each stride; the first begins at 0, the last has no end.

    >>> stride_ranges([8, 16])
    [(0.0, 80.0), (48.0, inf)]
    """
    low, high = SIDE_PER_STRIDE
    ranges = [(s * low, s * high) for s in strides]
    ranges[0] = (0.0, ranges[0][1])
    ranges[-1] = (ranges[-1][0], float("inf"))
    return ranges


def grid_targets(
    xyxy_px: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    scores: NDArray[np.float32],
    crowd_px: NDArray[np.float32],
    *,
    height: int,
    width: int,
    classes: int,
    strides: Sequence[int],
) -> dict[str, Map]:
    """The assignment for one picture of height x width pixels.

    xyxy_px: (N, 4). class_ids: (N,) below `classes`. scores: (N,) 0..1, how sure the label is. crowd_px: (M, 4) regions
    where nothing is to be learnt. Returns per stride: score_<s> (h, w, classes) 0..1, box_<s> (h, w, 4) xyxy pixels,
    weight_<s> (h, w, 1): 0 = ignore; h and w are height and width divided by the stride.
    """
    targets: dict[str, Map] = {}
    sides = np.maximum(xyxy_px[:, 2] - xyxy_px[:, 0], xyxy_px[:, 3] - xyxy_px[:, 1])
    areas = (xyxy_px[:, 2] - xyxy_px[:, 0]) * (xyxy_px[:, 3] - xyxy_px[:, 1])
    for stride, (low, high) in zip(strides, stride_ranges(strides), strict=True):
        rows, columns = height // stride, width // stride
        score = np.zeros((rows, columns, classes), np.float32)
        box = np.zeros((rows, columns, 4), np.float32)
        weight = np.ones((rows, columns, 1), np.float32)
        for x1, y1, x2, y2 in crowd_px / stride:
            weight[max(0, int(y1)) : max(0, int(np.ceil(y2))), max(0, int(x1)) : max(0, int(np.ceil(x2)))] = 0
        mine = np.flatnonzero((sides >= low) & (sides < high))
        for index in mine[np.argsort(-areas[mine], kind="stable")]:
            x1, y1, x2, y2 = (float(v) for v in xyxy_px[index] / stride)
            rows_in = _cells((y1 + y2) / 2, y1, y2, rows)
            columns_in = _cells((x1 + x2) / 2, x1, x2, columns)
            score[rows_in, columns_in] = 0
            score[rows_in, columns_in, class_ids[index]] = scores[index]
            box[rows_in, columns_in] = xyxy_px[index]
            weight[rows_in, columns_in] = 1
        targets[f"score_{stride}"], targets[f"box_{stride}"], targets[f"weight_{stride}"] = score, box, weight
    return targets


def _cells(centre: float, begin: float, end: float, count: int) -> slice:
    """Cells whose middle is within the radius of `centre` and inside the box; at least the one that holds it."""
    low = max(centre - CENTRE_RADIUS, begin)
    high = min(centre + CENTRE_RADIUS, end)
    first, last = int(np.ceil(low - 0.5)), int(np.floor(high - 0.5))
    if last < first:
        first = last = int(centre)
    return slice(min(max(first, 0), count - 1), min(max(last, 0), count - 1) + 1)
