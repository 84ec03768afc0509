"""A picture as JPEG within a size."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.errors import StageError

QUALITY: Final = 80
_LEAST_SIDE_PX: Final = 16


def encode_jpeg(image: NDArray[np.uint8], *, max_bytes: int, quality: int = QUALITY) -> bytes:
    """`image` (H, W, 3), BGR, at `quality` of 0 to 100; made smaller, its shape kept, until it has at most `max_bytes`.

    Raises StageError where it cannot be encoded, or not so small.
    """
    picture = image
    while True:
        try:
            sound, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))
        except cv2.error as error:
            raise StageError(f"a picture of shape {image.shape} cannot become a JPEG: {error.err}") from None
        if sound and encoded.size <= max_bytes:
            return encoded.tobytes()
        height, width = picture.shape[:2]
        # bytes go about with the area; a little less, so that two rounds suffice
        scale = 0.95 * math.sqrt(max_bytes / encoded.size) if sound else 0.0
        width, height = int(width * scale), int(height * scale)
        if min(width, height) < _LEAST_SIDE_PX:
            raise StageError(
                f"a picture of shape {image.shape} does not fit into {max_bytes} bytes as a JPEG"
            )
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
