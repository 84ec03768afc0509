"""Whether anything moves, told from a small grey picture of each frame: cheap enough to save the model's work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.stages.geometry import Point, polygon_area

Float = NDArray[np.float32]
Grey = NDArray[np.uint8]

_LONG_SIDE_PX = 160
# The reference learns 63 % of a change that is none in this time.
_REFERENCE_S = 10.0
# How unquiet a spot is: the median of its changes within this time, which is followed at so many levels a second. A spot must
# differ by so many times that to have changed; leaves in the wind raise the threshold by the last factor at most.
_NOISE_EVERY_S, _NOISE_LEVELS_PER_S, _NOISE_GATE, _MOST_NOISE = 0.3, 1.0, 7.5, 4.0
# Light is even over this part of the picture's longer side, changes by this factor at most, and what is darker than these
# levels tells nothing of it.
_LIGHT_SPAN, _MOST_GAIN, _DARK = 1 / 3, 4.0, 8.0


def _check_area(polygon: tuple[Point, ...]) -> tuple[Point, ...]:
    if polygon_area(np.asarray(polygon, np.float64)) < 1e-6:
        raise ValueError("the polygon must have an area")
    return polygon


Polygon: TypeAlias = Annotated[
    tuple[Point, ...], Field(min_length=3, max_length=200), AfterValidator(_check_area)
]


class MotionSettings(Settings):
    """When frames are shown to the model.

    threshold: how much brighter or darker a spot must be than it was, of 255; where the picture is noisy, more.
    min_area: the least part of the frame that must have changed. masks: polygons, as a zone's, in which nothing counts: for a
    clock that is written into the picture, or a tree. hold_s: how long frames are still shown after the last motion.
    refresh_s: a frame is shown at least so often, whether anything moves or not.
    """

    threshold: Annotated[int, Field(ge=1, le=255)] = 12
    min_area: Annotated[float, Field(gt=0, lt=1)] = 0.001
    masks: Annotated[tuple[Polygon, ...], Field(max_length=100)] = ()
    hold_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    refresh_s: Annotated[float, Field(ge=0.5, le=86400)] = 10.0


@dataclass(frozen=True, slots=True)
class Motion:
    """What the gate says of one frame. look: whether the model shall see it. area: the part of it that moved, 0..1."""

    look: bool
    area: float


class MotionGate:
    """Compares each frame with the one of the last motion: what has changed since then was not shown to the model yet.

    Something slow is seen once it has come far enough, something that has stopped is still at once. Noise raises the
    threshold where it is; light that comes or goes evenly is no motion. One camera's, one thread.

    frames, still: how many were asked about, and of how many the answer was not to look.
    """

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self.settings = settings or MotionSettings()
        self.frames = 0
        self.still = 0
        self._reference: _Reference | None = None
        self._shape: tuple[int, ...] = ()
        self._time_s = self._moved_s = self._looked_s = -math.inf

    def update(self, image: NDArray[np.uint8], time_s: float) -> Motion:
        """Whether to look at this frame, and its part that moved; of a first frame all is new.

        image: (H, W, 3) uint8 BGR; grey (H, W) or (H, W, 1) and BGRA (H, W, 4) too. time_s: on the stream's clock; a
        frame that is earlier than the one before begins the stream anew, as does one of another size.
        Raises StageError for another shape or type, an empty picture, and a time that is not finite.
        """
        shape = _checked_shape(image)
        if not math.isfinite(time_s):
            raise StageError(f"a frame's time must be a number of seconds, got {time_s}")
        small = shrink(image)
        reference, passed_s = self._reference, time_s - self._time_s
        if reference is None or shape != self._shape or passed_s < 0:
            self._reference, self._shape = _Reference(small, self.settings), shape
            area, moved = 1.0, True
        else:
            area = reference.compare(small, passed_s)
            moved = area >= self.settings.min_area
        self._time_s = time_s
        if moved:
            self._moved_s = time_s
        due = moved or time_s - self._looked_s >= self.settings.refresh_s
        look = due or time_s - self._moved_s <= self.settings.hold_s
        if look:
            self._looked_s = time_s
        else:
            self.still += 1
        self.frames += 1
        if due and self._reference is not None:
            self._reference.take(small)
        return Motion(look, area)

    def reset(self) -> None:
        """Forget what was seen: the next frame is looked at."""
        self._reference = None


def shrink(image: NDArray[np.uint8]) -> Grey:
    """A frame as the gate sees it: grey, its longer side 160 px at most. Each spot is the mean of one row through the middle
    of its place: reading the other rows costs more than all the rest of the gate. image: as for `MotionGate.update`.
    """
    height, width = image.shape[:2]
    share = min(1.0, _LONG_SIDE_PX / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    step = height // size[1]
    rows = image[step // 2 :: step]
    channels = image.shape[2] if image.ndim == 3 else 1
    if rows.strides[-1] != 1 or rows.strides[1] != channels or rows.strides[0] < width * channels:
        rows = np.ascontiguousarray(rows)  # flipped or sliced views: OpenCV takes them copied only
    try:
        if channels > 1:
            to_grey = cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY
            rows = np.asarray(cv2.cvtColor(rows, to_grey), np.uint8)
        small = cv2.resize(rows, size, interpolation=cv2.INTER_AREA)
    except cv2.error as error:
        raise StageError(
            f"a frame of {width} x {height} pixels cannot be made small: {' '.join(str(error).split())}"
        ) from None
    return np.asarray(small, np.uint8).reshape(size[1], size[0])


class _Reference:
    """What frames are compared with, and how unquiet each spot of it is; of one size."""

    def __init__(self, small: Grey, settings: MotionSettings) -> None:
        self._threshold = float(settings.threshold)
        self._min_area = settings.min_area
        self._counts = _unmasked(settings.masks, small.shape[1], small.shape[0])
        self._picture = small.astype(np.float32)
        self._earlier, self._earlier_s = small, 0.0
        self._noise = np.zeros(small.shape, np.float32)
        self._difference = np.empty(small.shape, np.float32)
        self._limit = np.empty(small.shape, np.float32)

    def take(self, small: Grey) -> None:
        """Compare with this picture from now on."""
        np.copyto(self._picture, small)

    def compare(self, small: Grey, passed_s: float) -> float:
        """The part of the frame that has changed since `take`."""
        np.multiply(self._noise, _NOISE_GATE, out=self._limit)
        np.maximum(self._limit, self._threshold, out=self._limit)
        changed, area = self._changed(small, self._picture)
        if area >= self._min_area:
            relit = _relight(self._picture, small)
            changed_else, area_else = self._changed(small, relit)
            if area_else < area:
                self._picture, changed, area = relit, changed_else, area_else
        learnt = -math.expm1(-passed_s / _REFERENCE_S)
        cv2.accumulateWeighted(small, self._picture, learnt, mask=cv2.bitwise_not(changed))
        self._earlier_s += passed_s
        if self._earlier_s >= _NOISE_EVERY_S:
            self._learn_noise(small)
        return area

    def _changed(self, small: Grey, expected: Float) -> tuple[Grey, float]:
        """Which spots are not as expected, and which part of the frame they are."""
        difference = self._difference
        cv2.subtract(small, expected, dst=difference, dtype=cv2.CV_32F)
        np.abs(difference, out=difference)
        changed = cv2.compare(difference, self._limit, cv2.CMP_GT)
        # the majority of 3 x 3: single spots are noise, rain or snow
        changed = cv2.medianBlur(changed, 3)
        if self._counts is not None:
            cv2.bitwise_and(changed, self._counts, dst=changed)
        return np.asarray(changed, np.uint8), cv2.countNonZero(changed) / changed.size

    def _learn_noise(self, small: Grey) -> None:
        """Up where the change is larger, down where it is smaller: its median, which does not heed what passes by."""
        step = min(self._earlier_s, 1.0) * _NOISE_LEVELS_PER_S
        cv2.subtract(small, self._earlier, dst=self._difference, dtype=cv2.CV_32F)
        np.abs(self._difference, out=self._difference)
        larger = cv2.compare(self._difference, self._noise, cv2.CMP_GT)
        cv2.addWeighted(larger, 2 * step / 255, self._noise, 1.0, -step, dst=self._noise, dtype=cv2.CV_32F)
        np.minimum(self._noise, self._threshold * _MOST_NOISE / _NOISE_GATE, out=self._noise)
        self._earlier, self._earlier_s = small, 0.0


def _unmasked(masks: tuple[Polygon, ...], width: int, height: int) -> Grey | None:
    """255 where motion counts; None where it does everywhere."""
    if not masks:
        return None
    counts = np.full((height, width), 255, np.uint8)
    for polygon in masks:
        corners = np.asarray(polygon, np.float64) * (width, height) - 0.5
        cv2.fillPoly(counts, [np.rint(corners).astype(np.int32)], 0)
    return counts


def _relight(picture: Float, small: Grey) -> Float:
    """The picture in the light of `small`: lamps, clouds and exposure change it by a factor that varies smoothly over the
    frame; what has edges of its own stays a difference.
    """
    height, width = small.shape
    coarse = max(1, width // 5), max(1, height // 5)
    span = round(max(coarse) * _LIGHT_SPAN) | 1
    now, before = (
        cv2.blur(cv2.resize(each, coarse, interpolation=cv2.INTER_AREA).astype(np.float32), (span, span))
        for each in (small, picture)
    )
    gain = np.clip((now + _DARK) / (before + _DARK), 1 / _MOST_GAIN, _MOST_GAIN)
    lit = np.asarray(cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    lit *= picture
    return np.minimum(lit, np.float32(255.0), out=lit)


def _checked_shape(image: NDArray[np.uint8]) -> tuple[int, ...]:
    if not isinstance(image, np.ndarray):
        raise StageError(f"a frame must be an array (H, W, 3) uint8 BGR, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise StageError(
            f"a frame must be (H, W, 3) uint8 BGR, got {image.shape} {image.dtype}",
            next_step="scale it to 8 bits first",
        )
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in image.shape:
        raise StageError(f"a frame must be (H, W, 3) uint8 BGR, not empty, got shape {image.shape}")
    return image.shape
