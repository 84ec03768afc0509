"""Log-mel features of a training batch: edgeai's front end in float32, four times as fast.

The device's code (edgeai.stages.audio.logmel) promises the same bits for any chunking and pays for it with float64 and
sums in a fixed order. A training batch needs neither: the formula is the same, what differs is rounding. That is below
1e-6 for sounds, and some 1e-4 in a band 100 dB below a pure tone beside it, where a step of an int8 input is 8e-3.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError
from edgeai.stages.audio.logmel import frame_count, mel_points_hz

Floats = NDArray[np.float32]
_BLOCK_CLIPS = 8  # so that a block's frames stay in the second-level cache


def log_mel_features(clips: Floats, spec: LogMelInput) -> Floats:
    """(B, frames, mels) float32, -1..1, of clips (B, N) in -1..1: `log_mel_batch` in float32.

    Samples that are not finite count as 0. Raises StageError where clips is not (B, N) floats.
    """
    if clips.ndim != 2 or clips.dtype.kind != "f":
        raise StageError(
            f"clips must be (B, N) float32 in -1..1, got {clips.shape} {clips.dtype}",
            next_step="mix the channels to mono first",
        )
    clips = np.ascontiguousarray(clips, np.float32)
    if not np.isfinite(clips).all():
        clips = np.where(np.isfinite(clips), clips, np.float32(0))
    frames = frame_count(clips.shape[1], spec)
    features = np.empty((len(clips), frames, spec.mels), np.float32)
    if features.size == 0:
        return features
    window, first_bin, weights = _tables(spec)
    # OpenCV packs Re 0, Re 1, Im 1, Re 2, Im 2, ...; bin 0 and the highest lie on the bands' edges and weigh nothing
    begin, stop = 2 * first_bin - 1, 2 * (first_bin + len(weights)) - 1
    views = np.lib.stride_tricks.sliding_window_view(clips, spec.window_samples, axis=1)
    views = views[:, :: spec.hop_samples]
    block = min(_BLOCK_CLIPS, len(clips))
    padded = np.zeros((block, frames, spec.fft_size), np.float32)
    spectrum = np.empty((block * frames, spec.fft_size), np.float32)
    for number in range(0, len(clips), block):
        part = views[number : number + block]
        rows = len(part) * frames
        np.multiply(part, window, out=padded[: len(part), :, : spec.window_samples])
        cv2.dft(padded[: len(part)].reshape(rows, -1), spectrum[:rows], cv2.DFT_ROWS)
        squares = spectrum[:rows, begin:stop]
        np.square(squares, out=squares)
        power = squares[:, 0::2] + squares[:, 1::2]
        # not BLAS: its threads would spin on the cores that the training step needs
        energy = np.asarray(cv2.gemm(power, weights, 1.0, None, 0.0), np.float32)  # type: ignore[call-overload]
        energy += np.float32(spec.floor)
        cv2.log(energy, energy)
        energy -= np.float32(spec.offset)
        energy *= np.float32(1 / spec.scale)
        features[number : number + len(part)] = np.clip(energy, -1, 1).reshape(len(part), frames, -1)
    return features


@functools.lru_cache(maxsize=32)
def _tables(spec: LogMelInput) -> tuple[Floats, int, Floats]:
    """The Hann window, the first FFT bin that a band hears, and (bins, mels) the bands' triangles."""
    window = np.sin(np.pi * np.arange(spec.window_samples) / spec.window_samples) ** 2
    points_hz = mel_points_hz(spec)
    bins_hz = np.arange(spec.fft_size // 2 + 1) * (spec.sample_rate_hz / spec.fft_size)
    first = int(np.searchsorted(bins_hz, points_hz[0], "right"))
    stop = int(np.searchsorted(bins_hz, points_hz[-1], "left"))
    hz = bins_hz[first:stop, np.newaxis]
    low, peak, high = points_hz[:-2], points_hz[1:-1], points_hz[2:]
    triangles = np.maximum(0.0, np.minimum((hz - low) / (peak - low), (high - hz) / (high - peak)))
    return window.astype(np.float32), first, triangles.astype(np.float32)
