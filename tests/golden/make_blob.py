"""Make tests/golden/blob/blob.tflite: `python tests/golden/make_blob.py [FOLDER]`. Needs tensorflow.

A detector without training: the mean brightness of every 8 x 8 cell of a 64 x 64 picture is its score, and every cell
says a box of 16 x 16 pixels around its own centre. A white square of 16 pixels on black, aligned to the cells, gives
a box on itself; tests know what must come out of whole runs.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

SIDE_PX = 64
CELL_PX = 8
BOX_PX = 16


def make_blob(folder: Path) -> None:
    """Write the model into `folder`."""
    import tensorflow as tf

    cells = SIDE_PX // CELL_PX
    box = [0.5, 0.5, math.log(BOX_PX / CELL_PX), math.log(BOX_PX / CELL_PX)]

    def call(image):
        bright = tf.reduce_mean(tf.nn.avg_pool2d(image, CELL_PX, CELL_PX, "VALID"), axis=3, keepdims=True)
        boxes = 0.0 * tf.tile(bright, (1, 1, 1, 4)) + tf.constant(box)
        return {"box": tf.reshape(boxes, (1, cells, cells, 4)), "blob": bright}

    module = tf.Module()
    signature = [tf.TensorSpec((1, SIDE_PX, SIDE_PX, 3), tf.float32, name="image")]
    module.serve = tf.function(call, input_signature=signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "blob.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    make_blob(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "blob")
