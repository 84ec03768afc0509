"""Log-mel features in numpy, the one front end of training and device: same bits for any chunking and any batch.

A frame is `window_samples` samples under a periodic Hann window, zero-padded at its end to `fft_size`. Frame k
starts at sample k * hop_samples exactly; only whole frames count, nothing is centred or padded. Its power spectrum
|X|^2 (float64) is summed under triangles that are equally wide on the HTK mel scale, mel = 2595 log10(1 + f / 700)
(Young et al., The HTK Book 3.4, section 5.4), peak 1, no area normalisation. A feature is
(ln(energy + floor) - offset) / scale, clipped to -1..1, float32.

The same bits come out for any chunking because nothing is summed by BLAS, whose order depends on the shape of the
matrix: every FFT bin lies on the rising slope of one triangle and the falling slope of the one before, so two
segment sums by np.add.reduceat give every band.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError

# Frames computed at once: enough to hide numpy's overhead, few enough to stay in a small L2 cache.
_BLOCK_FRAMES = 32


class LogMel:
    """Streaming log-mel: feed samples in runs of any length, get the feature vectors that they complete.

    Samples that are NaN or infinite count as 0.0 and are counted in `nonfinite_samples`: one bad buffer of a driver
    must not end a stream.
    """

    def __init__(self, spec: LogMelInput) -> None:
        self.spec = spec
        self.nonfinite_samples = 0
        self._tables = _tables_of(spec)
        self._rest = np.empty(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The (n, mels) float32 features, -1..1, of the frames that `samples`, (N,) float in -1..1, complete.

        n may be 0. Raises StageError for integers and for anything that is not one-dimensional.
        """
        fresh, bad = _checked(samples, 1)
        self.nonfinite_samples += bad
        joined = np.concatenate((self._rest, fresh)) if len(self._rest) else fresh
        features: NDArray[np.float32] = _features(joined[np.newaxis], self.spec, self._tables)[0]
        # a copy: the caller may write its buffer over before the next push
        self._rest = joined[len(features) * self.spec.hop_samples :].copy()
        return features

    def reset(self) -> None:
        """Forget the samples of an unfinished frame: the next sample begins a new stream."""
        self._rest = np.empty(0, np.float32)


def log_mel(samples: NDArray[np.float32], spec: LogMelInput) -> NDArray[np.float32]:
    """The (frames, mels) float32 features of a whole clip, (N,) float in -1..1; bit for bit what LogMel.push gives.

    A clip shorter than one window has no frames. Non-finite samples count as 0. Raises StageError as LogMel does.
    """
    checked, _ = _checked(samples, 1)
    features: NDArray[np.float32] = _features(checked[np.newaxis], spec, _tables_of(spec))[0]
    return features


def log_mel_batch(samples: NDArray[np.float32], spec: LogMelInput) -> NDArray[np.float32]:
    """The (B, frames, mels) float32 features of B clips of one length, (B, N); bit for bit `log_mel` of each."""
    checked, _ = _checked(samples, 2)
    return _features(checked, spec, _tables_of(spec))


def frame_count(samples: int, spec: LogMelInput) -> int:
    """How many whole frames so many samples hold.

    >>> frame_count(16000, LogMelInput())
    49
    """
    return max(0, (samples - spec.window_samples) // spec.hop_samples + 1)


def samples_for(frames: int, spec: LogMelInput) -> int:
    """How many samples so many whole frames (at least one) need.

    >>> samples_for(49, LogMelInput())
    15840
    """
    return (frames - 1) * spec.hop_samples + spec.window_samples


@dataclass(frozen=True, slots=True)
class _Tables:
    """Constants of one spec, float64. Segment s lies between mel points s and s + 1.

    slopes: (2, bins), the rising and the falling weight of each bin of `first_bin : first_bin + bins`; the last
    column is a zero, so that an empty last segment has an index. starts: (mels + 1,), where each segment begins.
    filled: (mels + 1,), 0.0 where a segment has no bin (reduceat gives the next bin there), else 1.0.
    """

    window: NDArray[np.float64]
    first_bin: int
    slopes: NDArray[np.float64]
    starts: NDArray[np.intp]
    filled: NDArray[np.float64]


@functools.lru_cache(maxsize=32)
def _tables_of(spec: LogMelInput) -> _Tables:
    """The tables of a spec. Raises StageError where a band would hold no FFT bin: it could never hear anything."""
    positions = np.arange(spec.window_samples, dtype=np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * positions / spec.window_samples)
    points_hz = mel_points_hz(spec)
    bins_hz = np.arange(spec.fft_size // 2 + 1, dtype=np.float64) * (spec.sample_rate_hz / spec.fft_size)
    # a bin on the lowest or highest point has weight 0 and is left out
    first, stop = (
        np.searchsorted(bins_hz, points_hz[0], "right"),
        np.searchsorted(bins_hz, points_hz[-1], "left"),
    )
    inner_hz = bins_hz[first:stop]
    segment = np.searchsorted(points_hz, inner_hz, "right") - 1
    rising = (inner_hz - points_hz[segment]) / (points_hz[segment + 1] - points_hz[segment])
    slopes = np.zeros((2, len(inner_hz) + 1))
    slopes[0, :-1] = rising
    slopes[1, :-1] = 1.0 - rising
    edges = np.searchsorted(segment, np.arange(spec.mels + 2))
    weight = np.add.reduceat(slopes, edges[:-1], axis=1) * (np.diff(edges) > 0)
    deaf = np.flatnonzero(weight[0, :-1] + weight[1, 1:] <= 0)
    if len(deaf):
        band = int(deaf[0])
        raise StageError(
            f"log-mel band {band} ({points_hz[band]:.0f} to {points_hz[band + 2]:.0f} Hz) holds no bin of an FFT of "
            f"{spec.fft_size} at {spec.sample_rate_hz} Hz",
            next_step=f"use a larger fft_size, fewer mels than {spec.mels} or a higher low_hz than {spec.low_hz:g}",
        )
    return _Tables(
        window, int(first), slopes, edges[:-1].astype(np.intp), (np.diff(edges) > 0).astype(np.float64)
    )


def mel_points_hz(spec: LogMelInput) -> NDArray[np.float64]:
    """(mels + 2,) Hz: band m rises from point m to its peak at m + 1 and falls to m + 2."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (spec.low_hz, spec.high_hz))
    points_hz: NDArray[np.float64] = 700.0 * (10.0 ** (np.linspace(low, high, spec.mels + 2) / 2595.0) - 1.0)
    points_hz[0], points_hz[-1] = spec.low_hz, spec.high_hz
    return points_hz


def _checked(samples: NDArray[np.float32], ndim: int) -> tuple[NDArray[np.float32], int]:
    """The samples as contiguous finite float32, and how many were not finite."""
    if not isinstance(samples, np.ndarray) or samples.ndim != ndim or samples.dtype.kind != "f":
        got = (
            f"{samples.shape} {samples.dtype}" if isinstance(samples, np.ndarray) else type(samples).__name__
        )
        raise StageError(
            f"audio samples must be {'(N,)' if ndim == 1 else '(B, N)'} float32 in -1..1, got {got}",
            next_step="divide 16-bit samples by 32768 and mix channels to mono first",
        )
    if samples.dtype == np.float32:
        fresh = np.ascontiguousarray(samples)
    else:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is counted below
            fresh = np.ascontiguousarray(samples, dtype=np.float32)
    finite = np.isfinite(fresh)
    bad = fresh.size - int(np.count_nonzero(finite))
    return (np.where(finite, fresh, np.float32(0)) if bad else fresh), bad


def _features(clips: NDArray[np.float32], spec: LogMelInput, tables: _Tables) -> NDArray[np.float32]:
    """(B, frames, mels) of (B, N) contiguous finite samples."""
    frames = frame_count(clips.shape[1], spec)
    features = np.empty((len(clips), frames, spec.mels), np.float32)
    if features.size == 0:
        return features
    views = np.lib.stride_tricks.sliding_window_view(clips, spec.window_samples, axis=1)[
        :, :: spec.hop_samples
    ]
    for clip, view in enumerate(views):
        for begin in range(0, frames, _BLOCK_FRAMES):
            block = slice(begin, min(begin + _BLOCK_FRAMES, frames))
            features[clip, block] = _block(view[block], spec, tables)
    return features


def _block(frames: NDArray[np.float32], spec: LogMelInput, tables: _Tables) -> NDArray[np.float64]:
    """(n, mels) of (n, window_samples). Every step works on a row alone and in a fixed order."""
    spectrum = np.fft.rfft(frames * tables.window, n=spec.fft_size, axis=1)
    spectrum = spectrum[:, tables.first_bin : tables.first_bin + tables.slopes.shape[1]]
    if spectrum.shape[1] < tables.slopes.shape[1]:  # an odd FFT has no bin at the Nyquist frequency
        spectrum = np.pad(spectrum, ((0, 0), (0, 1)))
    power = spectrum.real * spectrum.real
    power += spectrum.imag * spectrum.imag
    sums = np.add.reduceat(power[:, np.newaxis] * tables.slopes, tables.starts, axis=2)
    sums *= tables.filled
    energy = sums[:, 0, :-1] + sums[:, 1, 1:]
    features: NDArray[np.float64] = np.log(energy + spec.floor)
    features -= spec.offset
    features /= spec.scale
    np.minimum(features, 1.0, out=features)
    return np.maximum(features, -1.0, out=features)
