"""Finds the same recording in two clips, at another gain, rate or start, or only a span of it; noise is as good as speech.

Every 8 ms a 32-bit word says whether the energy difference of neighbouring bands (33 from 300 to 2000 Hz, in windows of
256 ms) rises or falls: Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, with shorter windows
for shorter clips. Equal words in two clips at one distance in time propose a pair; the correlation of the two signals there decides. In
speech_commands (whose noise cuts overlap) and wakeword_alexa shared spans correlate above 0.95, what was only proposed below
0.8; one speaker's short vowels in fsdd reach 0.88.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 5000  # as in the paper, for every clip
COMPARE_HZ = 10_000
HOP = 40
WINDOW = 1280
BANDS = 33
_HOP_COMPARED = HOP * COMPARE_HZ // RATE_HZ
MIN_SPAN_S = 0.2
MIN_CORRELATION = 0.9
MIN_CORRELATION_SHORT = 0.95
SHORT_S = 0.5
# clips whose overlap is all but this share of both are one recording, not two that share a span
WHOLE_SHARE = 0.95
# a pure tone correlates with itself at many distances: only an exact copy counts then
MIN_CORRELATION_TONE = 0.9999

_MIN_VOTES = 2
_MAX_SAME_WORD = 64
_FLOOR_DB = -75.0
# what is compared: mains hum is the same everywhere, and above 2 kHz half a sample would matter
_LOW_HZ, _HIGH_HZ = 200, 2000
_EDGES = np.round(300 * (2000 / 300) ** (np.arange(BANDS + 1) / BANDS) * WINDOW / RATE_HZ).astype(int)
_TAPER = np.hanning(WINDOW).astype(np.float32)

Words = NDArray[np.uint32]
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SharedSpan:
    """Clips number first < second share overlap_s seconds, which begin first_s and second_s into them.

    whole: it is nearly all of both. correlation: of the two signals there, 0..1.
    """

    first: int
    second: int
    first_s: float
    second_s: float
    overlap_s: float
    whole: bool
    correlation: float


def resample_for_words(samples: Samples, rate_hz: int) -> Samples:
    """(N,) at any rate -> at RATE_HZ, what `fingerprint` takes."""
    return _resample(samples, rate_hz, RATE_HZ, (0, RATE_HZ // 2))


def resample_for_comparison(samples: Samples, rate_hz: int) -> Samples:
    """(N,) at any rate -> the bands of the words alone at COMPARE_HZ, what `find_shared_spans` reads."""
    return _resample(samples, rate_hz, COMPARE_HZ, (_LOW_HZ, _HIGH_HZ))


def _resample(samples: Samples, rate_hz: int, to_hz: int, band_hz: tuple[int, int]) -> Samples:
    """By cutting the spectrum of the whole clip."""
    step = rate_hz // gcd(rate_hz, to_hz)
    padded = np.pad(samples, (0, -len(samples) % step))
    count = len(padded) * to_hz // rate_hz
    if count == 0:
        return np.empty(0, np.float32)
    waves = np.fft.rfft(padded)
    kept = np.zeros(count // 2 + 1, waves.dtype)
    low, high = (hz * len(padded) // rate_hz for hz in band_hz)
    band = slice(low, min(high, len(kept), len(waves)))
    kept[band] = waves[band]
    return (np.fft.irfft(kept, count) * (count / len(padded))).astype(np.float32)


def fingerprint(samples: Samples) -> Words:
    """(N,) at RATE_HZ -> one word every 8 ms; zero where there is no sound."""
    padded = np.pad(samples, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    words = np.zeros(len(frames), np.uint32)
    last: NDArray[np.float32] | None = None
    for start in range(0, len(frames), 512):  # memory stays small for a long recording
        power = np.abs(np.fft.rfft(frames[start : start + 512] * _TAPER, axis=1)) ** 2
        bands = np.add.reduceat(power[:, : _EDGES[-1]], _EDGES[:-1], axis=1).astype(np.float32)
        slopes = np.diff(bands, axis=1)
        before = np.concatenate((slopes[:1] if last is None else last, slopes[:-1]))
        last = slopes[-1:]
        bits = np.packbits(slopes > before, axis=1)
        made = bits.view(">u4").ravel().astype(np.uint32)
        made[bands.sum(axis=1) < 1e-6 * WINDOW] = 0
        words[start : start + len(made)] = made
    return words


def find_shared_spans(
    words: Sequence[Words], read: Callable[[int], Samples], *, advance: Callable[[int], None] = lambda n: None
) -> list[SharedSpan]:
    """Every pair of clips that share at least 0.2 s of one recording.

    words: the fingerprint of each clip. read: a clip's samples at COMPARE_HZ, called for proposed pairs. advance: called with
    the proposals done, 1 at a time.
    """
    found = []
    kept: dict[int, Samples] = {}
    for first, second, hops in propose_pairs(words):
        for number in (first, second):
            if number not in kept:
                if len(kept) >= 256:
                    kept.pop(next(iter(kept)))
                kept[number] = read(number)
        span = _measure(kept[first], kept[second], hops * _HOP_COMPARED)
        if span is not None:
            found.append(SharedSpan(first, second, *span))
        advance(1)
    return found


def propose_pairs(words: Sequence[Words]) -> list[tuple[int, int, int]]:
    """(first, second, hops that second starts after first) for clips with equal words at one distance, first < second."""
    if not words:
        return []
    owners = np.repeat(np.arange(len(words), dtype=np.int32), [len(w) for w in words])
    places = np.concatenate([np.arange(len(w), dtype=np.int32) for w in words])
    every = np.concatenate(words)
    sounding = every != 0
    owners, places, every = owners[sounding], places[sounding], every[sounding]
    order = np.argsort(every, kind="stable")  # equal words stay in the order of their clips
    every, owners, places = every[order], owners[order], places[order]
    _, counts = np.unique(every, return_counts=True)
    usual = np.repeat(counts <= _MAX_SAME_WORD, counts)
    every, owners, places = every[usual], owners[usual], places[usual]
    votes: list[NDArray[np.int64]] = []
    for step in range(1, _MAX_SAME_WORD):
        same = np.flatnonzero(every[step:] == every[:-step])
        if not len(same):
            break
        a, b = owners[same].astype(np.int64), owners[same + step].astype(np.int64)
        hops = places[same].astype(np.int64) - places[same + step]
        differ = a != b
        votes.append(np.stack((a[differ], b[differ], hops[differ])))
    if not votes:
        return []
    rows, tally = np.unique(np.concatenate(votes, axis=1), axis=1, return_counts=True)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for (a, b, hops), count in zip(rows.T.tolist(), tally.tolist(), strict=True):
        if count >= _MIN_VOTES and count > best.get((a, b), (0, 0))[0]:
            best[a, b] = (count, hops)
    return [(a, b, hops) for (a, b), (_, hops) in sorted(best.items())]


def _measure(a: Samples, b: Samples, lag: int) -> tuple[float, float, float, bool, float] | None:
    """(start in a, start in b, overlap, whole, correlation) near a lag (b starts `lag` samples after a); None for no match."""
    searched: dict[int, float] = {}
    for shift in range(lag - 2 * _HOP_COMPARED, lag + 2 * _HOP_COMPARED + 1):
        start, stop = max(0, shift), min(len(a), len(b) + shift)
        if stop - start < MIN_SPAN_S * COMPARE_HZ:
            continue
        x, y = a[start:stop], b[start - shift : stop - shift]
        energy = float(np.dot(x, x)) * float(np.dot(y, y))
        if energy >= ((stop - start) * 10 ** (_FLOOR_DB / 10)) ** 2:
            searched[shift] = abs(float(np.dot(x, y))) / energy**0.5
    if not searched:
        return None
    found = max(searched, key=searched.__getitem__)
    correlation = _peak(searched, found)
    start, stop = max(0, found), min(len(a), len(b) + found)
    if correlation < (MIN_CORRELATION if stop - start >= SHORT_S * COMPARE_HZ else MIN_CORRELATION_SHORT):
        return None
    away = [value for shift, value in searched.items() if abs(shift - found) > _HOP_COMPARED // 2]
    if away and max(away) > 0.98 * correlation and correlation < MIN_CORRELATION_TONE:
        return None
    overlap = stop - start
    whole = overlap >= WHOLE_SHARE * max(len(a), len(b))
    return start / COMPARE_HZ, (start - found) / COMPARE_HZ, overlap / COMPARE_HZ, whole, correlation


def _peak(values: dict[int, float], at: int) -> float:
    """The height of the parabola through the largest value and its neighbours: clips seldom lie whole samples apart."""
    before, top, after = (values.get(at + step, 0.0) for step in (-1, 0, 1))
    bend = before - 2 * top + after
    if not before or not after or bend >= 0:
        return min(1.0, top)
    return min(1.0, top - (before - after) ** 2 / (8 * bend))
