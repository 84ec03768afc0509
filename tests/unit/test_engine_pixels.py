"""Whole pictures into tensors, against the table of what each pixel is stored as."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.bundle.manifest import ImageInput
from edgeai.engines.pixels import PixelWriter, pixel_table
from edgeai.types import TensorSpec

# of odd sizes, so that vectors have rests; and one that OpenCV shares out to its threads
SIZES = [(17, 9), (33, 47), (320, 320)]
NORMS = {
    "as is": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "centred": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "channels": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
TENSORS = [
    ("uint8", 1.0, 0),
    ("uint8", 1 / 255, 0),
    ("uint8", 0.02, 128),
    ("int8", 1 / 255, -128),
    ("int8", 0.0038823529612272978, -128),  # field-weeds: nearly, not quite
    ("int8", 1.0, -128),
    ("int8", 0.02, -3),
    ("int8", 1 / 127.5, 0),
    ("int16", 1 / 32768, 0),
    ("float32", None, 0),
    ("float16", None, 0),
]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("dtype", "scale", "zero_point"), TENSORS)
def test_every_pixel_is_what_the_table_says(layout, norm, dtype, scale, zero_point):
    mean, std = NORMS[norm]
    for height, width in SIZES:
        shape = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
        spec = TensorSpec("x", shape, dtype, scale, zero_point)
        contract = ImageInput(height=height, width=width, layout=layout, mean=mean, std=std)
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        target = np.ones(shape, dtype)
        PixelWriter(spec, contract).fill(picture)(target)
        table = pixel_table(spec, contract)
        expected = np.stack([table[picture[..., channel], channel] for channel in range(3)], axis=-1)
        got = target[0] if layout == "NHWC" else target[0].transpose(1, 2, 0)
        assert np.array_equal(got, expected)
