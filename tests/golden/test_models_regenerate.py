"""The committed tiny models are what make_models.py makes: equal outputs, whatever the converter's bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeai.engines import open_model_file
from edgeai.engines.edges import dequantise, quantise

HERE = Path(__file__).resolve().parent


@pytest.mark.compress
def test_regenerated_models_give_equal_outputs(tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(
        [sys.executable, HERE / "make_models.py", tmp_path], check=True, env=environment, capture_output=True
    )
    committed = sorted(path.name for path in (HERE / "models").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == committed
    for name in committed:
        with open_model_file(HERE / "models" / name) as old, open_model_file(tmp_path / name) as new:
            assert [(s.name, s.shape, s.dtype) for s in old.inputs] == [
                (s.name, s.shape, s.dtype) for s in new.inputs
            ]
            values = np.random.default_rng(0).random(old.inputs[0].shape, dtype=np.float32)
            spec = old.inputs[0].name
            first = old.run({spec: quantise(values, old.inputs[0])})
            second = new.run({spec: quantise(values, new.inputs[0])})
            for before, after in zip(old.outputs, new.outputs, strict=True):
                a, b = dequantise(first[before.name], before), dequantise(second[after.name], after)
                step = before.scale or 1e-5
                np.testing.assert_allclose(a, b, atol=1.01 * step, rtol=0, err_msg=name)


def test_models_are_small():
    assert sum(path.stat().st_size for path in (HERE / "models").iterdir()) < 64 << 10
