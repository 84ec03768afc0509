"""Intersection over union and non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TINY = np.finfo(np.float32).tiny
_BLOCK = 128


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
    # where nothing is shared the quotient is 0 whatever the union; tiny keeps 0 / 0 out
    np.maximum(union, _TINY, out=union)
    shared /= union
    return np.minimum(shared, 1.0, out=shared)


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
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)[order]
    ids = None if agnostic else np.asarray(class_ids)[order]
    kept: list[int] = []
    # blocks of falling score: each meets the boxes kept so far, then itself; the end comes early at `limit`
    for start in range(0, len(order), _BLOCK):
        if len(kept) >= limit:
            break
        block = slice(start, min(start + _BLOCK, len(order)))
        alive = (1 << (block.stop - start)) - 1
        if kept:
            beaten = _rivals(boxes, ids, kept, block, iou_threshold).any(axis=0)
            alive &= ~_as_bits(np.atleast_2d(beaten))[0]
        # a row's bits are the boxes that it overlaps: one operation on a whole number suppresses all of them
        for index, rivals in enumerate(_as_bits(_rivals(boxes, ids, block, block, iou_threshold))):
            if alive >> index & 1:
                alive &= ~(rivals >> (index + 1) << (index + 1))  # only worse ones
                kept.append(start + index)
    return np.asarray(order[kept[: max(limit, 0)]], np.intp)


def _rivals(
    boxes: NDArray[np.float32],
    ids: NDArray[np.int32] | None,
    a: slice | list[int],
    b: slice,
    iou_threshold: float,
) -> NDArray[np.bool_]:
    rivals = iou_matrix(boxes[a], boxes[b]) > iou_threshold
    if ids is not None:
        rivals &= ids[a][:, None] == ids[b][None, :]
    return rivals


def _as_bits(rows: NDArray[np.bool_]) -> list[int]:
    """Each row as a whole number, its first column the lowest bit."""
    packed = np.packbits(rows, axis=1, bitorder="little")
    size, content = packed.shape[1], packed.tobytes()
    return [int.from_bytes(content[start : start + size], "little") for start in range(0, len(content), size)]
