"""The resampler against the sampling theorem: tones keep amplitude and phase, or vanish."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import UsageError
from edgeai.sources.resample import Resampler

PAIRS = [
    (48_000, 16_000),
    (44_100, 16_000),
    (22_050, 16_000),
    (16_000, 48_000),
    (8000, 16_000),
    (96_000, 16_000),
    (44_101, 16_000),
]


def resample(sound: np.ndarray, in_hz: int, out_hz: int) -> np.ndarray:
    resampler = Resampler(in_hz, out_hz)
    return np.concatenate((resampler.push(sound.astype(np.float32)), resampler.flush()))


def tone(hz: float, rate_hz: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def decibels(x: float) -> float:
    return 20 * np.log10(max(x, 1e-12))


@pytest.mark.parametrize(("in_hz", "out_hz"), PAIRS)
@pytest.mark.parametrize("part", [0.02, 0.31, 0.6, 0.85, 0.9])
def test_a_tone_in_the_passband_keeps_amplitude_and_time(in_hz: int, out_hz: int, part: float) -> None:
    hz = part * min(in_hz, out_hz) / 2
    got = resample(tone(hz, in_hz), in_hz, out_hz)
    wanted = tone(hz, out_hz, len(got) / out_hz)
    middle = slice(out_hz // 10, -out_hz // 10)
    residue = np.sqrt(2 * np.mean((got[middle] - wanted[middle]) ** 2))
    # an error of 0.1 dB or a shift would leave 1.2 % of the tone
    assert decibels(residue) < -60
    gain = np.dot(got[middle], wanted[middle]) / np.dot(wanted[middle], wanted[middle])
    assert abs(decibels(gain)) < 0.1


@pytest.mark.parametrize(("in_hz", "out_hz"), [pair for pair in PAIRS if pair[0] > pair[1]])
@pytest.mark.parametrize("part", [1.0, 1.02, 1.1, 1.37])
def test_a_tone_above_the_nyquist_frequency_is_60_db_down(in_hz: int, out_hz: int, part: float) -> None:
    if part * out_hz >= in_hz:
        pytest.skip("above the input's own Nyquist frequency")
    got = resample(tone(part * out_hz / 2, in_hz), in_hz, out_hz)[out_hz // 10 : -out_hz // 10]
    assert decibels(np.sqrt(2 * np.mean(got**2.0))) < -60


def test_images_of_an_upsampled_tone_are_60_db_down() -> None:
    got = resample(tone(3600, 8000), 8000, 48_000)[4800:-4800]
    spectrum = np.abs(np.fft.rfft(got * np.hanning(len(got))))
    hz = np.fft.rfftfreq(len(got), 1 / 48_000)
    assert decibels(spectrum[hz > 4300].max() / spectrum.max()) < -60


def test_a_constant_stays_the_constant() -> None:
    for in_hz, out_hz in PAIRS:
        got = resample(np.full(in_hz // 4, 0.5), in_hz, out_hz)[out_hz // 20 : -out_hz // 20]
        np.testing.assert_allclose(got, 0.5, atol=1e-6)


def test_it_is_the_windowed_sinc_sum() -> None:
    """Single outputs by the definition, in float64, with the window written as its integral."""
    rng = np.random.default_rng(4)
    sound = rng.uniform(-1, 1, 2000).astype(np.float32)
    got = resample(sound, 44_100, 16_000)
    half, ratio, beta = 44, 16_000 / 44_100, 0.1102 * 61.3
    theta = (np.arange(4000) + 0.5) * np.pi / 4000

    def bessel(x: np.ndarray) -> np.ndarray:
        return np.mean(np.exp(x[:, None] * np.cos(theta)), axis=1)

    for m in (0, 1, 100, 317, len(got) - 1):
        t = (np.arange(2000) - m * 44_100 / 16_000) * ratio
        near = np.abs(t) <= half
        taps = np.zeros(2000)
        taps[near] = np.sinc(0.95 * t[near]) * bessel(beta * np.sqrt(1 - (t[near] / half) ** 2))
        # the filter's sum is 1 with the part beyond the clip's edges counted
        everywhere = (np.arange(-3000, 5000) - m * 44_100 / 16_000) * ratio
        inside = everywhere[np.abs(everywhere) <= half]
        total = np.sum(np.sinc(0.95 * inside) * bessel(beta * np.sqrt(1 - (inside / half) ** 2)))
        assert got[m] == pytest.approx(np.dot(taps, sound) / total, abs=1e-5)


def test_equal_rates_pass_through() -> None:
    sound = np.random.default_rng(5).uniform(-1, 1, 100).astype(np.float32)
    resampler = Resampler(16_000, 16_000)
    assert resampler.push(sound).tobytes() == sound.tobytes() and len(resampler.flush()) == 0


def test_what_is_held_does_not_grow() -> None:
    resampler = Resampler(44_100, 16_000)
    for _ in range(300):
        resampler.push(np.zeros(4410, np.float32))
    assert len(resampler._held) < 1000


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, 3999), (1_000_000, 16_000), (-1, 16_000)])
def test_rates_beyond_reason_are_refused(rates: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"cannot resample at -?\d+ Hz, known are 4000 to 384000 Hz"):
        Resampler(*rates)
