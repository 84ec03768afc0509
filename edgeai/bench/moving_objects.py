"""Detections of a made-up crowd: what a tracker is timed with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeai.types import Detections

WIDTH_PX, HEIGHT_PX = 1920.0, 1080.0
_FASTEST_PX = 6.0
_JITTER_PX = 1.5
_MISSED = 0.1
_WEAK = 0.1
_FALSE = 0.05


def moving_objects(count: int, frames: int, *, seed: int = 0) -> Iterator[Detections]:
    """`count` boxes of people's shape that walk straight through 1920 x 1080 and turn at its edges, one Detections a frame.

    Each box is off by 1.5 pixels (one sigma) in every corner, missing in a tenth of the frames and of low score in another
    tenth; false boxes of a frame are a twentieth of the objects. The same for the same seed.
    """
    random = np.random.default_rng(seed)
    heights = random.uniform(40, 160, count)
    sizes = np.stack([heights * 0.4, heights], axis=1)
    span = np.array([WIDTH_PX, HEIGHT_PX])
    corners = random.uniform(0, 1, (count, 2)) * (span - sizes)
    steps = random.uniform(-_FASTEST_PX, _FASTEST_PX, (count, 2))
    for _ in range(frames):
        corners += steps
        turned = (corners < 0) | (corners + sizes > span)
        steps[turned] *= -1
        corners = np.clip(corners, 0, span - sizes)
        boxes = np.concatenate([corners, corners + sizes], axis=1)
        boxes = boxes + random.normal(0, _JITTER_PX, boxes.shape)
        scores = np.where(random.random(count) < _WEAK, 0.3, random.uniform(0.6, 0.95, count))
        seen = random.random(count) >= _MISSED
        invented = random.binomial(count, _FALSE)
        at = random.uniform(0, 1, (invented, 2)) * (span - 60)
        xyxy = np.concatenate([boxes[seen], np.concatenate([at, at + 60], axis=1)])
        all_scores = np.concatenate([scores[seen], random.uniform(0.2, 0.7, invented)])
        yield Detections(
            xyxy.astype(np.float32), all_scores.astype(np.float32), np.zeros(len(xyxy), np.int32)
        )
