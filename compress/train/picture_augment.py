"""Random pictures for training a detector: scale, crop, flip, mosaic of four, colour. Boxes follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.data.detection import LabelledPicture

Read = Callable[[Path], NDArray[np.uint8]]
PAD = 114
MIN_VISIBLE = 0.35
Fraction = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0.05, le=20)]


class PictureAugment(BaseModel):
    """Settings. scale: range of the object scale against a plain letterbox; mosaic, flip: probabilities.

    hue (of 180), saturation and value (factors) are half-widths of uniform changes; move is the shift in fractions of
    the picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    scale: tuple[Scale, Scale] = (0.5, 1.6)
    move: Fraction = 0.25
    mosaic: Fraction = 0.5
    flip: Fraction = 0.5
    hue: Annotated[float, Field(ge=0, le=90)] = 6.0
    saturation: Fraction = 0.4
    value: Fraction = 0.3

    @model_validator(mode="after")
    def _scale_rises(self) -> PictureAugment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must go from small to large, got {self.scale}")
        return self


@dataclass(frozen=True, slots=True)
class TrainingPicture:
    """image: (height, width, 3) uint8 BGR. xyxy_px: (N, 4) float32 in its pixels. crowd_px: (M, 4)."""

    image: NDArray[np.uint8]
    xyxy_px: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    crowd_px: NDArray[np.float32]


def augment(
    pictures: Sequence[LabelledPicture],
    *,
    height: int,
    width: int,
    settings: PictureAugment,
    rng: np.random.Generator,
    read: Read,
) -> TrainingPicture:
    """One training picture from one (the first) or four of `pictures`."""
    if len(pictures) >= 4 and rng.random() < settings.mosaic:
        made = _mosaic(pictures[:4], height, width, settings, rng, read)
    else:
        made = _place(pictures[0], height, width, settings, rng, read)
    image = made.image
    boxes, crowds = made.xyxy_px, made.crowd_px
    if rng.random() < settings.flip:
        image = np.ascontiguousarray(image[:, ::-1])
        boxes, crowds = _mirror(boxes, width), _mirror(crowds, width)
    return TrainingPicture(_recolour(image, settings, rng), boxes, made.class_ids, made.scores, crowds)


def _place(
    picture: LabelledPicture,
    height: int,
    width: int,
    settings: PictureAugment,
    rng: np.random.Generator,
    read: Read,
) -> TrainingPicture:
    import cv2

    source = read(picture.path)
    src_h, src_w = source.shape[:2]
    # labels may have been made at another size than the file has
    to_file = np.array([src_w / picture.width, src_h / picture.height] * 2, np.float32)
    low, high = settings.scale
    scale = min(height / src_h, width / src_w) * float(np.exp(rng.uniform(np.log(low), np.log(high))))
    # what is left free (or cut off) is shared out around a random place near the middle
    free_x, free_y = width - src_w * scale, height - src_h * scale
    x = free_x * _place_fraction(rng, free_x) + rng.uniform(-settings.move, settings.move) * width
    y = free_y * _place_fraction(rng, free_y) + rng.uniform(-settings.move, settings.move) * height
    # warpAffine counts from the middles of pixels, boxes and the device's cv2.resize from their edges
    middle = 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, x + middle], [0, scale, y + middle]], np.float32)
    image = np.asarray(
        cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD)),
        np.uint8,
    )
    shift = np.array([x, y, x, y], np.float32)
    boxes = picture.xyxy_px * to_file * scale + shift
    crowds = picture.crowd_px * to_file * scale + shift
    boxes, keep = _clip(boxes, width, height)
    crowds, crowd_keep = _clip(crowds, width, height, min_visible=0.0)
    return TrainingPicture(
        image, boxes[keep], picture.class_ids[keep], picture.scores[keep], crowds[crowd_keep]
    )


def _place_fraction(rng: np.random.Generator, free: float) -> float:
    return float(rng.uniform(0.0, 1.0)) if free < 0 else float(rng.uniform(0.1, 0.9))


def _mosaic(
    pictures: Sequence[LabelledPicture],
    height: int,
    width: int,
    settings: PictureAugment,
    rng: np.random.Generator,
    read: Read,
) -> TrainingPicture:
    canvas = np.full((height, width, 3), PAD, np.uint8)
    mid_x, mid_y = int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.65))
    parts: list[TrainingPicture] = []
    for number, picture in enumerate(pictures):
        left, right = (0, mid_x) if number % 2 == 0 else (mid_x, width)
        top, bottom = (0, mid_y) if number < 2 else (mid_y, height)
        # a quarter is about half the size, so objects come out smaller: lean to the larger scales here
        part = _place(
            picture,
            bottom - top,
            right - left,
            settings.model_copy(update={"scale": (settings.scale[0] * 1.4, settings.scale[1] * 1.4)}),
            rng,
            read,
        )
        canvas[top:bottom, left:right] = part.image
        shift = np.array([left, top, left, top], np.float32)
        parts.append(
            TrainingPicture(
                part.image, part.xyxy_px + shift, part.class_ids, part.scores, part.crowd_px + shift
            )
        )
    return TrainingPicture(
        canvas,
        np.concatenate([p.xyxy_px for p in parts]),
        np.concatenate([p.class_ids for p in parts]),
        np.concatenate([p.scores for p in parts]),
        np.concatenate([p.crowd_px for p in parts]),
    )


def _clip(
    boxes: NDArray[np.float32], width: int, height: int, *, min_visible: float = MIN_VISIBLE
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes clipped to the picture, and which of them keep enough of their area and at least 3 pixels a side."""
    area = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 1e-6)
    clipped = boxes.copy()
    clipped[:, 0::2] = np.clip(clipped[:, 0::2], 0, width)
    clipped[:, 1::2] = np.clip(clipped[:, 1::2], 0, height)
    w, h = clipped[:, 2] - clipped[:, 0], clipped[:, 3] - clipped[:, 1]
    keep: NDArray[np.bool_] = (w * h / area > min_visible) & (w >= 3) & (h >= 3)
    return clipped, keep


def _mirror(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    mirrored = boxes.copy()
    mirrored[:, 0], mirrored[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return mirrored


def _recolour(
    image: NDArray[np.uint8], settings: PictureAugment, rng: np.random.Generator
) -> NDArray[np.uint8]:
    import cv2

    if not (settings.hue or settings.saturation or settings.value):
        return image
    gains = 1 + rng.uniform(-1, 1, 2) * (settings.saturation, settings.value)
    steps = np.arange(256)
    hue = ((steps + rng.uniform(-1, 1) * settings.hue) % 180).astype(np.uint8)
    saturation, value = (np.clip(steps * gain, 0, 255).astype(np.uint8) for gain in gains)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    table = np.stack([hue, saturation, value], axis=-1).reshape(1, 256, 3)
    return np.asarray(cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2BGR), np.uint8)
