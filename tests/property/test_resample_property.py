"""Any chunking gives the bits of the whole, for any pair of rates; the length is right to the sample."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.sources.resample import Resampler

RATES = st.sampled_from((8000, 11_025, 16_000, 22_050, 44_100, 48_000)) | st.integers(4000, 60_000)


@given(
    in_hz=RATES,
    out_hz=RATES,
    seed=st.integers(0, 1 << 30),
    samples=st.integers(0, 4000),
    cuts=st.lists(st.floats(0, 1), max_size=30),
)
@settings(max_examples=60)
def test_any_chunking_gives_the_bits_of_the_whole(
    in_hz: int, out_hz: int, seed: int, samples: int, cuts: list[float]
) -> None:
    sound = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    resampler = Resampler(in_hz, out_hz)
    whole = np.concatenate((resampler.push(sound), resampler.flush()))
    assert len(whole) == math.ceil(samples * out_hz / in_hz) and whole.dtype == np.float32
    # the second time after flush, which resets
    parts = [resampler.push(part) for part in np.split(sound, sorted(int(c * samples) for c in cuts))]
    assert np.concatenate((*parts, resampler.flush())).tobytes() == whole.tobytes()
