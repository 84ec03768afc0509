"""A streaming polyphase resampler in numpy: any rate to any rate, same bits for any chunking.

Output m is the input, band-limited, at the input position m * M / L (L / M is out_hz / in_hz in lowest terms): no
delay is added, and sample 0 stays sample 0. The filter is a sinc under a Kaiser window (Kaiser, "Nonrecursive
digital filter design using the I0-sinh window function", 1974) whose transition lies between 0.9 and 1.0 of the
lower Nyquist frequency: flat within 0.1 dB below it, at least 60 dB down above it (70 dB by design).

It is here and not among the stages because only sources change rates, and sources never import stages.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import UsageError

Samples: TypeAlias = NDArray[np.float32]

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 384_000

# Kaiser (1974): a stop-band of A dB needs beta = 0.1102 (A - 8.7) and (A - 7.95) / (2.285 dw) taps, dw the width of
# the transition in radians a sample; here 0.1 of the Nyquist frequency.
_STOP_DB = 70.0
_BETA = 0.1102 * (_STOP_DB - 8.7)
_HALF_TAPS = math.ceil((_STOP_DB - 7.95) / (2.285 * 0.1 * math.pi) / 2)
_CUTOFF = 0.95

# Output samples computed at once: the products of a block stay in a small L2 cache.
_BLOCK_VALUES = 1 << 16
# Up to so many phases each has its own filter; beyond (rates without a common divisor) filters are interpolated
# linearly between _GRID, whose error is at most (pi / _GRID)^2 / 8 = -106 dB.
_EXACT_PHASES = 1024
_GRID = 512


class Resampler:
    """Samples at in_hz in, samples at out_hz out. Not for several threads.

    Raises UsageError for rates outside 4 kHz to 384 kHz. Equal rates pass through untouched.
    """

    def __init__(self, in_hz: int, out_hz: int) -> None:
        for rate_hz in (in_hz, out_hz):
            if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                raise UsageError(
                    f"cannot resample at {rate_hz} Hz, known are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
                )
        divisor = math.gcd(in_hz, out_hz)
        self.in_hz, self.out_hz = in_hz, out_hz
        self._up, self._down = out_hz // divisor, in_hz // divisor
        # one tap is one input sample: a lower output rate widens the filter
        self._ratio = min(1.0, out_hz / in_hz)
        self._half = math.ceil(_HALF_TAPS / self._ratio)
        self._exact = self._up <= _EXACT_PHASES
        self._table = self._filters(
            np.arange(self._up) / self._up if self._exact else np.arange(_GRID + 1) / _GRID
        )
        self._rows = max(1, _BLOCK_VALUES // self._table.shape[1])
        self._held = np.empty(0, np.float32)
        self._first = 0  # the input position of _held[0]
        self._taken = 0  # samples in
        self._given = 0  # samples out
        self.reset()

    def push(self, samples: Samples) -> Samples:
        """The (n,) float32 output that `samples`, (N,) float32, complete; the filter looks half its length ahead."""
        if self._up == self._down:
            return np.array(samples, np.float32)
        self._taken += len(samples)
        self._held = np.concatenate((self._held, np.asarray(samples, np.float32)))
        return self._give(-(-(self._taken - self._half) * self._up // self._down))

    def flush(self) -> Samples:
        """The (n,) float32 rest, as though silence followed: in all ceil(taken * out_hz / in_hz); then reset."""
        if self._up == self._down:
            return np.empty(0, np.float32)
        self._held = np.concatenate((self._held, np.zeros(self._half, np.float32)))
        rest = self._give(-(-self._taken * self._up // self._down))
        self.reset()
        return rest

    def reset(self) -> None:
        """Forget the stream: the next sample is sample 0."""
        self._held = np.zeros(self._half - 1, np.float32)  # silence before sample 0
        self._first = 1 - self._half
        self._taken = self._given = 0

    def _give(self, stop: int) -> Samples:
        """Outputs _given : stop, and drop the input that no later output needs."""
        if stop <= self._given:
            return np.empty(0, np.float32)
        out = np.empty(stop - self._given, np.float32)
        taps = 2 * self._half
        step = self._held.itemsize
        views: Samples = np.ndarray(
            (len(self._held) - taps + 1, taps), np.float32, self._held, 0, (step, step)
        )
        for begin in range(0, len(out), self._rows):
            end = min(begin + self._rows, len(out))
            # exact for any length of stream: Python's integers up to here, small offsets from here on
            whole, phase = divmod((self._given + begin) * self._down, self._up)
            ticks = phase + np.arange(end - begin, dtype=np.int64) * self._down
            rows = ticks // self._up + (whole - self._half + 1 - self._first)
            # not a dot product: BLAS sums in an order that depends on the number of rows
            out[begin:end] = np.add.reduce(views[rows] * self._phases(ticks % self._up), axis=1)
        self._given = stop
        keep = stop * self._down // self._up - self._half + 1
        self._held = self._held[keep - self._first :].copy()
        self._first = keep
        return out

    def _phases(self, phases: NDArray[np.int64]) -> Samples:
        """(n or 1, taps), the filters of outputs that lie phase / up after an input sample."""
        if self._exact:
            return self._table[phases] if self._up > 1 else self._table
        place = phases * (_GRID / self._up)
        below = place.astype(np.intp)
        share = (place - below).astype(np.float32)[:, np.newaxis]
        return self._table[below] * (1 - share) + self._table[below + 1] * share

    def _filters(self, fractions: NDArray[np.float64]) -> Samples:
        """(len(fractions), taps) float32: the taps for outputs that lie so far, 0..1, after an input sample."""
        positions = np.arange(1 - self._half, self._half + 1) - fractions[:, np.newaxis]
        scaled = positions * self._ratio
        inside = np.clip(1.0 - (scaled / _HALF_TAPS) ** 2, 0.0, None)
        filters = np.sinc(_CUTOFF * scaled) * np.i0(_BETA * np.sqrt(inside)) * (np.abs(scaled) <= _HALF_TAPS)
        filters /= filters.sum(axis=1, keepdims=True)  # exactly 1 at 0 Hz
        return filters.astype(np.float32)
