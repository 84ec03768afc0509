"""Pictures that look the same: a hash of the lowest frequencies finds pairs, a small copy of the picture decides.

The hash is the signs of the 63 lowest DCT coefficients of the picture at 32 x 32 (Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010, with zero for the median). Signs make turning and mirroring exact:
mirroring negates the odd coefficients of one axis, transposing swaps the axes; so turned copies are found too.

The bounds are from train pictures of deeppcb, coco_people and rice_weeds. A copy that was saved at JPEG quality 20, at
half size, brighter or darker differs in at most 10 bits in 99 of 100 (rice_weeds made 30 % brighter until it saturates:
19); two different photos in at least 12.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THUMB_PX = 64
MAX_BITS = 10
# after the tones were matched: correlation of the thumbs, and the mean difference in the worst of 8 x 8 blocks. Copies
# reach 9 grey levels, frames of a fixed camera in which somebody walked at least 30, boards with other defects 23.
MIN_CORRELATION = 0.9
MAX_BLOCK_DIFFERENCE = 15.0
# a picture flatter than this (standard deviation, grey levels) has no structure to compare
MIN_SPREAD = 3.0

_BITS = 63
_BLOCK = 1024
_NEAREST = 8
# turned or mirrored: what is done to the second picture so that it matches the first
_TURNS = (
    "",
    "mirrored",
    "upside down",
    "turned by 180",
    "transposed",
    "turned by 270",
    "turned by 90",
    "transverse",
)

Signs = NDArray[np.int8]
Thumb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Pictures number first < second. copy: the same picture; else one scene with something changed in it."""

    first: int
    second: int
    copy: bool
    turn: str


def describe_picture(grey: NDArray[np.uint8]) -> tuple[Signs, Thumb, float]:
    """((63,) signs, (64, 64) thumb, standard deviation in grey levels) of an (H, W) picture."""
    import cv2

    thumb = np.asarray(cv2.resize(grey, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:8, :8].ravel()[1:]
    return np.where(waves > 0, 1, -1).astype(np.int8), thumb, float(thumb.std())


def find_lookalikes(
    signs: NDArray[np.int8],
    thumbs: NDArray[np.uint8],
    parts: NDArray[np.intp],
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> list[Lookalike]:
    """Pairs among (N, 63) signs with (N, 64, 64) thumbs; parts: (N,) the split of each.

    Of every picture the 8 nearest in each split are compared, so that a fixed camera's thousands of like pictures cost no
    more than others. advance: called with the pictures done, N in all.
    """
    found: dict[tuple[int, int], Lookalike] = {}
    members = [np.flatnonzero(parts == part) for part in np.unique(parts)]
    plain = signs.astype(np.float32)
    turned = [_turn_signs(signs, turn).astype(np.float32) for turn in range(8)]
    for own in members:
        for start in range(0, len(own), _BLOCK):
            rows = own[start : start + _BLOCK]
            for others in members:
                if others[0] > own[-1]:  # every pair once
                    continue
                for turn in range(8):
                    for a, b in _near_pairs(turned[turn][rows] @ plain[others].T, rows, others):
                        key = (min(a, b), max(a, b))
                        if key in found and (found[key].copy or turn):
                            continue
                        match = _compare(thumbs[b], _turn_thumb(thumbs[a], turn))
                        if match is not None:
                            found[key] = Lookalike(*key, match, _TURNS[turn])
            advance(len(rows))
    return sorted(found.values(), key=lambda pair: (pair.first, pair.second))


def _near_pairs(
    dots: NDArray[np.float32], rows: NDArray[np.intp], others: NDArray[np.intp]
) -> list[tuple[int, int]]:
    """(row's picture, other's picture) of at most MAX_BITS different bits, the nearest few of each row, no pair twice."""
    near = (dots >= _BITS - 2 * MAX_BITS) & (others[None, :] < rows[:, None])
    pairs: list[tuple[int, int]] = []
    for i in np.flatnonzero(near.any(axis=1)):
        columns = np.flatnonzero(near[i])
        if len(columns) > _NEAREST:
            columns = columns[np.argsort(-dots[i, columns], kind="stable")[:_NEAREST]]
        pairs.extend((int(rows[i]), int(others[j])) for j in columns)
    return pairs


def _compare(first: Thumb, second: Thumb) -> bool | None:
    """True for a copy, False for the same scene, None for neither."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    # match the tones: brightness, contrast and gamma are no difference
    order = np.argsort(b, axis=None, kind="stable")
    matched = np.empty_like(b)
    matched.flat[order] = np.sort(a, axis=None)
    a0, b0 = a - a.mean(), matched - matched.mean()
    correlation = float((a0 * b0).sum() / np.sqrt((a0 * a0).sum() * (b0 * b0).sum() + 1e-9))
    if correlation < MIN_CORRELATION:
        return None
    blocks = np.abs(a0 - b0).reshape(8, THUMB_PX // 8, 8, THUMB_PX // 8).mean(axis=(1, 3))
    return float(blocks.max()) <= MAX_BLOCK_DIFFERENCE


def _turn_thumb(thumb: Thumb, turn: int) -> Thumb:
    if turn & 4:
        thumb = thumb.T
    if turn & 1:
        thumb = thumb[:, ::-1]
    return thumb[::-1] if turn & 2 else thumb


def _turn_signs(signs: Signs, turn: int) -> Signs:
    """What the signs of each picture would be, turned as _turn_thumb turns it."""
    waves = np.concatenate((np.ones((len(signs), 1), np.int8), signs), axis=1).reshape(-1, 8, 8)
    if turn & 4:
        waves = waves.transpose(0, 2, 1)
    odd = np.where(np.arange(8) % 2, -1, 1).astype(np.int8)
    if turn & 1:
        waves = waves * odd[None, None, :]
    if turn & 2:
        waves = waves * odd[None, :, None]
    return waves.reshape(-1, 64)[:, 1:]


def stack_signs(rows: Sequence[Signs]) -> NDArray[np.int8]:
    """(N, 63) of N rows, also for none."""
    return np.stack(rows) if rows else np.empty((0, _BITS), np.int8)
