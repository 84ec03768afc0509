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
    """What was drawn, made against real; root mean squares of crops shrunk to 16 x 16.

    drawn: grey levels by which drawing changed a crop. variety: mean distance from what was drawn in one crop to the most
    similar in another, as a share of `drawn`; 0 where it is always the same. novelty: mean distance from a made crop to
    the nearest real one, as a share of that between real ones: 0 where they are repeated, 1 as far as real ones are from each
    other, well above 1 where they are something else.
    """

    drawn: float
    variety: float
    novelty: float

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, a line each: the limits tell the plain failures from the rest, not good from better."""
        found = []
        if self.drawn < 3:
            found.append(
                "the network draws next to nothing: more --steps, or a class that can be seen at 32 pixels"
            )
        elif self.variety < 0.3:
            found.append(
                "the network draws one thing over and over (mode collapse): another --seed, more --steps"
            )
        if self.novelty < 0.25:
            found.append("the network repeats what it was shown: --method copy does that at no cost")
        elif self.novelty > 1.5:
            found.append("what the network draws is unlike the real ones: more --steps, or --method copy")
        return tuple(found)


def measure_likeness(real: Images, backgrounds: Images, made: Images) -> Likeness:
    """Compare real crops (N, s, s, 3) and made ones (M, s, s, 3) with what was there before; N and M at least 2.

    A mirror image counts as the same.
    """
    count = min(len(made), 400)
    made_small, before = _small(made[:count]), _small(backgrounds[:count])
    real_small, mirrored = _small(real[:400]), _small(real[:400, :, ::-1])
    change = made_small - before
    drawn = float(np.sqrt((change**2).mean()))
    own = np.minimum(_distances(real_small, real_small), _distances(real_small, mirrored))
    np.fill_diagonal(own, np.inf)
    changes = _distances(change, change)
    np.fill_diagonal(changes, np.inf)
    across = np.minimum(_distances(made_small, real_small), _distances(made_small, mirrored))
    return Likeness(
        drawn,
        float(changes.min(axis=1).mean()) / max(drawn, 1e-6),
        float(across.min(axis=1).mean()) / max(float(own.min(axis=1).mean()), 1e-6),
    )


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
