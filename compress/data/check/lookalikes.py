"""Pictures that look the same: a hash of the lowest frequencies finds pairs, a small copy of the picture decides.

The hash is the signs of the 63 lowest DCT coefficients of the picture at 32 x 32 (Zauner, "Implementation and
Benchmarking of Perceptual Image Hash Functions", 2010, with zero for the median). Signs make turning and mirroring exact:
mirroring negates the odd coefficients of one axis, transposing swaps the axes. So every picture is hashed twice, as it is
and turned to where its own coefficients say that up and left are, which finds most turned copies.

The bounds are from train pictures of deeppcb, coco_people and rice_weeds and from first halves of videos. Of copies that
were saved at JPEG quality 20, at half size, or with gamma 1.6, 99 in 100 differ in at most 8 bits; two different photos
in at least 12. What is cropped by more than a percent, or brightened until it saturates, may be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THUMB_PX = 32
MAX_BITS = 10
# after the tones were matched: correlation of the thumbs, and the mean difference in the worst of 8 x 8 blocks. Copies
# stay below 13 grey levels, boards with other defects have 23, frames in which somebody walked at least 27.
MIN_CORRELATION = 0.9
MAX_BLOCK_DIFFERENCE = 16.0
# a picture flatter than this (standard deviation, grey levels) has no structure to compare
MIN_SPREAD = 3.0

_NEAREST = 4
_BLOCKS = 8
_SIDE = 8  # of the square of coefficients

Thumb = NDArray[np.uint8]
_Waves = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture is compared by. code, upright_code: hashes as it is and turned upright. turn: 0 to 7, what turns it so.

    thumb: (32, 32) uint8. spread: its standard deviation in grey levels.
    """

    code: int
    upright_code: int
    turn: int
    thumb: Thumb
    spread: float


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Pictures number first < second. copy: the same picture; else one scene with something changed in it.

    turned: they match once one is turned or mirrored.
    """

    first: int
    second: int
    copy: bool
    turned: bool


def describe_picture(grey: NDArray[np.uint8]) -> Look:
    """The look of an (H, W) picture."""
    import cv2

    thumb = np.asarray(cv2.resize(grey, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA), np.uint8)
    waves = np.asarray(cv2.dct(thumb.astype(np.float32))[:_SIDE, :_SIDE], np.float32)
    turn = _upright_turn(waves)
    return Look(_code(waves), _code(_turn_waves(waves, turn)), turn, thumb, float(thumb.std()))


def find_lookalikes(
    looks: Sequence[Look], parts: Sequence[int], *, advance: Callable[[int], None] = lambda n: None
) -> list[Lookalike]:
    """Pairs among pictures. parts: (N,) the split of each.

    Of every picture the 4 nearest in each split are compared, so that a fixed camera's thousands of like pictures cost
    little more than others. advance: called with the pictures done, 2 N in all.
    """
    found: dict[tuple[int, int], Lookalike] = {}
    members = [np.flatnonzero(np.asarray(parts) == part) for part in sorted(set(parts))]
    for upright in (False, True):
        codes = np.array([look.upright_code if upright else look.code for look in looks], np.uint64)
        for second in range(len(looks)):
            for first in _near(codes, members, second):
                key = (first, second)
                a, b = looks[first], looks[second]
                if key in found and (found[key].copy or a.turn == b.turn):
                    continue
                turned = upright and a.turn != b.turn
                copy = (
                    _compare(*(_turn_thumb(x.thumb, x.turn) for x in (a, b)))
                    if turned
                    else _compare(a.thumb, b.thumb)
                )
                if copy is not None:
                    found[key] = Lookalike(first, second, copy, turned)
            advance(1)
    return sorted(found.values(), key=lambda pair: (pair.first, pair.second))


def _near(codes: NDArray[np.uint64], members: Sequence[NDArray[np.intp]], number: int) -> Iterator[int]:
    """Pictures before `number` that differ in few bits, the nearest in each split."""
    for own in members:
        before = own[: np.searchsorted(own, number)]
        bits = np.bitwise_count(codes[before] ^ codes[number])
        near = np.flatnonzero(bits <= MAX_BITS)
        if len(near) > _NEAREST:
            near = near[np.argsort(bits[near], kind="stable")[:_NEAREST]]
        yield from before[near].tolist()


def _compare(first: Thumb, second: Thumb) -> bool | None:
    """True for a copy, False for the same scene, None for neither."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    # match the tones: brightness, contrast and gamma are no difference
    matched = np.empty_like(b)
    matched.flat[np.argsort(b, axis=None, kind="stable")] = np.sort(a, axis=None)
    a -= a.mean()
    matched -= matched.mean()
    correlation = float((a * matched).sum() / np.sqrt((a * a).sum() * (matched * matched).sum() + 1e-9))
    if correlation < MIN_CORRELATION:
        return None
    size = THUMB_PX // _BLOCKS
    blocks = np.abs(a - matched).reshape(_BLOCKS, size, _BLOCKS, size).mean(axis=(1, 3))
    return float(blocks.max()) <= MAX_BLOCK_DIFFERENCE


def _upright_turn(waves: _Waves) -> int:
    """The turn after which the coefficients that only mirroring negates sum to more than 0, and to more across than down."""
    across, down = float(waves[0::2, 1::2].sum()), float(waves[1::2, 0::2].sum())
    turn = 0
    if abs(down) > abs(across):
        turn, across, down = 4, down, across
    return turn + (across < 0) + 2 * (down < 0)


def _turn_waves(waves: _Waves, turn: int) -> _Waves:
    """The coefficients of the picture turned as _turn_thumb turns it."""
    odd = np.where(np.arange(_SIDE) % 2, -1, 1).astype(np.float32)
    if turn & 4:
        waves = waves.T
    if turn & 1:
        waves = waves * odd
    return waves * odd[:, None] if turn & 2 else waves


def _turn_thumb(thumb: Thumb, turn: int) -> Thumb:
    """turn: 4 transposes, then 1 mirrors left and right, and 2 up and down."""
    if turn & 4:
        thumb = thumb.T
    if turn & 1:
        thumb = thumb[:, ::-1]
    return thumb[::-1] if turn & 2 else thumb


def _code(waves: _Waves) -> int:
    """The signs of all coefficients but the mean, as bits."""
    bits = waves.ravel() > 0
    bits[0] = False
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
