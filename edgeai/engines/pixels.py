"""Pictures into a tensor: (pixel - mean) / std, the tensor's quantisation and its layout, in one pass over memory.

A pixel has 256 values, so all arithmetic is done once, into a table; what is left for each frame is the cheapest
operation that gives exactly the table's values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

# type -> what cv2.LUT takes it as; numpy looks up the rest
_CV_TYPES = {name: name for name in ("uint8", "int8", "uint16", "int16", "int32", "float32")} | {
    "float16": "uint16"
}
_SIGN = np.uint8(0x80)
# longer than OpenCV's widest vector of bytes, unrolled, and no multiple of it; more places than it has
_TRIED_ROW = 509
_LANES = 128


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
        one_table = bool((table == table[:, :1]).all())
        if input.layout == "NHWC" and one_table:
            shared = _map_of(table[:, 0], input.mean[0], input.std[0], spec)
            self._write = _first(shared)
        elif input.layout == "NHWC":
            self._write = _first(_channels_map(table, input, width))
        elif one_table and table.dtype.itemsize == 1:
            shared = _map_of(table[:, 0], input.mean[0], input.std[0], spec)
            self._write = _mapped_then_split(shared, np.empty((height, width, 3), table.dtype))
        else:
            maps = [_map_of(table[:, each], input.mean[each], input.std[each], spec) for each in range(3)]
            self._write = _split_then_mapped(maps, [np.empty((height, width), np.uint8) for _ in range(3)])

    def fill(self, array: Array) -> Fill:
        """What writes the picture `array`. Raises TensorError unless it is of the spec `edge`."""
        if array.shape != self.edge.shape or array.dtype != np.uint8:
            raise TensorError(
                f"input {self.edge.name!r} must be {self.edge.shape} uint8, got {tuple(array.shape)} {array.dtype}"
            )
        # asked first: most are, and the call that makes one costs as much as all the checks
        picture: Picture = array if array.flags.c_contiguous else np.ascontiguousarray(array)  # type: ignore[assignment]
        return lambda target: self._write(picture, target)


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


def _map_of(table: Array, mean: float, std: float, spec: TensorSpec) -> Map:
    """The cheapest map that gives `table` (256,) exactly."""
    pixels = np.arange(256)
    if np.array_equal(table, pixels) and table.dtype != np.float16:  # numpy's way there is a slow one
        return _copy
    if table.dtype.itemsize == 1:
        first = np.uint8(table.view(np.uint8)[0])
        if np.array_equal(table.view(np.uint8), (pixels + first).astype(np.uint8)):
            return _shift_map(first)
        scaled = _scale_map(table, mean, std, spec)
        if scaled is not None:
            return scaled
    if table.dtype == np.float32:
        return _affine_map(np.float32(mean), np.float32(std))
    return _table_map(table)


def _first(write: Map) -> Map:
    """Into the only picture of a batch."""
    return lambda picture, target: write(picture, target[0])


def _mapped_then_split(write: Map, scratch: Any) -> Map:
    import cv2

    def map_and_split(picture: Picture, target: Any) -> None:
        write(picture, scratch)
        planes = list(target[0])
        for plane, written in zip(planes, cv2.split(scratch, planes), strict=True):
            if written is not plane:  # OpenCV makes a new array, silently, where it dislikes the target
                np.copyto(plane, written)

    return map_and_split


def _split_then_mapped(maps: Sequence[Map], planes: list[Picture]) -> Map:
    import cv2

    def split_and_map(picture: Picture, target: Any) -> None:
        # splitting first: numpy walks a transposed picture five times slower
        cv2.split(picture, planes)
        for channel, write in enumerate(maps):
            write(planes[channel], target[0, channel])

    return split_and_map


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


def _scale_map(table: Array, mean: float, std: float, spec: TensorSpec) -> Map | None:
    """OpenCV's scaling to bytes, where it gives the table exactly: on one core more than twice as fast as a look-up.

    It rounds half to even and clips, as the table does, but in float32, and takes what is below zero as positive. So it is
    tried on every value at every place of its vectors and of what is left behind them; None where one comes out otherwise.
    """
    import cv2

    signed = table.dtype == np.int8
    per_step = 1.0 / (std * (1.0 if spec.scale is None else spec.scale))
    offset = spec.zero_point - mean * per_step + (128 if signed else 0)

    def scale(picture: Picture, target: Any) -> None:
        stored = target.view(np.uint8).reshape(len(target), -1)
        written = cv2.convertScaleAbs(
            picture.reshape(len(picture), -1), dst=stored, alpha=per_step, beta=offset
        )
        if written is not stored:  # as above
            np.copyto(stored, written)
        if signed:
            np.bitwise_xor(stored, _SIGN, out=stored)

    tried = np.tile(np.arange(256, dtype=np.uint8), 128)[: 2 * _TRIED_ROW].reshape(2, _TRIED_ROW)
    tried = np.concatenate([np.roll(tried, shift, axis=1) for shift in range(_LANES)])
    got = np.empty(tried.shape, table.dtype)
    scale(tried, got)
    return scale if np.array_equal(got, table[tried]) else None


def _table_map(table: Array) -> Map:
    if table.dtype.name in _CV_TYPES:
        flat = _cv_map(np.ascontiguousarray(table))
        # as rows of single pixels, OpenCV shares them out to its threads: twice faster than channels of a row
        return lambda picture, target: flat(
            picture.reshape(len(picture), -1), target.reshape(len(target), -1)
        )

    def look_up(picture: Picture, target: Any) -> None:
        np.take(table, picture, out=target, mode="clip")

    return look_up


def _channels_map(table: Array, input: ImageInput, width: int) -> Map:
    if table.dtype == np.float32:
        # a whole row at once: numpy walks rows of three numbers twice slower
        mean, std = (np.tile(np.array(each, np.float32), width) for each in (input.mean, input.std))

        def affine(picture: Picture, target: Any) -> None:
            rows = target.reshape(len(target), -1)
            np.subtract(picture.reshape(len(picture), -1), mean, out=rows, dtype=np.float32)
            np.divide(rows, std, out=rows)

        return affine
    if table.dtype.name in _CV_TYPES:
        return _cv_map(np.ascontiguousarray(table)[:, None, :])

    def look_up(picture: Picture, target: Any) -> None:
        for channel in range(3):
            target[:, :, channel] = table[:, channel][picture[:, :, channel]]

    return look_up


def _cv_map(table: Any) -> Map:
    import cv2

    kind = np.dtype(_CV_TYPES[table.dtype.name])
    bits = table.view(kind)

    def look_up(picture: Picture, target: Any) -> None:
        stored = target.view(kind)
        written = cv2.LUT(picture, bits, dst=stored)
        if written is not stored:  # as above
            np.copyto(stored, written)

    return look_up
