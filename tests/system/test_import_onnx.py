"""ONNX through the real onnx2tf, in the environment that the command makes: `make import-check` (2.6 GB, some minutes)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.compress,
    pytest.mark.data,
    pytest.mark.skipif(not os.environ.get("EDGEAI_ONNX2TF"), reason="make import-check sets EDGEAI_ONNX2TF"),
]


@pytest.mark.parametrize("name, outputs", [("yolox_nano_coco_416", 1), ("nanodet_m_coco_416", 6)])
def test_a_detector_is_imported_and_quantized(
    shared_data: Path, tmp_path: Path, name: str, outputs: int
) -> None:
    import numpy as np

    from compress.imports.network import import_network
    from compress.quantize.check import not_done
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    made = import_network(shared_data / f"models/detectors/{name}.onnx")
    assert len(made.network.output) == outputs and made.furthest < 1e-3
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(0, 255, (1, 416, 416, 3)).astype(np.float32) for _ in range(2)]
    content, _ = quantize_network(made.network, PostTraining(), inputs)
    assert not_done(content, "int8") == []
