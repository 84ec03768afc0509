"""An object put into a picture where the surroundings fit: found by its rim, levelled to it, faded in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data.synthesize.crops import BOX_SHARE

Image = NDArray[np.uint8]
# Compared at a scale where the crop is about so large: enough to see the rim, and fast.
SEARCH_PX = 24
# So many of the best fitting places to choose from: the very best would always be the same.
CHOICE = 30
MAX_LEVEL = 40.0  # grey levels that a crop is made lighter or darker at most
MAX_SHARE = 0.9  # of the picture's side that a crop may fill


@dataclass(frozen=True, slots=True)
class Window:
    """Where a crop goes in a picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, picture: Image) -> Image:
        """The pixels that are there, a view."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]

    @property
    def box_px(self) -> NDArray[np.float32]:
        """Where an object in the middle BOX_SHARE lies, xyxy (4,)."""
        margin_x, margin_y = (side * (1 - BOX_SHARE) / 2 for side in (self.width, self.height))
        return np.array(
            [
                self.x + margin_x,
                self.y + margin_y,
                self.x + self.width - margin_x,
                self.y + self.height - margin_y,
            ],
            np.float32,
        )


def find_window(
    picture: Image,
    crop: Image,
    sides_px: Sequence[float],
    taken_px: NDArray[np.float32],
    *,
    rng: np.random.Generator,
) -> Window | None:
    """One of the places whose rim looks most like the crop's, or None where there is no room.

    picture: (H, W, 3) uint8. crop: (s, s, 3) uint8, its object in the middle BOX_SHARE. sides_px: the width and height that
    the object shall have. taken_px: (N, 4) boxes that the window must not touch.
    """
    import cv2

    height, width = picture.shape[:2]
    crop_w, crop_h = (max(8, round(float(side) / BOX_SHARE)) for side in sides_px)
    if crop_w > MAX_SHARE * width or crop_h > MAX_SHARE * height:
        return None
    patch = np.asarray(cv2.resize(crop, (crop_w, crop_h), interpolation=cv2.INTER_AREA), np.uint8)
    place = _find_place(picture, patch, taken_px, rng)
    return None if place is None else Window(*place, crop_w, crop_h)


def blend_crop(picture: Image, window: Window, crop: Image) -> Image:
    """A copy of the picture with the crop (s, s, 3) uint8 in the window, made as light as its rim, faded in."""
    import cv2

    under = window.of(picture).astype(np.float32)
    patch = cv2.resize(crop, (window.width, window.height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    rim = _rim(window.height, window.width)
    # as light as what lies there; a shift of each colour by itself would tint the object
    level = np.clip((under - patch)[rim].mean(), -MAX_LEVEL, MAX_LEVEL)
    return _with(picture, window, under + fade(window.height, window.width) * (patch + level - under))


def blend_layer(picture: Image, window: Window, layer: NDArray[np.float32]) -> Image:
    """A copy of the picture with a drawn layer (s, s, 4), BGR 0..255 and opacity 0..1, over the window."""
    import cv2

    under = window.of(picture).astype(np.float32)
    # colours weighted by their opacity, or what is not to be seen would bleed in from the edges
    weighted = np.concatenate((layer[..., :3] * layer[..., 3:], layer[..., 3:]), axis=-1)
    large = cv2.resize(weighted, (window.width, window.height), interpolation=cv2.INTER_CUBIC)
    opacity = np.clip(large[..., 3:], 0, 1)
    return _with(picture, window, under * (1 - opacity) + large[..., :3])


def _with(picture: Image, window: Window, pixels: NDArray[np.float32]) -> Image:
    out = picture.copy()
    window.of(out)[:] = np.clip(np.rint(pixels), 0, 255)
    return out


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
    best = np.argpartition(cost, min(CHOICE, free, cost.size - 1), axis=None)[: min(CHOICE, free)]
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


def fade(height: int, width: int) -> NDArray[np.float32]:
    """(height, width, 1): 1 over the object and a little round it, a cosine down to 0 at the edge."""

    def ramp(count: int) -> NDArray[np.float32]:
        middle = (np.arange(count) + 0.5) / count
        from_edge = np.minimum(middle, 1 - middle) / ((1 - BOX_SHARE) / 2 * 0.8)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.minimum(from_edge, 1)), np.float32)

    return np.asarray(ramp(height)[:, None, None] * ramp(width)[None, :, None], np.float32)
