"""Pictures as JPEG, within a size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgeai.errors import StageError
from edgeai.stages.jpeg import encode_jpeg

NOISE = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)


@pytest.mark.parametrize("max_bytes", [5_000, 50_000, 1 << 20])
def test_it_fits_and_keeps_its_shape(max_bytes):
    jpeg = encode_jpeg(NOISE, max_bytes=max_bytes)
    assert len(jpeg) <= max_bytes
    height, width = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert width / height == pytest.approx(4 / 3, rel=0.05)
    assert (width == 640) == (max_bytes == 1 << 20)


@pytest.mark.parametrize("image", [NOISE[:0], NOISE[:, :, :2], NOISE.astype(np.complex64)])
def test_what_is_no_picture(image):
    with pytest.raises(StageError):
        encode_jpeg(image, max_bytes=1 << 20)


def test_what_cannot_be_so_small():
    with pytest.raises(StageError, match="does not fit into 100 bytes"):
        encode_jpeg(NOISE, max_bytes=100)
