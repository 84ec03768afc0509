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
# Seconds in which 63 % of a change is learnt: where nothing moves, where something moves now, and for what "now" means.
_STILL_S, _MOVING_S, _RECENT_S = 5.0, 30.0, 0.5
# The mean absolute difference of a still spot, learnt in this time; a spot must differ by more than so many of them.
_NOISE_S, _NOISE_GATE = 10.0, 4.0
# A light change shows in more than half of the picture; one of more than a factor of 4 is a new picture.
_LIGHT_LEVELS, _MOST_GAIN = 2.0, 4.0
# Where more than this has changed, and no change of light explains it, the picture is another.
_WHOLE = 0.6


def _check_area(polygon: tuple[Point, ...]) -> tuple[Point, ...]:
    if polygon_area(np.asarray(polygon, np.float64)) < 1e-6:
        raise ValueError("the polygon must have an area")
    return polygon


Polygon: TypeAlias = Annotated[
    tuple[Point, ...], Field(min_length=3, max_length=200), AfterValidator(_check_area)
]


class MotionSettings(Settings):
    """When frames are shown to the model.

    threshold: how much brighter or darker a spot must be than the background, of 255. min_area: the least part of the
    frame that must have changed. masks: polygons in which nothing counts, for a clock that is written into the picture
    or a tree. hold_s: how long frames are still shown after the last motion. refresh_s: a frame is shown at least so
    often, whether anything moves or not.
    """

    threshold: Annotated[int, Field(ge=1, le=255)] = 16
    min_area: Annotated[float, Field(gt=0, lt=1)] = 0.0008
    masks: Annotated[tuple[Polygon, ...], Field(max_length=100)] = ()
    hold_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    refresh_s: Annotated[float, Field(ge=0.5, le=86400)] = 10.0


@dataclass(frozen=True, slots=True)
class Motion:
    """What the gate says of one frame. look: whether the model shall see it. area: the part of it that moved, 0..1."""

    look: bool
    area: float


class MotionGate:
    """Compares each frame with a background that follows slowly. One camera's, one thread.

    frames, still: how many were asked about, and of how many the answer was not to look.
    """

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self.settings = settings or MotionSettings()
        self.frames = 0
        self.still = 0
        self._background: _Background | None = None
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
        background, passed_s = self._background, time_s - self._time_s
        if background is None or shape != self._shape or passed_s < 0:
            self._background, self._shape = _Background(small, self.settings), shape
            area, moved = 1.0, True
            self._looked_s = -math.inf
        else:
            area = background.update(small, passed_s)
            moved = area >= self.settings.min_area
        self._time_s = time_s
        if moved:
            self._moved_s = time_s
        look = (
            moved
            or time_s - self._moved_s <= self.settings.hold_s
            or time_s - self._looked_s >= self.settings.refresh_s
        )
        self.frames += 1
        if look:
            self._looked_s = time_s
        else:
            self.still += 1
        return Motion(look, area)

    def reset(self) -> None:
        """Forget the background: the next frame is looked at."""
        self._background = None


def shrink(image: NDArray[np.uint8]) -> Grey:
    """Grey, the longer side at most 160 px. Each spot is the mean of 16 pixels spread over its place: an average of all
    of them costs five times as much at 720p, and only fine grain would tell the difference.
    """
    height, width = image.shape[:2]
    share = min(1.0, _LONG_SIDE_PX / max(height, width))
    small = max(1, round(width * share)), max(1, round(height * share))
    double = min(width, 2 * small[0]), min(height, 2 * small[1])
    if image.strides[-1] != 1 or (image.ndim == 3 and image.strides[1] != image.shape[2]):
        image = np.ascontiguousarray(image)  # flipped or sliced views: OpenCV takes them copied only
    if double != (width, height):
        image = np.asarray(cv2.resize(image, double, interpolation=cv2.INTER_LINEAR), np.uint8)
    if image.ndim == 3 and image.shape[2] > 1:
        to_grey = cv2.COLOR_BGR2GRAY if image.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
        image = np.asarray(cv2.cvtColor(image, to_grey), np.uint8)
    if double != small:
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
    return image.reshape(small[1], small[0])


class _Background:
    """The picture without what moves, and how unquiet each of its spots is; of one size."""

    def __init__(self, small: Grey, settings: MotionSettings) -> None:
        self._threshold = float(settings.threshold)
        self._min_area = settings.min_area
        self._counts = _unmasked(settings.masks, small.shape[1], small.shape[0])
        self._noise = np.zeros(small.shape, np.float32)
        self._difference = np.empty(small.shape, np.float32)
        self._limit = np.empty(small.shape, np.float32)
        self._take(small)

    def _take(self, small: Grey) -> None:
        self._mean = small.astype(np.float32)
        self._recent = small.astype(np.float32)
        self._age = 0

    def update(self, small: Grey, passed_s: float) -> float:
        """The part that has changed; then the picture is learnt."""
        np.multiply(self._noise, _NOISE_GATE, out=self._limit)
        np.maximum(self._limit, self._threshold, out=self._limit)
        moved, area = self._compare(small, 1.0, 0.0)
        if area >= self._min_area and self._light_changed():
            gain, offset = _fit_light(small, self._mean, self._threshold)
            moved_else, area_else = self._compare(small, gain, offset)
            if area_else < area:
                # the background as it looks in the new light
                self._mean = (self._mean - np.float32(offset)) / np.float32(gain)
                self._recent = small.astype(np.float32)
                moved, area = moved_else, area_else
        if area > _WHOLE:
            self._take(small)
            return area
        self._learn(small, moved, passed_s)
        return area

    def _compare(self, small: Grey, gain: float, offset: float) -> tuple[Grey, float]:
        """Which spots have changed, the light put right, and which part of the frame they are."""
        difference = self._difference
        cv2.addWeighted(small, gain, self._mean, -1.0, offset, dst=difference, dtype=cv2.CV_32F)
        np.abs(difference, out=difference)
        moved = cv2.compare(difference, self._limit, cv2.CMP_GT)
        # the majority of 3 x 3: single spots are noise, rain or snow
        moved = cv2.medianBlur(moved, 3)
        if self._counts is not None:
            cv2.bitwise_and(moved, self._counts, dst=moved)
        return np.asarray(moved, np.uint8), cv2.countNonZero(moved) / moved.size

    def _light_changed(self) -> bool:
        return float(np.median(self._difference[::4, ::4])) > _LIGHT_LEVELS

    def _learn(self, small: Grey, moved: Grey, passed_s: float) -> None:
        self._age += 1
        first = 1.0 / (self._age + 1)  # a plain mean at the beginning
        still, moving = max(first, _share(passed_s, _STILL_S)), _share(passed_s, _MOVING_S)
        # what has changed and rests, a car that was parked, becomes background as fast as anything else
        cv2.accumulateWeighted(small, self._recent, _share(passed_s, _RECENT_S))
        changing = cv2.compare(
            cv2.absdiff(self._recent, small.astype(np.float32)), self._threshold / 2, cv2.CMP_GT
        )
        changing = cv2.bitwise_and(changing, moved)
        cv2.accumulateWeighted(small, self._mean, still, mask=cv2.bitwise_not(changing))
        cv2.accumulateWeighted(small, self._mean, moving, mask=changing)
        # the difference of a moving thing is cut off, or a busy door would count as noise
        np.minimum(self._difference, 1.5 * self._threshold, out=self._difference)
        cv2.accumulateWeighted(self._difference, self._noise, max(first, _share(passed_s, _NOISE_S)))


def _share(passed_s: float, time_constant_s: float) -> float:
    return -math.expm1(-passed_s / time_constant_s)


def _unmasked(masks: tuple[Polygon, ...], width: int, height: int) -> Grey | None:
    """255 where motion counts; None where it does everywhere."""
    if not masks:
        return None
    counts = np.full((height, width), 255, np.uint8)
    for polygon in masks:
        corners = np.asarray(polygon, np.float64) * (width, height) - 0.5
        cv2.fillPoly(counts, [np.rint(corners).astype(np.int32)], 0)
    return counts


def _fit_light(small: Grey, mean: Float, threshold: float) -> tuple[float, float]:
    """Gain and offset by which `small` comes nearest to the background, by the spots that agree."""
    now, before = small[::4, ::4].ravel().astype(np.float64), mean[::4, ::4].ravel().astype(np.float64)
    low, middle, high = np.percentile(now, (25, 50, 75))
    low_before, middle_before, high_before = np.percentile(before, (25, 50, 75))
    gain = (high_before - low_before) / (high - low) if high > low else 1.0
    gain = min(max(gain, 1 / _MOST_GAIN), _MOST_GAIN)
    offset = middle_before - gain * middle
    for _ in range(2):
        agree = np.abs(now * gain + offset - before) < threshold
        x, y = now[agree], before[agree]
        spread = float(((x - x.mean()) ** 2).sum()) if len(x) else 0.0
        if spread < 1.0:
            break
        gain = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
        gain = min(max(gain, 1 / _MOST_GAIN), _MOST_GAIN)
        offset = float(y.mean() - gain * x.mean())
    return gain, float(offset)


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
