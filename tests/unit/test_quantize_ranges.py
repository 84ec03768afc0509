"""Ranges cut around SiLU: only where they may be, and for the better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.compress


def test_silu_with_far_negatives_gains_precision(tmp_path: Path) -> None:
    import keras

    from compress.quantize.ranges import narrow_silu_ranges
    from compress.quantize.tflite import convert_tflite
    from edgeai.bundle.manifest import ImageInput
    from edgeai.engines import EdgeEngine, open_model_file

    picture = keras.Input((8, 8, 3), name="image")
    conv = keras.layers.Conv2D(4, 1)
    network = keras.Model(picture, {"out": keras.layers.Activation("silu")(conv(picture))})
    # one channel reaches far below the bend, the others live around it
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, 0] = (-0.5, 0.01, -0.01, 0.02)
    conv.set_weights([kernel, np.array([1.0, 0.0, 0.5, -1.0], np.float32)])
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 256, (1, 8, 8, 3)).astype(np.float32) for _ in range(8)]
    plain = convert_tflite(network, "int8", samples)
    cut, count = narrow_silu_ranges(plain, samples)
    assert count == 1

    spec = ImageInput(width=8, height=8)
    image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    wanted = np.asarray(network(image[np.newaxis].astype(np.float32))["out"])
    errors = []
    for name, content in (("plain", plain), ("cut", cut)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        with EdgeEngine(open_model_file(path), spec) as engine:
            (got,) = engine.run({engine.inputs[0].name: image}).values()
        errors.append(float(np.abs(got - wanted).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_a_model_without_silu_stays_as_it_is() -> None:
    import keras

    from compress.quantize.ranges import narrow_silu_ranges
    from compress.quantize.tflite import convert_tflite

    picture = keras.Input((8, 8, 3), name="image")
    network = keras.Model(picture, {"out": keras.layers.Conv2D(4, 1, activation="relu")(picture)})
    rng = np.random.default_rng(0)
    content = convert_tflite(network, "int8", [rng.random((1, 8, 8, 3)).astype(np.float32)])
    assert narrow_silu_ranges(content, []) == (content, 0)
