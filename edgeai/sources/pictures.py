"""Whatever a driver hands over, as the one kind of picture that the runtime knows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceFormatError

MAX_SIDE_PX: Final = 16384


def as_bgr(image: Any) -> NDArray[np.uint8]:
    """The picture as (H, W, 3) uint8 BGR; the same array where it is that already.

    Taken are grey (H, W) or (H, W, 1), BGR and BGRA, of 8 or 16 bits (the upper 8 are kept), in any memory layout. Raises
    SourceFormatError for anything else: no array, other types or channels, no pixels, a side over MAX_SIDE_PX.
    """
    if not isinstance(image, np.ndarray):
        raise SourceFormatError(f"a picture must be an array, this is {type(image).__name__}")
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise SourceFormatError(f"a picture must be (H, W), or (H, W, 1, 3 or 4), this is {image.shape}")
    height, width, channels = image.shape
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise SourceFormatError(
            f"a picture must have 1 to {MAX_SIDE_PX} pixels a side, this is {width} x {height}"
        )
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise SourceFormatError(f"a picture must have 8 or 16 bits a channel, this is {image.dtype}")
    if channels == 1:
        return np.repeat(image, 3, axis=2)
    if channels == 4:
        image = image[:, :, :3]
    return np.ascontiguousarray(image)
