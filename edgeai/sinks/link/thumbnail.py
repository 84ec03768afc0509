"""Small copies of pictures, for links on which the whole ones come late."""

from __future__ import annotations

import numpy as np

_QUALITY = 60


def shrink(jpeg: bytes, width_px: int) -> bytes:
    """A JPEG of that width, the picture's aspect kept; b"" where it is none, or is no wider."""
    import cv2

    # decoded at half its size: libjpeg does that in a part of the time
    image = None if not jpeg else cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
    if image is None or image.shape[1] * 2 <= width_px:
        return b""
    height_px = max(1, round(image.shape[0] * width_px / image.shape[1]))
    small = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes() if done else b""
