"""Operations that move values, join or repeat them, or change their shape: one function each, in MOVES."""

from __future__ import annotations

from typing import Any

import numpy as np

from compress.imports.step import GraphStep, ImportedError, Operation, fused

LEAST = -1e30  # what exporters pad a maximum with


def _pad(s: GraphStep) -> Any:
    import keras

    x, pads = s.data(0), [(int(row[0]), int(row[1])) for row in s.constant(1)]
    value = float(s.constant(2).ravel()[0]) if s.given(2) else 0.0
    if pads[0] != (0, 0):
        raise ImportedError("pads the batch")
    if len(pads) == 4 and pads[3] == (0, 0) and value == 0.0:
        return keras.layers.ZeroPadding2D((pads[1], pads[2]), name=s.name("pad"))(x)
    if value < LEAST and _only_pooled(s, pads):
        # mirrored pixels lie in the same window: they change no maximum, and integers can hold them
        return keras.ops.pad(x, pads, mode="symmetric")
    return keras.ops.pad(x, pads, constant_values=value)


def _only_pooled(s: GraphStep, pads: list[tuple[int, int]]) -> bool:
    """Whether only a maximum over windows at least twice as wide as the padding reads it."""
    readers = s.graph.readers.get(s.step.outputs[0], [])
    if not readers or any(reader.kind != "MAX_POOL_2D" for reader in readers):
        return False
    wide = max(pads[1]) * 2, max(pads[2]) * 2
    return all(r.options.filterHeight >= wide[0] and r.options.filterWidth >= wide[1] for r in readers)


def _mirror_pad(s: GraphStep) -> Any:
    import keras

    pads = [tuple(int(n) for n in row) for row in s.constant(1)]
    return keras.ops.pad(s.data(0), pads, mode="reflect" if s.options.mode == 0 else "symmetric")


def _reshape(s: GraphStep) -> Any:
    import keras

    wanted, x = s.shape_out, s.data(0)
    if not wanted or wanted[0] != 1:
        raise ImportedError(f"reshapes the batch, to {wanted}")
    return (
        x if tuple(x.shape[1:]) == wanted[1:] else keras.layers.Reshape(wanted[1:], name=s.name("reshape"))(x)
    )


def _transpose(s: GraphStep) -> Any:
    import keras

    order = [int(axis) for axis in s.constant(1)]
    if order[0] != 0:
        raise ImportedError("moves the batch")
    return keras.layers.Permute(order[1:], name=s.name("permute"))(s.data(0))


def _concat(s: GraphStep) -> Any:
    import keras

    axis = int(s.options.axis) % len(s.shape_out)
    if axis == 0:
        raise ImportedError("joins along the batch")
    parts = [s.data(n) for n in range(s.count)]
    return fused(s, keras.layers.Concatenate(axis=axis, name=s.name("concat"))(parts))


def _strided_slice(s: GraphStep) -> Any:
    x, options = s.data(0), s.options
    begin, end, step = (np.ravel(s.constant(n)) for n in (1, 2, 3))
    if options.ellipsisMask or options.newAxisMask:
        raise ImportedError("slices with an ellipsis or a new axis")
    places: list[Any] = []
    for axis in range(len(begin)):
        if options.shrinkAxisMask >> axis & 1:
            places.append(int(begin[axis]))
            continue
        low = None if options.beginMask >> axis & 1 else int(begin[axis])
        high = None if options.endMask >> axis & 1 else int(end[axis])
        places.append(slice(low, high, int(step[axis])))
    return _sliced(x, places)


def _slice(s: GraphStep) -> Any:
    begin, size = (np.ravel(s.constant(n)) for n in (1, 2))
    ends = [None if n == -1 else int(b + n) for b, n in zip(begin, size, strict=True)]
    return _sliced(s.data(0), [slice(int(b), e) for b, e in zip(begin, ends, strict=True)])


def _sliced(x: Any, places: list[Any]) -> Any:
    first = places[0]
    if not isinstance(first, slice) or (first.start or 0) != 0 or first.stop not in (None, 1):
        raise ImportedError("slices the batch")
    return x[(slice(None), *places[1:])]


def _split(s: GraphStep) -> Any:
    import keras

    # SPLIT has (axis, data), SPLIT_V (data, sizes, axis)
    if s.is_data(0):
        x, sizes, axis = s.data(0), [int(n) for n in np.ravel(s.constant(1))], int(np.ravel(s.constant(2))[0])
        return keras.ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis)
    return keras.ops.split(s.data(1), int(s.options.numSplits), axis=int(np.ravel(s.constant(0))[0]))


def _resize(interpolation: str) -> Operation:
    def convert(s: GraphStep) -> Any:
        import keras

        x, size = s.data(0), [int(n) for n in np.ravel(s.constant(1))]
        half, aligned = bool(s.options.halfPixelCenters), bool(s.options.alignCorners)
        sides = [int(side) for side in x.shape[1:3]]
        up = tuple(out // side for out, side in zip(size, sides, strict=True))
        down = tuple(side // out for out, side in zip(size, sides, strict=True))
        if [n * side for n, side in zip(up, sides, strict=True)] == size and not aligned:
            if interpolation == "nearest" or half:
                return keras.layers.UpSampling2D(up, interpolation=interpolation, name=s.name("upsample"))(x)
        elif [n * out for n, out in zip(down, size, strict=True)] == sides and not aligned:
            if not half:  # every so manieth pixel
                return x[:, :: down[0], :: down[1]]
            if interpolation == "bilinear" and down == (2, 2):  # half way between two pixels
                return keras.layers.AveragePooling2D(2, name=s.name("pool"))(x)
        raise ImportedError(f"resizes {tuple(sides)} to {tuple(size)} in a way that no layer does")

    return convert


def _tile(s: GraphStep) -> Any:
    import keras

    times = [int(n) for n in np.ravel(s.constant(1))]
    if times[0] != 1:
        raise ImportedError("repeats the batch")
    return keras.ops.tile(s.data(0), times)


def _depth_to_space(s: GraphStep) -> Any:
    import keras

    x, block = s.data(0), int(s.options.blockSize)
    height, width, channels = (int(side) for side in x.shape[1:])
    left = channels // block**2
    x = keras.layers.Reshape((height, width, block, block, left))(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5))(x)
    return keras.layers.Reshape((height * block, width * block, left))(x)


def _space_to_depth(s: GraphStep) -> Any:
    import keras

    x, block = s.data(0), int(s.options.blockSize)
    height, width, channels = (int(side) for side in x.shape[1:])
    x = keras.layers.Reshape((height // block, block, width // block, block, channels))(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5))(x)
    return keras.layers.Reshape((height // block, width // block, block**2 * channels))(x)


MOVES: dict[str, Operation] = {
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _mirror_pad,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concat,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split,
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "RESIZE_BILINEAR": _resize("bilinear"),
    "TILE": _tile,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
}
