"""Generated rooms: impulse responses of a shoebox by the image-source method (Allen & Berkley, JASA 65(4), 1979).

A wall mirrors the source; its mirror images, mirrored again by the other walls, fill space with a lattice of sources
that all sound at once. What a microphone hears is their sum, each delayed by its distance and weakened by 1/(4 pi d) and
by the pressure reflection factor of every wall it met. Walls absorb alike at all frequencies, and air absorbs nothing:
the colour of a microphone is made elsewhere.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.errors import DataError

Floats: TypeAlias = NDArray[np.float32]
Point: TypeAlias = tuple[float, float, float]

SOUND_M_PER_S = 343.0
ROOMS = 200
RESPONSE_S = 0.3
MAX_IMAGES = 4_000_000
# Images of a perfect box arrive in a pattern that sweeps and buzzes; a few centimetres of disorder hide it
# (De Sena et al., IEEE/ACM TASLP 23(4), 2015).
DISORDER_M = 0.05


def shoebox_response(
    room_m: Point,
    source_m: Point,
    microphone_m: Point,
    reflection: float,
    *,
    sample_rate_hz: int,
    seconds: float,
    disorder_m: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Floats:
    """The response (n,), n = seconds * sample_rate_hz: gain 1/(4 pi d) at delay d / 343 m/s for the direct path.

    reflection: the pressure factor of all six walls, 0 to below 1 (the square root of 1 - absorption). disorder_m moves
    each image's distance by up to so much at random (the direct path stays). Delays are rounded to whole samples, as in
    the paper. Raises DataError where a point is not inside the room, reflection is not in 0..1, or it would take more
    than 4 million images.
    """
    n = round(seconds * sample_rate_hz)
    for name, point in (("source", source_m), ("microphone", microphone_m)):
        if not all(0 < p < side for p, side in zip(point, room_m, strict=True)):
            raise DataError(f"the {name} at {point} m is not inside a room of {room_m} m")
    if not 0 <= reflection < 1:
        raise DataError(f"a wall's reflection factor must be in 0 to below 1, got {reflection}")
    reach_m = SOUND_M_PER_S * seconds
    if reach_m**3 * 8 > MAX_IMAGES * math.prod(room_m):
        raise DataError(
            f"{seconds} s in a room of {room_m} m would take over {MAX_IMAGES} images",
            next_step="ask for less time",
        )
    axes = [
        _axis_images(side, s, r, reflection, reach_m)
        for side, s, r in zip(room_m, source_m, microphone_m, strict=True)
    ]
    (dx2, ax), (dy2, ay), (dz2, az) = axes
    squares = dx2[:, None, None] + dy2[:, None] + dz2
    near = squares < reach_m * reach_m
    distance = np.sqrt(squares[near])
    gain = (ax[:, None, None] * ay[:, None] * az)[near]
    if disorder_m and rng is not None and len(distance) > 1:
        direct = int(np.argmin(distance))
        moved = distance + rng.uniform(-disorder_m, disorder_m, len(distance)).astype(np.float32)
        # no image comes before the sound itself
        moved = np.maximum(moved, distance[direct])
        moved[direct] = distance[direct]
        distance = moved
    distance = np.maximum(distance, 0.01)  # a mouth on the microphone
    delay = np.rint(distance * np.float32(sample_rate_hz / SOUND_M_PER_S)).astype(np.intp)
    summed = np.bincount(delay, gain / (np.float32(4 * np.pi) * distance), n)
    return summed[:n].astype(np.float32)


def _axis_images(
    side_m: float, source_m: float, microphone_m: float, reflection: float, reach_m: float
) -> tuple[Floats, Floats]:
    """Squared distance along one axis to each image (N,), and the gain of the walls of that axis it met."""
    count = math.ceil(reach_m / (2 * side_m)) + 1
    m = np.arange(-count, count + 1)
    plain = 2 * m * side_m + source_m - microphone_m
    mirrored = 2 * m * side_m - source_m - microphone_m
    bounces = np.concatenate((2 * np.abs(m), np.abs(m) + np.abs(m - 1)))
    return np.square(np.concatenate((plain, mirrored))).astype(np.float32), (
        np.float64(reflection) ** bounces
    ).astype(np.float32)


def eyring_absorption(room_m: Point, rt60_s: float) -> float:
    """The walls' energy absorption, 0..1, that gives a reverberation time (Eyring, JASA 1, 1930).

    >>> round(eyring_absorption((5, 4, 3), 0.4), 3)
    0.227
    """
    x, y, z = room_m
    surface = 2 * (x * y + y * z + z * x)
    return 1 - math.exp(-24 * math.log(10) * x * y * z / (SOUND_M_PER_S * surface * rt60_s))


@dataclass(frozen=True)
class RoomBank:
    """responses: (R, n) float32, the direct path at sample 0, energy 1, so that a clip keeps its power and its place."""

    responses: Floats
    sample_rate_hz: int
    _spectra: dict[int, Floats] = field(default_factory=dict, repr=False)

    def spectra(self, size: int) -> Floats:
        """(R, size) float32: the responses' spectra in OpenCV's packed order, made once for each size."""
        made = self._spectra.get(size)
        if made is None:
            padded = np.zeros((len(self.responses), size), np.float32)
            padded[:, : self.responses.shape[1]] = self.responses[:, :size]
            made = self._spectra.setdefault(size, np.asarray(cv2.dft(padded, flags=cv2.DFT_ROWS), np.float32))
        return made


@functools.lru_cache(maxsize=4)
def open_room_bank(*, sample_rate_hz: int, count: int = ROOMS, seed: int = 0) -> RoomBank:
    """Responses of `count` random rooms, from a bathroom to a small hall, RT60 0.1 to 0.7 s; about 5 ms each.

    Kept: the second call with the same arguments costs nothing.
    """
    rng = np.random.default_rng(seed)
    responses = np.stack([_random_response(rng, sample_rate_hz) for _ in range(count)])
    return RoomBank(responses, sample_rate_hz)


def _random_response(rng: np.random.Generator, sample_rate_hz: int) -> Floats:
    hall = rng.random() < 0.15
    low, high = ((6.0, 6.0, 3.0), (14.0, 10.0, 5.0)) if hall else ((2.0, 1.8, 2.2), (7.0, 6.0, 3.2))
    room = _point(rng.uniform(low, high))
    rt60_s = float(rng.uniform(0.1, 0.7))
    absorption = min(0.95, max(0.05, eyring_absorption(room, rt60_s)))
    margin = 0.25
    source = rng.uniform(margin, np.array(room) - margin)
    # as often near as far: most devices hear their speaker from one to three metres
    direction = rng.standard_normal(3)
    distance = math.exp(rng.uniform(math.log(0.3), math.log(5.0)))
    microphone = source + direction / np.linalg.norm(direction) * distance
    microphone = np.clip(microphone, margin, np.array(room) - margin)
    # 45 dB down is below the noise of any recording
    seconds = min(RESPONSE_S, 0.75 * rt60_s + 0.02)
    response = shoebox_response(
        room,
        _point(source),
        _point(microphone),
        math.sqrt(1 - absorption),
        sample_rate_hz=sample_rate_hz,
        seconds=seconds,
        disorder_m=DISORDER_M,
        rng=rng,
    )
    response = response[int(np.argmax(response != 0)) :]
    fade = len(response) // 8
    response[len(response) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    out = np.zeros(round(RESPONSE_S * sample_rate_hz), np.float32)
    out[: len(response)] = _without_rumble(response, sample_rate_hz)
    return out / np.float32(np.linalg.norm(out) + 1e-12)


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z


def _without_rumble(response: Floats, sample_rate_hz: int, cut_hz: float = 80.0) -> Floats:
    """Every image has a positive gain, so they add up towards 0 Hz as no real room does: two first-order high-passes
    (the paper filters at 1 % of the sample rate).
    """
    n = len(response)
    hz = np.fft.rfftfreq(2 * n, 1 / sample_rate_hz)
    high_pass = np.square(1j * hz / (1j * hz + cut_hz))
    return np.fft.irfft(np.fft.rfft(response, 2 * n) * high_pass, 2 * n)[:n].astype(np.float32)
