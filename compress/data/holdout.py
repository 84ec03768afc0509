"""Which examples are held out: whole groups, the same ones whenever the same data is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

# how far the share of a choice by hash may be from what was asked for
_NEAR = (0.5, 1.7)


def hold_out(groups: Sequence[str], fraction: float) -> NDArray[np.bool_]:
    """(N,) bool: the examples held out, about `fraction` of them, never parting a group.

    Each group is chosen by a hash of its name, so that a choice stays when data is added. Where a few large groups make
    that miss the fraction by far (four speakers), the groups with the lowest hashes are taken until it is reached, all but
    one at most.
    """
    hashes = {group: crc32(os.fsencode(group)) for group in set(groups)}
    held = np.array([hashes[group] % 1000 < 1000 * fraction for group in groups], bool)
    share = float(held.mean()) if len(held) else 0.0
    if len(hashes) < 2 or _NEAR[0] * fraction <= share <= _NEAR[1] * fraction:
        return held
    sizes = dict.fromkeys(hashes, 0)
    for group in groups:
        sizes[group] += 1
    chosen: set[str] = set()
    count = 0
    for group in sorted(hashes, key=lambda name: (hashes[name] % 1000, name))[:-1]:
        if chosen and count >= fraction * len(groups):
            break
        chosen.add(group)
        count += sizes[group]
    return np.array([group in chosen for group in groups], bool)
