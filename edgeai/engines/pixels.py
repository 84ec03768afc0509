"""Pictures into a tensor: (pixel - mean) / std, the tensor's quantisation and its layout, in one pass over memory.

A pixel has 256 values, so all arithmetic is done once, into a table; what is left for each frame is the cheapest
operation that gives exactly the table's values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import ImageInput
from edgeai.engines.engine import Fill
from edgeai.errors import TensorError
from edgeai.types import Array, TensorSpec

Picture: TypeAlias = NDArray[np.uint8]
Map: TypeAlias = Callable[[Picture, Any], None]
"""Writes a function of every pixel into a target of the picture's shape."""

# types that cv2.LUT takes; numpy looks up the rest
_CV_TYPES = {"uint8", "int8", "uint16", "int16", "int32", "float32"}


class Writer(Protocol):
    """Checks an array of the spec `edge`, and gives what writes it into the engine's tensor.

    holds: whether what fill() gives is good after the next fill() too, so that several can be gathered.
    """

    edge: TensorSpec
    holds: bool

    def fill(self, array: Array) -> Fill: ...


class PixelWriter:
    """(height, width, 3) uint8 into a tensor of shape (1, height, width, 3) or (1, 3, height, width).

    Raises TensorError where the tensor's shape or type does not fit.
    """

    holds = True

    def __init__(self, spec: TensorSpec, input: ImageInput) -> None:
        height, width = input.height, input.width
        wanted = (1, height, width, 3) if input.layout == "NHWC" else (1, 3, height, width)
        if spec.shape != wanted:
            raise TensorError(
                f"the engine's input {spec.name!r} is {spec.shape}, the manifest says {wanted} ({input.layout})"
            )
        self.edge = TensorSpec(input.name, (height, width, 3), "uint8")
        table = pixel_table(spec, input)
        self._planar = input.layout == "NCHW"
        if self._planar:
            self._planes = [np.empty((height, width), np.uint8) for _ in range(3)]
            self._maps = [
                _map_of(table[:, channel], input.mean[channel], input.std[channel]) for channel in range(3)
            ]
        elif (table == table[:, :1]).all():
            self._map = _map_of(table[:, 0], input.mean[0], input.std[0])
        else:
            self._map = _channels_map(table)

    def fill(self, array: Array) -> Fill:
        """What writes the picture `array`. Raises TensorError unless it is of the spec `edge`."""
        if array.shape != self.edge.shape or array.dtype != np.uint8:
            raise TensorError(
                f"input {self.edge.name!r} must be {self.edge.shape} uint8, got {tuple(array.shape)} {array.dtype}"
            )
        picture: Picture = np.ascontiguousarray(array, dtype=np.uint8)
        if self._planar:
            return lambda target: self._write_planes(picture, target)
        return lambda target: self._map(picture, target[0])

    def _write_planes(self, picture: Picture, target: Array) -> None:
        import cv2

        # splitting first: numpy walks a transposed picture five times slower
        cv2.split(picture, self._planes)
        for channel, write in enumerate(self._maps):
            write(self._planes[channel], target[0, channel])


def pixel_table(spec: TensorSpec, input: ImageInput) -> Array:
    """What the tensor stores for each pixel value and channel: (256, 3) of the spec's type.

    (pixel - mean) / std in float32, then round(x / scale) + zero_point, half to even, clipped to the type.
    """
    pixels = np.arange(256, dtype=np.float32)[:, None]
    real = (pixels - np.array(input.mean, np.float32)) / np.array(input.std, np.float32)
    if spec.dtype.startswith("float"):
        floats: Array = real.astype(spec.dtype)
        return floats
    limits = np.iinfo(spec.dtype)
    scale = 1.0 if spec.scale is None else spec.scale
    stored = np.rint(real.astype(np.float64) / scale) + spec.zero_point
    table: Array = np.clip(stored, limits.min, limits.max).astype(spec.dtype)
    return table


def _map_of(table: Array, mean: float, std: float) -> Map:
    """The cheapest map that gives `table` (256,) exactly."""
    pixels = np.arange(256)
    if np.array_equal(table, pixels):
        return _copy
    if table.dtype.itemsize == 1:
        first = np.uint8(table.view(np.uint8)[0])
        if np.array_equal(table.view(np.uint8), (pixels + first).astype(np.uint8)):
            return _shift_map(first)
    if table.dtype == np.float32:
        return _affine_map(np.float32(mean), np.float32(std))
    return _table_map(table)


def _copy(picture: Picture, target: Any) -> None:
    np.copyto(target, picture, casting="unsafe")


def _shift_map(first: np.uint8) -> Map:
    # int8 models of zero point -128: adding 128 modulo 256 on the bytes, ten times faster than a look-up
    def shift(picture: Picture, target: Any) -> None:
        np.add(picture, first, out=target.view(np.uint8))

    return shift


def _affine_map(mean: np.float32, std: np.float32) -> Map:
    # the table's own two operations, so the same bits; float look-ups are twice slower. The dtype is said because
    # numpy 1 would take uint8 with a float32 scalar to float16
    def affine(picture: Picture, target: Any) -> None:
        if mean:
            np.subtract(picture, mean, out=target, dtype=np.float32)
            if std != 1:
                np.divide(target, std, out=target)
        else:
            np.divide(picture, std, out=target, dtype=np.float32)

    return affine


def _table_map(table: Array) -> Map:
    if table.dtype.name in _CV_TYPES:
        flat = _cv_map(np.ascontiguousarray(table))
        # as rows of single pixels, OpenCV shares them out to its threads: twice faster than channels of a row
        return lambda picture, target: flat(
            picture.reshape(len(picture), -1), target.reshape(len(picture), -1)
        )

    def look_up(picture: Picture, target: Any) -> None:
        np.take(table, picture, out=target, mode="clip")

    return look_up


def _channels_map(table: Array) -> Map:
    if table.dtype.name in _CV_TYPES:
        return _cv_map(np.ascontiguousarray(table)[:, None, :])

    def look_up(picture: Picture, target: Any) -> None:
        for channel in range(3):
            target[:, :, channel] = table[:, channel][picture[:, :, channel]]

    return look_up


def _cv_map(table: Any) -> Map:
    import cv2

    def look_up(picture: Picture, target: Any) -> None:
        written = cv2.LUT(picture, table, dst=target)
        if written is not target:  # OpenCV makes a new array, silently, where it dislikes the target
            np.copyto(target, written)

    return look_up
