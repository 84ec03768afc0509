"""The front end against the same formula written plainly, and what it does with what it cannot use."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError
from edgeai.stages.audio.logmel import LogMel, log_mel, log_mel_batch, mel_points_hz

SPECS = [
    LogMelInput(offset=-6.0, scale=9.0),
    LogMelInput(
        window_samples=400, hop_samples=160, fft_size=400, mels=24, low_hz=0, high_hz=8000, scale=15.0
    ),
    LogMelInput(
        sample_rate_hz=8000, window_samples=240, hop_samples=80, fft_size=255, mels=12, high_hz=3900, scale=15
    ),
]


def plain_log_mel(samples: np.ndarray, spec: LogMelInput) -> np.ndarray:
    """The definition, one bin and one band at a time: a DFT by its sum, triangles on the mel scale."""
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)  # noqa: E731
    low, high = mel(spec.low_hz), mel(spec.high_hz)
    points = [
        700 * (10 ** ((low + (high - low) * i / (spec.mels + 1)) / 2595) - 1) for i in range(spec.mels + 2)
    ]
    n = np.arange(spec.window_samples)
    hann = np.sin(np.pi * n / spec.window_samples) ** 2
    bins = np.arange(spec.fft_size // 2 + 1)
    dft = np.exp(-2j * np.pi * np.outer(bins, n) / spec.fft_size)
    rows = []
    for start in range(0, len(samples) - spec.window_samples + 1, spec.hop_samples):
        frame = samples[start : start + spec.window_samples].astype(np.float64) * hann
        power = np.abs(dft @ frame) ** 2
        row = []
        for m in range(spec.mels):
            energy = 0.0
            for k in bins:
                hz = k * spec.sample_rate_hz / spec.fft_size
                left, peak, right = points[m : m + 3]
                energy += power[k] * max(0.0, min((hz - left) / (peak - left), (right - hz) / (right - peak)))
            row.append(np.clip((np.log(energy + spec.floor) - spec.offset) / spec.scale, -1, 1))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_the_plain_formula(spec: LogMelInput) -> None:
    rng = np.random.default_rng(7)
    sound = (np.sin(np.arange(2500) ** 1.7 / 900) * 0.3 + 0.01 * rng.standard_normal(2500)).astype(np.float32)
    plain = plain_log_mel(sound, spec)
    got = log_mel(sound, spec)
    assert got.shape == plain.shape and got.dtype == np.float32
    np.testing.assert_allclose(got, plain, rtol=0, atol=2e-7)


def test_the_mel_points_are_those_of_the_htk_book() -> None:
    points = mel_points_hz(LogMelInput(low_hz=0, high_hz=8000, mels=40))
    # by definition 1000 Hz is 1000 mel (within 0.02), and the points are equally wide
    mels = 2595 * np.log10(1 + points / 700)
    np.testing.assert_allclose(np.diff(mels), (2595 * np.log10(1 + 8000 / 700)) / 41, rtol=1e-9)
    assert abs(2595 * np.log10(1 + 1000 / 700) - 1000) < 0.02


def test_a_tone_is_loudest_in_its_own_band() -> None:
    spec = LogMelInput(scale=20.0)
    points = mel_points_hz(spec)
    for band in range(0, spec.mels, 3):
        tone = np.sin(2 * np.pi * points[band + 1] * np.arange(1600) / spec.sample_rate_hz).astype(np.float32)
        assert int(log_mel(0.01 * tone, spec).mean(axis=0).argmax()) == band


def test_a_clip_shorter_than_a_window_has_no_frames() -> None:
    spec = LogMelInput()
    assert log_mel(np.zeros(479, np.float32), spec).shape == (0, 40)
    assert log_mel(np.zeros(0, np.float32), spec).shape == (0, 40)
    assert log_mel(np.zeros(480, np.float32), spec).shape == (1, 40)
    assert log_mel_batch(np.zeros((3, 100), np.float32), spec).shape == (3, 0, 40)
    assert log_mel_batch(np.zeros((0, 16_000), np.float32), spec).shape == (0, 49, 40)


def test_samples_that_are_not_finite_count_as_silence_and_are_counted() -> None:
    spec = LogMelInput(scale=14.0)
    sound = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    broken = sound.copy()
    broken[[5, 900, 3999]] = np.nan, np.inf, -np.inf
    sound[[5, 900, 3999]] = 0
    front_end = LogMel(spec)
    assert front_end.push(broken).tobytes() == log_mel(sound, spec).tobytes()
    assert front_end.nonfinite_samples == 3
    assert np.isnan(broken[5]), "the caller's buffer was changed"


def test_the_callers_buffer_may_be_written_over() -> None:
    spec = LogMelInput(scale=14.0)
    sound = np.random.default_rng(1).standard_normal(2000).astype(np.float32)
    front_end, buffer, got = LogMel(spec), np.empty(100, np.float32), []
    for begin in range(0, 2000, 100):
        buffer[:] = sound[begin : begin + 100]
        got.append(front_end.push(buffer))
        buffer[:] = 9
    assert np.concatenate(got).tobytes() == log_mel(sound, spec).tobytes()


def test_views_and_float64_give_the_same_bits() -> None:
    spec = LogMelInput(scale=14.0)
    stereo = np.random.default_rng(2).standard_normal((3000, 2)).astype(np.float32)
    plain = log_mel(np.ascontiguousarray(stereo[:, 1]), spec).tobytes()
    assert log_mel(stereo[:, 1], spec).tobytes() == plain
    assert log_mel(stereo[:, 1].astype(np.float64), spec).tobytes() == plain
    assert log_mel(stereo[::-1, 1][::-1], spec).tobytes() == plain


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(100, np.int16),
        np.zeros((2, 100), np.float32),
        np.float32(3),
        [0.0] * 100,
        np.zeros(9, np.complex64),
    ],
)
def test_other_samples_are_refused_with_the_reason(wrong: object) -> None:
    with pytest.raises(StageError, match=r"must be \(N,\) float32"):
        LogMel(LogMelInput()).push(wrong)  # type: ignore[arg-type]


def test_a_band_that_can_hear_nothing_is_refused() -> None:
    with pytest.raises(
        StageError, match=r"band 1 .* holds no bin of an FFT of 512 at 16000 Hz; use a larger fft_size"
    ):
        LogMel(LogMelInput(mels=256))
