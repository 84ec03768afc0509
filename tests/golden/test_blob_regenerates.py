"""The committed blob detector is what make_blob.py makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeai.engines import open_model_file

HERE = Path(__file__).resolve().parent


@pytest.mark.compress
def test_the_regenerated_model_gives_equal_outputs(tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(
        [sys.executable, HERE / "make_blob.py", tmp_path], check=True, env=environment, capture_output=True
    )
    picture = np.random.default_rng(0).random((1, 64, 64, 3), dtype=np.float32)
    with (
        open_model_file(HERE / "blob" / "blob.tflite") as old,
        open_model_file(tmp_path / "blob.tflite") as new,
    ):
        first, second = old.run({"image": picture}), new.run({"image": picture})
    assert sorted(first) == sorted(second) == ["blob", "box"]
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, atol=1e-6, err_msg=name)
