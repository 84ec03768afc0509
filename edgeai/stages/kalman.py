"""A Kalman filter over all tracks at once: centre and size of each box, each with its own speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

# Standard deviations in box sides (width for x and w, height for y and h). ByteTrack's filter (arXiv:2110.06864)
# gives them a frame at 30 a second; here they are per root second, so that a varying frame interval is right too:
# position 1/20 * sqrt(30), speed 1/160 * 30 * sqrt(30), speed at birth 10/160 * 30, measurement 1/20.
_POSITION_NOISE = 0.27
_SPEED_NOISE = 1.03
_BIRTH_SPEED = 1.9
_MEASUREMENT_NOISE = 0.05
_MIN_SIDE_PX = 1.0
_SIDES = np.array((2, 3, 2, 3))


class BoxFilter:
    """Constant velocity, T tracks of 4 coordinates (cx, cy, w, h) in pixels; rows are in order of `append`.

    Nothing couples the coordinates, so the 8 x 8 covariance of a track is four 2 x 2 blocks: five numbers a
    coordinate, updated for all tracks in a few operations.
    """

    def __init__(self) -> None:
        # (5, T, 4): value, speed, and the variances value-value, value-speed, speed-speed
        self._state = np.empty((5, 0, 4))

    def __len__(self) -> int:
        return self._state.shape[1]

    @property
    def position(self) -> Float:
        """(T, 4) cx, cy, w, h in pixels."""
        return np.asarray(self._state[0])

    @property
    def speed(self) -> Float:
        """(T, 4) what `position` changes by in a second."""
        return np.asarray(self._state[1])

    def predict(self, dt_s: float) -> None:
        """Move every track `dt_s` seconds (0 or more) on."""
        position, speed, pp, ps, ss = self._state
        variance = position[:, _SIDES] ** 2
        speed_variance = variance * (_SPEED_NOISE**2 * dt_s)
        position += speed * dt_s
        np.maximum(position[:, 2:], _MIN_SIDE_PX, out=position[:, 2:])
        # white noise on the acceleration, integrated over dt (Bar-Shalom, Estimation with Applications, 6.2.2)
        pp += dt_s * (2.0 * ps + dt_s * ss)
        pp += variance * (_POSITION_NOISE**2 * dt_s) + speed_variance * (dt_s**2 / 3.0)
        ps += dt_s * ss + speed_variance * (dt_s / 2.0)
        ss += speed_variance

    def correct(self, rows: NDArray[np.intp], measured: Float) -> None:
        """Take the boxes `measured` (K, 4), cx cy w h, for the tracks `rows` (K,), each at most once."""
        position, speed, pp, ps, ss = self._state[:, rows]
        gain = _measurement_variance(measured)
        gain += pp
        speed_gain = ps / gain
        np.divide(pp, gain, out=gain)
        error = measured - position
        position += gain * error
        np.maximum(position[:, 2:], _MIN_SIDE_PX, out=position[:, 2:])
        speed += speed_gain * error
        ss -= speed_gain * ps
        gain = 1.0 - gain
        pp *= gain
        ps *= gain
        self._state[:, rows] = position, speed, pp, ps, ss

    def append(self, measured: Float) -> None:
        """New tracks at the boxes `measured` (K, 4), cx cy w h."""
        born = np.zeros((5, len(measured), 4))
        born[0] = measured
        born[2] = _measurement_variance(measured)
        born[4] = _birth_speed_variance(measured)
        self._state = np.concatenate([self._state, born], axis=1)

    def select(self, keep: NDArray[np.bool_]) -> None:
        """Keep the tracks of the mask (T,)."""
        self._state = self._state[:, keep]

    def hold_size(self, rows: NDArray[np.bool_]) -> None:
        """Stop the growth of the tracks of the mask (T,): unseen, a size would run away."""
        self._state[1, rows, 2:] = 0.0

    def stop(self, rows: NDArray[np.bool_]) -> None:
        """The tracks of the mask (T,) stand still where they are; their speed is as unknown as at birth."""
        self._state[1, rows] = self._state[3, rows] = 0.0
        self._state[4, rows] = _birth_speed_variance(self._state[0, rows])

    def boxes(self) -> NDArray[np.float32]:
        """(T, 4) float32, x1 y1 x2 y2 in pixels."""
        return to_corners(self._state[0])


def _measurement_variance(measured: Float) -> Float:
    return np.asarray((_MEASUREMENT_NOISE * np.maximum(measured[:, _SIDES], _MIN_SIDE_PX)) ** 2)


def _birth_speed_variance(measured: Float) -> Float:
    return np.asarray(_measurement_variance(measured) * (_BIRTH_SPEED / _MEASUREMENT_NOISE) ** 2)


def to_corners(cxcywh: Float) -> NDArray[np.float32]:
    """Boxes (N, 4) cx cy w h as x1 y1 x2 y2."""
    half = cxcywh[:, 2:] * 0.5
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1).astype(np.float32)


def to_centres(xyxy: NDArray[np.float32]) -> Float:
    """Boxes (N, 4) x1 y1 x2 y2 as cx cy w h."""
    boxes = xyxy.astype(np.float64)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) * 0.5, boxes[:, 2:] - boxes[:, :2]], axis=1)
