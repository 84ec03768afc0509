"""Random clips for training a keyword model: speed, shift, gain, echo, noise; and masked spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Samples = NDArray[np.float32]
Fraction = Annotated[float, Field(ge=0, le=1)]
Speed = Annotated[float, Field(ge=0.25, le=4)]
Decibel = Annotated[float, Field(ge=-120, le=120)]


class SoundAugment(BaseModel):
    """Settings. speed: range of the resampling factor; shift_s: largest move either way; gain_db, noise_db (signal above
    noise): ranges; noise, echo: probabilities; time_mask and band_mask: SpecAugment's (Park et al. 2019) largest widths
    in frames and bands, each used twice; mix: Beta parameter of mixup (Zhang et al. 2018), 0 for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    speed: tuple[Speed, Speed] = (0.82, 1.2)
    shift_s: Annotated[float, Field(ge=0, le=10)] = 0.1
    gain_db: tuple[Decibel, Decibel] = (-22.0, 6.0)
    noise_db: tuple[Decibel, Decibel] = (0.0, 35.0)
    noise: Fraction = 0.7
    echo: Fraction = 0.3
    time_mask: Annotated[int, Field(ge=0)] = 10
    band_mask: Annotated[int, Field(ge=0)] = 6
    mix: Annotated[float, Field(ge=0, le=10)] = 0.2

    @model_validator(mode="after")
    def _ranges_rise(self) -> SoundAugment:
        for name in ("speed", "gain_db", "noise_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must go from low to high, got {low} to {high}")
        return self


def augment_clip(
    clip: Samples,
    noises: Sequence[Samples],
    *,
    sample_rate_hz: int,
    settings: SoundAugment,
    rng: np.random.Generator,
) -> Samples:
    """One clip (N,), changed at random; the same length, clipped to -1..1."""
    n = len(clip)
    out = _speed(clip, float(rng.uniform(*settings.speed)))
    out = _shift(out, int(rng.uniform(-settings.shift_s, settings.shift_s) * sample_rate_hz), n)
    if rng.random() < settings.echo:
        out = _echo(out, sample_rate_hz, rng)
    power = float(np.mean(np.square(out))) + 1e-10
    if rng.random() < settings.noise:
        noise = _noise(noises, n, rng)
        level = power * 10 ** (-float(rng.uniform(*settings.noise_db)) / 10)
        # digital silence has no level of its own to be measured against
        level = max(level, 10 ** float(rng.uniform(-9, -5)))
        out = out + noise * np.float32(np.sqrt(level / (float(np.mean(np.square(noise))) + 1e-12)))
    out = out * np.float32(10 ** (float(rng.uniform(*settings.gain_db)) / 20))
    return np.asarray(np.clip(out, -1, 1), np.float32)


def mask_features(features: Samples, *, settings: SoundAugment, rng: np.random.Generator) -> Samples:
    """SpecAugment on (frames, mels) in place: two bands of time and two of frequency become -1, the floor."""
    frames, mels = features.shape
    for _ in range(2):
        width = int(rng.integers(0, settings.time_mask + 1))
        start = int(rng.integers(0, max(1, frames - width)))
        features[start : start + width] = -1
        width = int(rng.integers(0, settings.band_mask + 1))
        start = int(rng.integers(0, max(1, mels - width)))
        features[:, start : start + width] = -1
    return features


def _speed(clip: Samples, factor: float) -> Samples:
    positions = np.arange(int(len(clip) / factor)) * factor
    return np.asarray(np.interp(positions, np.arange(len(clip)), clip), np.float32)


def _shift(clip: Samples, by: int, n: int) -> Samples:
    """`clip` moved by `by` samples in a window of n, its middle kept in the middle; zeros elsewhere."""
    out = np.zeros(n, np.float32)
    start = (n - len(clip)) // 2 + by
    source_from, target_from = max(0, -start), max(0, start)
    count = min(len(clip) - source_from, n - target_from)
    if count > 0:
        out[target_from : target_from + count] = clip[source_from : source_from + count]
    return out


def _echo(clip: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """A small generated room: a few early reflections and an exponential tail, by FFT."""
    decay_s = float(rng.uniform(0.05, 0.4))
    n = int(decay_s * sample_rate_hz)
    response = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * float(rng.uniform(0.02, 0.12))
    response[0] = 1.0
    for _ in range(4):
        response[int(rng.integers(16, max(17, n // 3)))] += float(rng.uniform(-0.5, 0.5))
    size = 1 << (len(clip) + n - 1).bit_length()  # a power of two: odd lengths make the FFT ten times slower
    wet = np.fft.irfft(np.fft.rfft(clip, size) * np.fft.rfft(response, size), size)[: len(clip)]
    peak = float(np.max(np.abs(wet))) + 1e-9
    return (wet * min(1.0, float(np.max(np.abs(clip))) / peak)).astype(np.float32)


def _noise(noises: Sequence[Samples], n: int, rng: np.random.Generator) -> Samples:
    if noises and rng.random() < 0.7:
        noise = noises[int(rng.integers(len(noises)))]
        start = int(rng.integers(0, max(1, len(noise) - n)))
        part = noise[start : start + n]
        return np.pad(part, (0, n - len(part))) if len(part) < n else part
    # noise whose power falls as 1 / f^a: a = 0 white, 1 pink, 2 brown
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (float(rng.uniform(0, 2)) / 2)
    return np.fft.irfft(spectrum, n).astype(np.float32)
