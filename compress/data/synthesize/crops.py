"""Crops round the boxes of one class, and how alike they are: what a generator learns from and is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, read_picture

Images = NDArray[np.uint8]
# The box is the middle of its crop in both directions, so that the box of a made crop is known; the rest is context.
BOX_SHARE = 0.6
LARGE_BOX_PX = 40
COMPARE_PX = 16


@dataclass(frozen=True, slots=True)
class Crops:
    """images: (N, size, size, 3) uint8 BGR, the box in the middle BOX_SHARE. sides_px: (N, 2) the boxes' width, height."""

    images: Images
    sides_px: NDArray[np.float32]


def cut_crops(data: DetectionSet, class_id: int, *, size: int | None = None, min_side_px: float = 4) -> Crops:
    """Every box of a class in its pictures, but small ones and those with another box's middle in view,
    which would come along without its label. Past the picture's edge the edge is repeated.

    size: 48, or 32 where most boxes are below 40 pixels; a given one otherwise. Raises DataError for an unreadable file.
    """
    import cv2

    found = [p for p in data.pictures if (p.class_ids == class_id).any()]
    sides = [_sides(p.xyxy_px[p.class_ids == class_id]) for p in found]
    if size is None:
        size = 48 if found and np.median(np.concatenate(sides).max(axis=1)) > LARGE_BOX_PX else 32
    images, kept = [], []
    for picture, boxes_sides in zip(found, sides, strict=True):
        source = read_picture(picture.path)
        to_file = np.array(
            [source.shape[1] / picture.width, source.shape[0] / picture.height] * 2, np.float32
        )
        boxes = picture.xyxy_px[picture.class_ids == class_id] * to_file
        every = picture.xyxy_px * to_file
        middles = (every[:, :2] + every[:, 2:]) / 2
        for box, side in zip(boxes, boxes_sides, strict=True):
            reach = (box[2:] - box[:2]) / (2 * BOX_SHARE)
            seen = (np.abs(middles - (box[:2] + box[2:]) / 2) < reach).all(axis=1)
            if side.min() < min_side_px or seen.sum() > 1:
                continue
            # at its own size first: resizing by areas keeps fine detail from turning into steps
            width, height = (max(2, round(float(s))) for s in (box[2:] - box[:2]) / BOX_SHARE)
            middle = ((box[:2] + box[2:]) / 2 - 0.5).tolist()
            patch = cv2.getRectSubPix(source, (width, height), middle)
            images.append(cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA))
            kept.append(side)
    return Crops(
        np.array(images, np.uint8).reshape(-1, size, size, 3), np.array(kept, np.float32).reshape(-1, 2)
    )


def _sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return boxes[:, 2:] - boxes[:, :2]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Mean distances to the nearest other crop, in grey levels (root mean square), made against real.

    real: among the real crops. made: among as many made ones. copied: from a made crop to the nearest real one.
    """

    real: float
    made: float
    copied: float

    @property
    def diversity(self) -> float:
        """How far apart, made / real: well below 1 where the generator makes one thing over and over (mode collapse)."""
        return self.made / max(self.real, 1e-6)

    @property
    def novelty(self) -> float:
        """How far from the real ones, copied / real: near 0 where it repeats what it was shown, far above 1 where it makes something else."""
        return self.copied / max(self.real, 1e-6)

    @property
    def collapsed(self) -> bool:
        return self.diversity < 0.5

    @property
    def memorised(self) -> bool:
        return self.novelty < 0.25


def measure_likeness(real: Images, made: Images) -> Likeness:
    """Compare crops (N, s, s, 3) and (M, s, s, 3), both at least 2, shrunk to 16 x 16 so that detail does not drown shape;
    a mirror image counts as the same.
    """
    count = min(len(real), len(made), 400)
    real_small, made_small = _small(real), _small(made[:count])
    mirrored = _small(real[:, :, ::-1])
    among_real = _distances(real_small[:count], real_small[:count])
    among_made = _distances(made_small, made_small)
    for own in (among_real, among_made):
        np.fill_diagonal(own, np.inf)
    across = np.minimum(_distances(made_small, real_small), _distances(made_small, mirrored))
    return Likeness(*(float(d.min(axis=1).mean()) for d in (among_real, among_made, across)))


def _small(images: Images) -> NDArray[np.float32]:
    import cv2

    shrunk = [cv2.resize(i, (COMPARE_PX, COMPARE_PX), interpolation=cv2.INTER_AREA) for i in images]
    return np.array(shrunk, np.float32).reshape(len(images), -1)


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / a.shape[1]), np.float32)


def contact_sheet(real: Images, made: Images, *, columns: int = 16, rows: int = 4) -> Images:
    """Real crops above, a white line, made ones below; a picture (H, W, 3) uint8 BGR to look at."""
    size = real.shape[1]

    def block(images: Images) -> Images:
        tiles = np.full((rows * columns, size, size, 3), 128, np.uint8)
        count = min(len(images), len(tiles))
        tiles[:count] = images[:count]
        grid = tiles.reshape(rows, columns, size, size, 3).swapaxes(1, 2)
        return np.ascontiguousarray(grid.reshape(rows * size, columns * size, 3))

    line = np.full((4, columns * size, 3), 255, np.uint8)
    return np.concatenate((block(real), line, block(made)))
