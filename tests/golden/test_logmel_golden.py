"""The golden features hold on every machine; their regenerator gives them again."""

from __future__ import annotations

import numpy as np
import pytest
from make_logmel import GOLDEN, SPECS, chirp, make

from edgeai.stages.audio.logmel import LogMel

# ln() differs by an ulp of float64 between C libraries and SIMD widths; rounding to float32 hides nearly all of it
TOLERANCE = 1e-6


@pytest.mark.parametrize("name", SPECS)
def test_streaming_gives_the_golden_features(name: str) -> None:
    with np.load(GOLDEN) as golden:
        front_end = LogMel(SPECS[name])
        got = np.concatenate(
            [front_end.push(part) for part in np.array_split(chirp(SPECS[name].sample_rate_hz), 7)]
        )
        assert got.dtype == golden[name].dtype
        np.testing.assert_allclose(got, golden[name], rtol=0, atol=TOLERANCE)
        assert np.mean(np.abs(golden[name]) < 1) > 0.7, "a golden file of clipped values says nothing"


def test_the_regenerator_gives_the_committed_file() -> None:
    made = make()
    with np.load(GOLDEN) as golden:
        assert sorted(golden.files) == sorted(made)
        for name in golden.files:
            np.testing.assert_allclose(made[name], golden[name], rtol=0, atol=TOLERANCE)
