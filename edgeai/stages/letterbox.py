"""A frame becomes the model's picture, and boxes on the picture become boxes on the frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import ImageInput
from edgeai.errors import StageError


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies in the model's picture: model = source * scale + (left_px, top_px).

    scale_x and scale_y are what the resize really did, its rounding to whole pixels included, so that they differ a
    little in a letterbox too.
    """

    scale_x: float
    scale_y: float
    left_px: int
    top_px: int
    source_width: int
    source_height: int

    def to_source(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4), x1 y1 x2 y2 in model pixels, as (N, 4) float32 in source pixels, clipped to the source."""
        boxes = (xyxy - self._offset()) / self._scale()
        limit = np.array((self.source_width, self.source_height) * 2, np.float32)
        return np.asarray(np.clip(boxes, 0.0, limit), np.float32)

    def to_model(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4), x1 y1 x2 y2 in source pixels, as (N, 4) float32 in model pixels."""
        return np.asarray(xyxy * self._scale() + self._offset(), np.float32)

    def _scale(self) -> NDArray[np.float32]:
        return np.array((self.scale_x, self.scale_y) * 2, np.float32)

    def _offset(self) -> NDArray[np.float32]:
        return np.array((self.left_px, self.top_px) * 2, np.float32)


def place(source_width: int, source_height: int, spec: ImageInput) -> Placement:
    """Where a frame of source_width x source_height pixels goes in the picture of `spec`.

    "letterbox" keeps the aspect ratio and rounds the short side down, as YOLOX does (int(side * ratio), here in
    whole numbers, so that the long side always fills the picture). Raises StageError for a side below 1.
    """
    if source_width < 1 or source_height < 1:
        raise StageError(f"a frame must have at least 1 x 1 pixels, got {source_width} x {source_height}")
    width, height = _inner_size(source_width, source_height, spec)
    left, top = 0, 0
    if spec.anchor == "centre":
        left, top = (spec.width - width) // 2, (spec.height - height) // 2
    return Placement(width / source_width, height / source_height, left, top, source_width, source_height)


def letterbox(
    image: NDArray[np.uint8], spec: ImageInput, out: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.uint8], Placement]:
    """Resize a frame into the model's picture, pad the rest with `spec.pad`, order channels as `spec.colour`.

    image: (H, W, 3) uint8 BGR; grey (H, W) or (H, W, 1) and BGRA (H, W, 4) are converted. out: (spec.height,
    spec.width, 3) uint8, C-contiguous, written in place and returned; a new array without it. Bilinear, as
    cv2.INTER_LINEAR. Mean and std are not applied: the engine's edge does that.
    Raises StageError for any other shape or type, an empty image, or an `out` that does not fit.
    """
    image = _checked(image)
    shape = (spec.height, spec.width, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous or not out.flags.writeable:
        raise StageError(
            f"the picture to write into must be {shape} uint8, contiguous and writeable, got {out.shape} {out.dtype}"
        )
    source_height, source_width = image.shape[:2]
    placement = place(source_width, source_height, spec)
    width, height = _inner_size(source_width, source_height, spec)
    left, top = placement.left_px, placement.top_px
    inner = out[top : top + height, left : left + width]
    # `inner` is a view whose rows lie apart in `out`: OpenCV takes it as it is, so the resize is the only copy
    if (source_width, source_height) == (width, height):
        np.copyto(inner, image)
    else:
        try:
            cv2.resize(image, (width, height), dst=inner, interpolation=cv2.INTER_LINEAR)
        except cv2.error as error:
            raise StageError(
                f"a frame of {source_width} x {source_height} pixels cannot be resized to {width} x {height}: {' '.join(str(error).split())}"
            ) from None
    if spec.colour == "RGB":
        cv2.cvtColor(inner, cv2.COLOR_BGR2RGB, dst=inner)
    out[:top] = spec.pad
    out[top + height :] = spec.pad
    out[top : top + height, :left] = spec.pad
    out[top : top + height, left + width :] = spec.pad
    return out, placement


def _inner_size(source_width: int, source_height: int, spec: ImageInput) -> tuple[int, int]:
    if spec.resize == "stretch":
        return spec.width, spec.height
    if spec.width * source_height <= spec.height * source_width:
        return spec.width, max(1, source_height * spec.width // source_width)
    return max(1, source_width * spec.height // source_height), spec.height


_TO_BGR = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`image` as (H, W, 3) uint8 with packed pixels, or StageError."""
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
    pixel, column = image.strides[-1], image.strides[1]
    if pixel != 1 or column != channels or image.strides[0] < column * image.shape[1]:
        image = np.ascontiguousarray(image)  # flipped or sliced views: what OpenCV cannot take as they are
    if channels == 3:
        return image
    return np.asarray(cv2.cvtColor(image, _TO_BGR[channels]), np.uint8)
