"""An object put into a picture where the surroundings fit: found by its rim, levelled to it, faded in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compress.data.synthesize.crops import BOX_SHARE

Image = NDArray[np.uint8]
# Compared at a scale where the crop is about so large: enough to see the rim, and fast.
SEARCH_PX = 24
# Of all places, the best fitting share to choose from: the very best would always be the same.
CHOICE = 0.005
MAX_LEVEL = 40.0  # grey levels that a crop is made lighter or darker at most
MAX_SHARE = 0.9  # of the picture's side that a crop may fill


def paste_crop(
    picture: Image,
    crop: Image,
    sides_px: Sequence[float],
    taken_px: NDArray[np.float32],
    *,
    rng: np.random.Generator,
) -> tuple[Image, NDArray[np.float32]] | None:
    """(a new picture, its box xyxy_px (4,)), or None where no place is free.

    picture: (H, W, 3) uint8. crop: (s, s, 3) uint8, its object in the middle BOX_SHARE. sides_px: the width and height that
    the object shall have. taken_px: (N, 4) boxes that the crop must not touch.
    """
    import cv2

    height, width = picture.shape[:2]
    crop_w, crop_h = (max(8, round(float(side) / BOX_SHARE)) for side in sides_px)
    if crop_w > MAX_SHARE * width or crop_h > MAX_SHARE * height:
        return None
    patch = np.asarray(cv2.resize(crop, (crop_w, crop_h), interpolation=cv2.INTER_CUBIC), np.uint8)
    place = _find_place(picture, patch, taken_px, rng)
    if place is None:
        return None
    x, y = place
    under = picture[y : y + crop_h, x : x + crop_w].astype(np.float32)
    rim = _rim(crop_h, crop_w)
    # as light as what lies there; a shift of each colour by itself would tint the object
    level = np.clip((under - patch)[rim].mean(), -MAX_LEVEL, MAX_LEVEL)
    alpha = _fade(crop_h, crop_w)
    blended = under + alpha * (patch + level - under)
    out = picture.copy()
    out[y : y + crop_h, x : x + crop_w] = np.clip(np.rint(blended), 0, 255)
    margin_x, margin_y = crop_w * (1 - BOX_SHARE) / 2, crop_h * (1 - BOX_SHARE) / 2
    box = np.array([x + margin_x, y + margin_y, x + crop_w - margin_x, y + crop_h - margin_y], np.float32)
    return out, box


def _find_place(
    picture: Image, patch: Image, taken_px: NDArray[np.float32], rng: np.random.Generator
) -> tuple[int, int] | None:
    """The top left corner of one of the places whose rim looks most like the patch's, clear of `taken_px`."""
    import cv2

    scale = min(1.0, SEARCH_PX / max(patch.shape[:2]))
    small = [cv2.resize(i, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for i in (picture, patch)]
    grey, pattern = (
        cv2.cvtColor(np.asarray(i, np.uint8), cv2.COLOR_BGR2GRAY).astype(np.float32) for i in small
    )
    rim = _rim(*pattern.shape).astype(np.float32)
    cost = np.asarray(cv2.matchTemplate(grey, pattern, cv2.TM_SQDIFF, mask=rim), np.float32)
    cost[~np.isfinite(cost)] = np.inf
    for x1, y1, x2, y2 in taken_px * scale:
        # every corner from which the patch would reach the box
        top, left = max(0, int(y1) - pattern.shape[0]), max(0, int(x1) - pattern.shape[1])
        cost[top : max(0, int(np.ceil(y2)) + 1), left : max(0, int(np.ceil(x2)) + 1)] = np.inf
    free = int(np.isfinite(cost).sum())
    if free == 0:
        return None
    best = np.argpartition(cost, min(free, cost.size - 1), axis=None)[:free]
    best = best[np.argsort(cost.flat[best], kind="stable")][: max(1, int(free * CHOICE))]
    row, column = np.unravel_index(int(rng.choice(best)), cost.shape)
    x = min(int(column / scale), picture.shape[1] - patch.shape[1])
    y = min(int(row / scale), picture.shape[0] - patch.shape[0])
    return x, y


def _rim(height: int, width: int) -> NDArray[np.bool_]:
    """True in the outer eighth."""
    rim = np.ones((height, width), bool)
    edge_y, edge_x = max(1, height // 8), max(1, width // 8)
    rim[edge_y:-edge_y, edge_x:-edge_x] = False
    return rim


def _fade(height: int, width: int) -> NDArray[np.float32]:
    """(height, width, 1): 1 over the object and a little round it, a cosine down to 0 at the edge."""

    def ramp(count: int) -> NDArray[np.float32]:
        middle = (np.arange(count) + 0.5) / count
        from_edge = np.minimum(middle, 1 - middle) / ((1 - BOX_SHARE) / 2 * 0.8)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.minimum(from_edge, 1)), np.float32)

    return np.asarray(ramp(height)[:, None, None] * ramp(width)[None, :, None], np.float32)
