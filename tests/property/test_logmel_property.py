"""The same bits for any chunking, any batch, and any place in a batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError
from edgeai.stages.audio.logmel import LogMel, frame_count, log_mel, log_mel_batch, samples_for
from edgeai.stages.audio.window import FeatureWindow
from edgeai.types import Chunk


@st.composite
def specs(draw: st.DrawFn) -> LogMelInput:
    """Front ends of every shape that the manifest allows and whose bands all hold a bin."""
    fft = draw(st.integers(64, 700))
    window = draw(st.integers(16, fft))
    rate_hz = draw(st.sampled_from((8000, 16_000, 22_050, 48_000)))
    return LogMelInput(
        sample_rate_hz=rate_hz,
        window_samples=window,
        hop_samples=draw(st.integers(8, window)),
        fft_size=fft,
        mels=draw(st.integers(4, 8)),
        low_hz=draw(st.sampled_from((0.0, 60.0))),
        high_hz=rate_hz / 2,
        scale=20.0,
        frames=draw(st.integers(1, 12)),
    )


def clip(seed: int, samples: int) -> np.ndarray:
    """Noise whose level jumps over 120 dB, with silence and a spike."""
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal(samples) * 10.0 ** rng.uniform(-6, 0, samples)
    sound[rng.random(samples) < 0.3] = 0.0
    return np.clip(sound, -1, 1).astype(np.float32)


def cut(sound: np.ndarray, cuts: list[float]) -> list[np.ndarray]:
    return np.split(sound, sorted(int(part * len(sound)) for part in cuts))


@given(
    spec=specs(),
    seed=st.integers(0, 1 << 30),
    samples=st.integers(0, 9000),
    cuts=st.lists(st.floats(0, 1), max_size=60),
)
def test_any_chunking_gives_the_bits_of_the_whole_clip(
    spec: LogMelInput, seed: int, samples: int, cuts: list[float]
) -> None:
    try:
        front_end = LogMel(spec)
    except StageError:
        return  # a band without a bin, told in test_logmel
    sound = clip(seed, samples)
    whole = log_mel(sound, spec)
    assert len(whole) == frame_count(samples, spec)
    for _ in range(2):  # the second time after a reset
        parts = [front_end.push(part) for part in cut(sound, cuts)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
        front_end.reset()


@given(seed=st.integers(0, 1 << 30), clips=st.integers(1, 7), samples=st.integers(480, 20_000))
@settings(max_examples=30)
def test_a_batch_gives_the_bits_of_each_clip(seed: int, clips: int, samples: int) -> None:
    spec = LogMelInput(scale=14.0)
    sounds = clip(seed, clips * samples).reshape(clips, samples)
    batch = log_mel_batch(sounds, spec)
    assert batch.shape == (clips, frame_count(samples, spec), spec.mels)
    for row, sound in zip(batch, sounds, strict=True):
        assert row.tobytes() == log_mel(sound, spec).tobytes()


@given(frames=st.integers(1, 300), spec=specs())
def test_samples_for_and_frame_count_agree(frames: int, spec: LogMelInput) -> None:
    assert frame_count(samples_for(frames, spec), spec) == frames
    assert frame_count(samples_for(frames, spec) - 1, spec) == frames - 1


@given(sound=hnp.arrays(np.float32, st.integers(0, 2000), elements=st.floats(width=32)))
@settings(max_examples=60)
def test_any_floats_give_finite_features_within_the_range(sound: np.ndarray) -> None:
    features = log_mel(sound, LogMelInput(scale=14.0))
    assert np.isfinite(features).all() and (np.abs(features) <= 1).all()


@given(
    spec=specs(),
    step=st.integers(1, 15),
    seed=st.integers(0, 1 << 30),
    samples=st.integers(0, 9000),
    cuts=st.lists(st.floats(0, 1), max_size=40),
)
def test_windows_do_not_depend_on_the_chunks(
    spec: LogMelInput, step: int, seed: int, samples: int, cuts: list[float]
) -> None:
    try:
        window = FeatureWindow(spec, step)
    except StageError:
        return
    sound = clip(seed, samples)
    features = log_mel(sound, spec)
    expected = [
        (end, features[end - spec.frames + 1 : end + 1])
        for end in range(spec.frames - 1, len(features), step)
    ]
    rate_hz, begin, got = spec.sample_rate_hz, 0, []
    for part in cut(sound, cuts):
        got += window.push(Chunk(part, rate_hz, begin / rate_hz, "s"))
        begin += len(part)
    assert len(got) == len(expected) and window.gaps == 0
    for (end_s, model_input), (last, wanted) in zip(got, expected, strict=True):
        assert end_s == (last * spec.hop_samples + spec.window_samples) / rate_hz
        assert model_input.shape == (1, spec.frames, spec.mels)
        assert model_input.tobytes() == wanted.tobytes()
