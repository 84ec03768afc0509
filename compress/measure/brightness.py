"""How bright a picture is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# blue, green, red to brightness (ITU-R BT.601)
_LUMA = (0.114, 0.587, 0.299)


def mean_luma(image: NDArray[np.uint8]) -> float:
    """Mean brightness, 0..255, of an (H, W, 3) uint8 BGR picture."""
    import cv2

    return float(np.dot(cv2.mean(image)[:3], _LUMA))
