"""Random clips for training a keyword model: speed, shift, room, noise, microphone, telephone, gain; masked spectrograms.

A whole batch at once and in float32: filters are multiplied in the spectrum by OpenCV's FFT, which is several times
faster than numpy's here and lets other threads run; tables of speeds, rooms, microphones and noises are made once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.train.room import RESPONSE_S, open_room_bank
from edgeai.errors import DataError

Samples = NDArray[np.float32]
Fraction = Annotated[float, Field(ge=0, le=1)]
Speed = Annotated[float, Field(ge=0.25, le=4)]
Decibel = Annotated[float, Field(ge=-120, le=120)]

SPEED_STEPS = 64
MICROPHONES = 64
OVERDRIVE = 4.0  # 12 dB: at most so far above full scale
LINE_HZ = (300.0, 3400.0)  # a telephone line's band, ITU-T G.712
MU = 255.0  # ITU-T G.711


class SoundAugment(BaseModel):
    """Settings. speed: range of the resampling factor; shift_s: largest move either way; gain_db, noise_db (signal above
    noise): ranges; noise, room, microphone, overdrive, telephone: probabilities; tilt_db: a microphone's largest slope,
    dB an octave; time_mask and band_mask: SpecAugment's (Park et al. 2019) largest widths in frames and bands, each used
    twice; mix: Beta parameter of mixup (Zhang et al. 2018), 0 for none.

    room: a generated shoebox room (compress.train.room). microphone: a slope and two random band edges. overdrive: up to
    12 dB beyond full scale, cut flat. telephone: 300 to 3400 Hz in 8-bit mu-law.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    speed: tuple[Speed, Speed] = (0.82, 1.2)
    shift_s: Annotated[float, Field(ge=0, le=10)] = 0.1
    gain_db: tuple[Decibel, Decibel] = (-22.0, 6.0)
    noise_db: tuple[Decibel, Decibel] = (0.0, 35.0)
    noise: Fraction = 0.7
    room: Fraction = 0.3
    microphone: Fraction = 0.2
    tilt_db: Annotated[float, Field(ge=0, le=12)] = 2.0
    overdrive: Fraction = 0.05
    telephone: Fraction = 0.03
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
    """One clip (N,), changed at random; the same length, clipped to -1..1. Raises DataError where it is not mono."""
    if clip.ndim != 1:
        raise DataError(f"a clip must be mono, (N,), got {clip.shape}", next_step="mix the channels first")
    made = augment_clips(clip[np.newaxis], noises, sample_rate_hz=sample_rate_hz, settings=settings, rng=rng)
    return np.asarray(made[0], np.float32)


def augment_clips(
    clips: Samples,
    noises: Sequence[Samples],
    *,
    sample_rate_hz: int,
    settings: SoundAugment,
    rng: np.random.Generator,
) -> Samples:
    """Clips (B, N) of one sample rate, each changed at random on its own; a new (B, N) float32, clipped to -1..1.

    noises: recordings (M,) at the same rate, any length; a part of one, or generated noise, is added. The first call at a
    rate takes about a second where rooms are wanted. Raises DataError for clips that are not (B, N) or a noise that is
    not (M,).
    """
    if clips.ndim != 2:
        raise DataError(
            f"clips must be (B, N), got {clips.shape}", next_step="mix the channels to mono first"
        )
    count, n = clips.shape
    if count == 0 or n == 0:
        return np.zeros((count, n), np.float32)
    # one draw for the batch: a scalar draw takes a microsecond, and there would be a thousand
    chance = rng.random((count, 13), np.float32)
    out = _speed_and_shift(clips, sample_rate_hz, settings, chance[:, 0], chance[:, 1])
    rows = np.flatnonzero(chance[:, 2] < settings.room)
    if len(rows):
        bank = open_room_bank(sample_rate_hz=sample_rate_hz)
        picks = (chance[rows, 3] * len(bank.responses)).astype(np.intp)
        size = _fft_size(n + round(RESPONSE_S * sample_rate_hz))
        out[rows] = _filter(out[rows], bank.spectra(size), picks)
    rows = np.flatnonzero(chance[:, 4] < settings.noise)
    if len(rows):
        _add_noise(out, rows, noises, settings, chance[:, 5:9], rng)
    rows = np.flatnonzero(chance[:, 9] < settings.microphone + settings.telephone)
    telephone = rows[chance[rows, 9] < settings.telephone]
    if len(rows):
        curves = _microphones(_fft_size(n + sample_rate_hz // 50), sample_rate_hz, settings.tilt_db)
        picks = (chance[rows, 10] * MICROPHONES).astype(np.intp)
        picks[chance[rows, 9] < settings.telephone] = MICROPHONES  # the last one is the line
        out[rows] = _filter(out[rows], curves, picks)
    _gain(out, settings, chance[:, 11], chance[:, 12])
    for row in telephone:
        _mu_law(out[row])
    return out


def mask_features(features: Samples, *, settings: SoundAugment, rng: np.random.Generator) -> Samples:
    """SpecAugment on (frames, mels) in place: two bands of time and two of frequency become -1, the floor."""
    mask_features_batch(features[np.newaxis], settings=settings, rng=rng)
    return features


def mask_features_batch(features: Samples, *, settings: SoundAugment, rng: np.random.Generator) -> Samples:
    """SpecAugment on (B, frames, mels) in place, each its own two bands of time and two of frequency; -1 is the floor."""
    count, frames, mels = features.shape
    for length, widest, axis in ((frames, settings.time_mask, 0), (mels, settings.band_mask, 1)):
        width = rng.integers(0, widest + 1, (count, 2))
        start = (rng.random((count, 2)) * np.maximum(1, length - width)).astype(np.intp)
        bounds = np.stack((start, start + width), axis=-1).tolist()
        for row, bands in zip(features, bounds, strict=True):
            for begin, end in bands:
                if axis == 0:
                    row[begin:end] = -1
                else:
                    row[:, begin:end] = -1
    return features


def _speed_and_shift(
    clips: Samples, sample_rate_hz: int, settings: SoundAugment, speed: Samples, shift: Samples
) -> Samples:
    """The clips played faster or slower and moved, their middles kept in the middle; zeros elsewhere."""
    count, n = clips.shape
    out = np.zeros((count, n), np.float32)
    low, high = settings.speed
    # enough steps that no two neighbours can be told apart, few enough that their tables stay in memory
    steps = np.rint(speed * (SPEED_STEPS - 1)) / (SPEED_STEPS - 1)
    factors = np.round(low + steps * (high - low), 4).tolist()
    moves = ((2 * shift - 1) * settings.shift_s * sample_rate_hz).astype(np.intp).tolist()
    for clip, row, factor, move in zip(clips, out, factors, moves, strict=True):
        table = None if factor == 1 or n < 2 else _positions(n, factor)
        length = n if table is None else len(table[0])
        start = (n - length) // 2 + move
        begin, to = max(0, -start), max(0, start)
        size = min(length - begin, n - to)
        if size <= 0:
            continue
        target = row[to : to + size]
        if table is None:
            target[:] = clip[begin : begin + size]
            continue
        index, share = table[0][begin : begin + size], table[1][begin : begin + size]
        contiguous = np.ascontiguousarray(clip, np.float32)
        np.take(contiguous, index, out=target, mode="clip")
        after = np.take(contiguous[1:], index, mode="clip")
        after -= target
        after *= share
        target += after
    return out


@functools.lru_cache(maxsize=4 * SPEED_STEPS)
def _positions(n: int, factor: float) -> tuple[NDArray[np.intp], Samples]:
    """Where each sample of a faster or slower clip lies in the clip of n: whole part and fraction."""
    positions = np.arange(max(1, int(n / factor))) * factor
    index = np.minimum(positions.astype(np.intp), n - 2)
    return index, np.minimum(positions - index, 1.0).astype(np.float32)


def _fft_size(n: int) -> int:
    return int(cv2.getOptimalDFTSize(n + n % 2))


def _filter(rows: Samples, spectra: Samples, picks: NDArray[np.intp]) -> Samples:
    """Rows (R, n), each through the filter `picks` of packed `spectra` (K, size); cut to n again."""
    n, size = rows.shape[1], spectra.shape[1]
    padded = np.zeros((len(rows), size), np.float32)
    padded[:, :n] = rows
    spectrum = cv2.dft(padded, flags=cv2.DFT_ROWS)
    spectrum = cv2.mulSpectrums(spectrum, spectra[picks], cv2.DFT_ROWS)
    return np.asarray(cv2.idft(spectrum, padded, cv2.DFT_ROWS | cv2.DFT_SCALE)[:, :n], np.float32)


def _add_noise(
    out: Samples,
    rows: NDArray[np.intp],
    noises: Sequence[Samples],
    settings: SoundAugment,
    chance: Samples,
    rng: np.random.Generator,
) -> None:
    n = out.shape[1]
    made = _made_noises(n)
    low, high = settings.noise_db
    starts = rng.random(len(rows))
    for row, start in zip(rows.tolist(), starts.tolist(), strict=True):
        source, which, level_db, silence = chance[row].tolist()
        bank: Sequence[Samples] = noises if noises and source < 0.7 else made
        noise = bank[int(which * len(bank))]
        if noise.ndim != 1:
            raise DataError(
                f"a noise must be mono, (M,), got {noise.shape}", next_step="mix its channels first"
            )
        begin = int(start * max(1, len(noise) - n + 1))
        part = noise[begin : begin + n]
        if len(part) < n:
            part = np.resize(part, n)  # repeated; zeros where there is nothing
        clip = out[row]
        level = cv2.norm(clip, cv2.NORM_L2SQR) / n * 10 ** (-(low + level_db * (high - low)) / 10)
        # digital silence has no level of its own to be measured against
        level = max(level, 10 ** (-9 + 4 * silence))
        clip += part * np.float32((level / (cv2.norm(part, cv2.NORM_L2SQR) / n + 1e-12)) ** 0.5)


@functools.lru_cache(maxsize=4)
def _made_noises(n: int) -> tuple[Samples, ...]:
    """Noise whose power falls as 1 / f^a, a from 0 (white) over 1 (pink) to 2 (brown); long enough to cut n from."""
    rng = np.random.default_rng(0)
    size = _fft_size(4 * n + 4096)
    made = []
    for slope in np.linspace(0, 2, 9):
        spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
        spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (slope / 2)
        made.append(np.fft.irfft(spectrum, size).astype(np.float32))
    return tuple(made)


@functools.lru_cache(maxsize=4)
def _microphones(size: int, sample_rate_hz: int, tilt_db: float) -> Samples:
    """(MICROPHONES + 1, size) packed spectra without delay: slopes round 1 kHz with band edges; the last a phone line."""
    rng = np.random.default_rng(0)
    hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    octaves = np.log2(np.maximum(hz, 50.0) / 1000.0)
    nyquist_hz = sample_rate_hz / 2
    curves = []
    for number in range(MICROPHONES + 1):
        if number < MICROPHONES:
            tilt = rng.uniform(-tilt_db, tilt_db)
            low_hz, high_hz = rng.uniform(20, 250), nyquist_hz * rng.uniform(0.5, 1.5)
        else:
            tilt, (low_hz, high_hz) = 0.0, LINE_HZ
        gain = 10 ** (np.clip(tilt * octaves, -20, 20) / 20)
        # fourth-order Butterworth magnitudes
        gain /= np.sqrt((1 + (low_hz / np.maximum(hz, 1e-3)) ** 8) * (1 + (hz / high_hz) ** 8))
        curves.append(gain)
    packed = np.zeros((len(curves), size), np.float32)
    packed[:, 0] = [c[0] for c in curves]
    # OpenCV packs Re 0, Re 1, Im 1, Re 2, Im 2 ... Re size / 2
    packed[:, 1::2] = [c[1:] for c in curves]
    return packed


def _gain(out: Samples, settings: SoundAugment, gain: Samples, overdrive: Samples) -> None:
    low, high = settings.gain_db
    factors = 10 ** ((low + gain * (high - low)) / 20)
    for row in np.flatnonzero(overdrive < settings.overdrive):
        # the rest of the draw says how far: 0 to 12 dB over full scale
        over = OVERDRIVE ** float(overdrive[row] / settings.overdrive)
        factors[row] = over / max(float(np.max(np.abs(out[row]))), 1e-3)
    for row, factor in zip(out, factors.astype(np.float32), strict=True):
        np.multiply(row, factor, out=row)
        np.clip(row, -1, 1, out=row)


def _mu_law(clip: Samples) -> None:
    """There and back through 8 bits, in place."""
    codes = (clip * 32767).astype(np.int16).view(np.uint16)
    np.take(_mu_law_table(), codes, out=clip, mode="clip")


@functools.lru_cache(maxsize=1)
def _mu_law_table() -> Samples:
    value = np.arange(65536, dtype=np.uint16).view(np.int16) / 32767.0
    magnitude = np.minimum(np.abs(value), 1.0)
    code = np.rint(np.log1p(MU * magnitude) / np.log1p(MU) * 127) / 127
    return np.asarray(np.sign(value) * np.expm1(code * np.log1p(MU)) / MU, np.float32)
