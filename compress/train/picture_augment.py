"""Random pictures for training a detector: scale, crop, flip, turn, mosaic of four, colour, bad cameras. Boxes follow.

Pictures stay uint8. Each is cropped to what will be seen and resized once, straight into its place; colour is one matrix.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.data.detection import LabelledPicture

Image: TypeAlias = NDArray[np.uint8]
Boxes: TypeAlias = NDArray[np.float32]
PAD = 114
MIN_VISIBLE = 0.35
# a quarter of a mosaic is about half the size, so objects come out smaller there: lean to the larger scales
MOSAIC_SCALE = 1.4
GRAIN_MOVES = 256
Fraction = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0.05, le=20)]


@runtime_checkable
class ReadsReduced(Protocol):
    """Can also decode at a half, a quarter or an eighth of the size, which takes a third less time for a JPEG."""

    def __call__(self, path: Path) -> Image: ...

    def reduced(self, path: Path, factor: Literal[1, 2, 4, 8]) -> Image:
        """The picture at 1 / factor of its size."""


Read: TypeAlias = Callable[[Path], Image] | ReadsReduced


class PictureAugment(BaseModel):
    """Settings. scale: range of the object scale against a plain letterbox; mosaic, flip: probabilities.

    hue (of 180, 2 degrees each), saturation and value (factors) are half-widths of uniform changes; move is the shift in
    fractions of the picture. flip_vertical (a probability) and turn (by any number of quarters) are for pictures without
    an up: boards, fields from above. blur, noise, jpeg and dark are probabilities of what bad cameras do.
    crop: side in pixels of a square window of the device's input to train a detector on, at a random place; 0, all of it. Where
    pictures are large and objects small, a step on a window costs a fraction of one on the whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    scale: tuple[Scale, Scale] = (0.5, 1.6)
    move: Fraction = 0.25
    mosaic: Fraction = 0.5
    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    turn: bool = False
    hue: Annotated[float, Field(ge=0, le=90)] = 6.0
    saturation: Fraction = 0.4
    value: Fraction = 0.3
    blur: Fraction = 0.0
    noise: Fraction = 0.0
    jpeg: Fraction = 0.0
    dark: Fraction = 0.0
    crop: Annotated[int, Field(ge=0, le=8192)] = 0

    @model_validator(mode="after")
    def _scale_rises(self) -> PictureAugment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must go from small to large, got {self.scale}")
        return self


@dataclass(frozen=True, slots=True)
class TrainingPicture:
    """image: (height, width, 3) uint8 BGR. xyxy_px: (N, 4) float32 in its pixels. crowd_px: (M, 4)."""

    image: Image
    xyxy_px: Boxes
    class_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    crowd_px: Boxes


def augment(
    pictures: Sequence[LabelledPicture],
    *,
    height: int,
    width: int,
    settings: PictureAugment,
    rng: np.random.Generator,
    read: Read,
    zoom: tuple[float, float] = (1.0, 1.0),
) -> TrainingPicture:
    """One training picture from one (the first) or four of `pictures`. Where `read` is ReadsReduced, a picture that will
    be shrunk to half or less is asked for at that size.

    zoom: height and width of what a picture is fitted to, over those of what is seen of it.
    """
    turns = int(rng.integers(0, 4)) if settings.turn else 0
    if turns % 2:
        height, width, zoom = width, height, zoom[::-1]
    canvas = np.full((height, width, 3), PAD, np.uint8)
    if len(pictures) >= 4 and rng.random() < settings.mosaic:
        parts = _mosaic(canvas, pictures[:4], settings, zoom, rng, read)
    else:
        whole = (0, 0, width, height)
        parts = [_place(canvas, whole, pictures[0], settings.scale, settings.move, zoom, rng, read)]
    boxes, crowds = np.concatenate([p[0] for p in parts]), np.concatenate([p[3] for p in parts])
    mirrored, upside_down = rng.random() < settings.flip, rng.random() < settings.flip_vertical
    image = _turned(canvas, mirrored, upside_down, turns)
    return TrainingPicture(
        _spoiled(_recoloured(image, settings, rng), settings, rng),
        turned_boxes(boxes, width, height, mirrored, upside_down, turns),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
        turned_boxes(crowds, width, height, mirrored, upside_down, turns),
    )


_Part: TypeAlias = tuple[Boxes, NDArray[np.int32], NDArray[np.float32], Boxes]


def _mosaic(
    canvas: Image,
    pictures: Sequence[LabelledPicture],
    settings: PictureAugment,
    zoom: tuple[float, float],
    rng: np.random.Generator,
    read: Read,
) -> list[_Part]:
    height, width = canvas.shape[:2]
    x, y = int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.65))
    scale = (settings.scale[0] * MOSAIC_SCALE, settings.scale[1] * MOSAIC_SCALE)
    quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    return [
        _place(canvas, quarter, picture, scale, settings.move, zoom, rng, read)
        for quarter, picture in zip(quarters, pictures, strict=True)
    ]


def _place(
    canvas: Image,
    part: tuple[int, int, int, int],
    picture: LabelledPicture,
    scale: tuple[float, float],
    move: float,
    zoom: tuple[float, float],
    rng: np.random.Generator,
    read: Read,
) -> _Part:
    """Draw the picture into part (left, top, right, bottom) of the canvas; its boxes in the canvas's pixels."""
    left, top, right, bottom = part
    part_w, part_h = right - left, bottom - top
    fit = min(zoom[0] * part_h / picture.height, zoom[1] * part_w / picture.width)
    factor = fit * math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    full_w, full_h = picture.width * factor, picture.height * factor
    # what is left free (or cut off) is shared out around a random place near the middle
    x = left + _margin(rng, part_w - full_w) + rng.uniform(-move, move) * part_w
    y = top + _margin(rng, part_h - full_h) + rng.uniform(-move, move) * part_h
    source = _read_for(picture, factor, read)
    src_h, src_w = source.shape[:2]
    columns = _span(x, full_w / src_w, src_w, left, right)
    rows = _span(y, full_h / src_h, src_h, top, bottom)
    boxes, crowds = picture.xyxy_px, picture.crowd_px
    if columns is None or rows is None:
        none = np.zeros(len(boxes), bool)
        return boxes[none], picture.class_ids[none], picture.scores[none], crowds[:0]
    _draw(canvas, part, source, columns, rows)
    # labels may have been made at another size than the file has
    scale_x, scale_y = columns.scale * src_w / picture.width, rows.scale * src_h / picture.height
    shift = np.array([columns.shift, rows.shift] * 2, np.float32)
    to_canvas = np.array([scale_x, scale_y] * 2, np.float32)
    boxes, keep = clip_boxes(boxes * to_canvas + shift, part)
    crowds, crowd_keep = clip_boxes(crowds * to_canvas + shift, part, min_visible=0.0)
    return boxes[keep], picture.class_ids[keep], picture.scores[keep], crowds[crowd_keep]


def _margin(rng: np.random.Generator, free: float) -> float:
    return free * float(rng.uniform(0.0, 1.0) if free < 0 else rng.uniform(0.1, 0.9))


def _read_for(picture: LabelledPicture, factor: float, read: Read) -> Image:
    reduction: Literal[1, 2, 4, 8] = 1 if factor > 0.5 else 2 if factor > 0.25 else 4 if factor > 0.125 else 8
    if reduction > 1 and isinstance(read, ReadsReduced):
        source = read.reduced(picture.path, reduction)
        # a file smaller than its label says would have to be blown up again
        if source.shape[1] >= picture.width * factor * 0.99:
            return source
    return read(picture.path)


@dataclass(frozen=True, slots=True)
class _Span:
    """What is seen along one axis: source pixels begin:stop are drawn from `start` on, `size` pixels of the canvas.

    A source position p comes to lie at p * scale + shift.
    """

    begin: int
    stop: int
    start: int
    size: int

    @property
    def scale(self) -> float:
        return self.size / (self.stop - self.begin)

    @property
    def shift(self) -> float:
        return self.start - self.begin * self.scale


def _span(start: float, scale: float, source: int, low: int, high: int) -> _Span | None:
    """Whole pixels on both sides, so that one resize draws them; None where nothing is seen."""
    begin = max(0, math.floor((low - start) / scale))
    stop = min(source, math.ceil((high - start) / scale))
    if stop <= begin:
        return None
    first, last = round(start + begin * scale), round(start + stop * scale)
    return _Span(begin, stop, first, last - first) if last > max(first, low) and first < high else None


def _draw(canvas: Image, part: tuple[int, int, int, int], source: Image, columns: _Span, rows: _Span) -> None:
    import cv2

    left, top, right, bottom = part
    seen = source[rows.begin : rows.stop, columns.begin : columns.stop]
    made = cv2.resize(seen, (columns.size, rows.size), interpolation=cv2.INTER_LINEAR)
    x, y = max(left, columns.start), max(top, rows.start)
    made = made[y - rows.start : bottom - rows.start, x - columns.start : right - columns.start]
    canvas[y : y + made.shape[0], x : x + made.shape[1]] = made


def clip_boxes(
    boxes: Boxes, part: tuple[int, int, int, int], *, min_visible: float = MIN_VISIBLE
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Boxes (N, 4) clipped to (left, top, right, bottom), and which keep enough of their area and 3 pixels a side."""
    low, high = np.array(part[:2] * 2, np.float32), np.array(part[2:] * 2, np.float32)
    clipped = np.clip(boxes, low, high)
    sides = clipped[:, 2:] - clipped[:, :2]
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-6)
    keep = (np.prod(sides, axis=1) / area > min_visible) & (sides.min(axis=1, initial=np.inf) >= 3)
    return clipped, keep


def _turned(image: Image, mirrored: bool, upside_down: bool, turns: int) -> Image:
    import cv2

    if mirrored or upside_down:
        image = np.asarray(cv2.flip(image, -1 if mirrored and upside_down else int(mirrored)), np.uint8)
    if turns:
        how = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)[turns - 1]
        image = np.asarray(cv2.rotate(image, how), np.uint8)
    return image


def turned_boxes(
    boxes: Boxes, width: int, height: int, mirrored: bool, upside_down: bool, turns: int
) -> Boxes:
    """Boxes (N, 4) of a (height, width) picture after mirroring left-right, top-bottom, then `turns` quarters clockwise."""
    x1, y1, x2, y2 = boxes.T
    if mirrored:
        x1, x2 = width - x2, width - x1
    if upside_down:
        y1, y2 = height - y2, height - y1
    for _ in range(turns):
        x1, y1, x2, y2 = height - y2, x1, height - y1, x2
        height, width = width, height
    return np.stack((x1, y1, x2, y2), axis=1)


# Rec. 601 luma and two colour axes, of B, G, R: the YIQ of NTSC
_YIQ = np.array([[0.114, 0.587, 0.299], [-0.321, -0.275, 0.596], [0.311, -0.523, 0.212]])
_FROM_YIQ = np.linalg.inv(_YIQ)


def _recoloured(image: Image, settings: PictureAugment, rng: np.random.Generator) -> Image:
    """Hue turned, saturation and brightness scaled, as one matrix: six times as fast as by HSV and back."""
    import cv2

    if not (settings.hue or settings.saturation or settings.value):
        return image
    hue, saturation, value = rng.uniform(-1, 1, 3) * (settings.hue, settings.saturation, settings.value)
    angle, chroma = math.radians(2 * hue), (1 + saturation) * (1 + value)
    turn = np.array(
        [
            [1 + value, 0, 0],
            [0, chroma * math.cos(angle), -chroma * math.sin(angle)],
            [0, chroma * math.sin(angle), chroma * math.cos(angle)],
        ]
    )
    return np.asarray(cv2.transform(image, _FROM_YIQ @ turn @ _YIQ), np.uint8)


def _spoiled(image: Image, settings: PictureAugment, rng: np.random.Generator) -> Image:
    """What dark rooms and bad cameras do, in the order in which it happens: light, lens, sensor, compression."""
    import cv2

    if not (settings.blur or settings.noise or settings.jpeg or settings.dark):
        return image
    dark, blur, noise, jpeg = rng.random(4) < (settings.dark, settings.blur, settings.noise, settings.jpeg)
    amount = rng.random(4)
    if dark:
        light = 0.12 + 0.5 * amount[0]
        table = np.clip(np.arange(256) * light + rng.uniform(0, 12), 0, 255).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, table), np.uint8)
    if blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 + 1.4 * float(amount[1])), np.uint8)
    if noise or dark:
        height, width = image.shape[:2]
        grain = _grain(height + GRAIN_MOVES, width + GRAIN_MOVES)
        y, x = (int(start) for start in rng.integers(0, GRAIN_MOVES, 2))
        strength = (2 + 12 * float(amount[2])) / 32
        image = np.asarray(
            cv2.addWeighted(image, 1.0, grain[y : y + height, x : x + width], strength, -128 * strength),
            np.uint8,
        )
    if jpeg:
        quality = int(15 + 55 * amount[3])
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return image


@functools.lru_cache(maxsize=2)
def _grain(height: int, width: int) -> Image:
    """(height, width, 3) sensor noise, mean 128, standard deviation 32; cut from at random places."""
    grain = np.random.default_rng(0).standard_normal((height, width, 3), np.float32)
    return np.clip(np.rint(128 + 32 * grain), 0, 255).astype(np.uint8)
