"""Operations with weights as matrix products: what a kernel computes at each place, as rows of inputs times weights.

Everything that asks how rounding weights changes outputs (bias correction, learned rounding) asks it of these products, so
that convolutions, plain, grouped, dilated or depthwise, and dense layers are one case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from compress.quantize.graph import Step, TFLiteGraph

Floats = NDArray[np.float32]
_SAME = 0  # schema.Padding
_ACTIVATIONS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}


@dataclass(frozen=True)
class LinearStep:
    """A convolution or dense layer of a float graph.

    data, weights, biases: tensor numbers, biases -1 where there are none. groups: parts of the channels that see nothing of
    each other; each channel is one for a depthwise convolution. kernel, stride, dilation: (height, width). clamp: what the
    fused activation leaves, (low, high).
    """

    step: Step
    data: int
    weights: int
    biases: int
    groups: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    same: bool
    clamp: tuple[float, float]

    @property
    def output(self) -> int:
        return self.step.outputs[0]

    # -- weights as (groups, K, outputs a group)

    def matrix(self, weights: Floats) -> Floats:
        """The file's weights as (G, K, O / G)."""
        if self.step.kind == "DEPTHWISE_CONV_2D":
            _, height, width, _ = weights.shape
            turned: Floats = weights.reshape(height * width, self.groups, -1).transpose(1, 0, 2)
            return np.ascontiguousarray(turned)
        outputs = weights.shape[0]
        flat = weights.reshape(self.groups, outputs // self.groups, -1)
        return np.ascontiguousarray(flat.transpose(0, 2, 1))

    def unmatrix(self, matrix: Floats, shape: tuple[int, ...]) -> Floats:
        """The inverse of matrix(), in the file's `shape`."""
        if self.step.kind == "DEPTHWISE_CONV_2D":
            return np.ascontiguousarray(matrix.transpose(1, 0, 2)).reshape(shape)
        return np.ascontiguousarray(matrix.transpose(0, 2, 1)).reshape(shape)

    # -- inputs as rows

    def rows(self, values: Floats, picks: NDArray[np.int64] | None = None) -> Floats:
        """What the kernel reads at each place, or at the places `picks` of them: (P, G, K) from the data tensor's values."""
        if self.step.kind == "FULLY_CONNECTED":
            flat: Floats = values.reshape(-1, 1, values.shape[-1])
            some: Floats = flat if picks is None else flat[picks]
            return some
        windows = self._windows(values)  # (N, rows, columns, C, kh, kw)
        count, rows, columns = windows.shape[:3]
        if picks is None:
            return self._grouped(windows.reshape(count * rows * columns, *windows.shape[3:]))
        return self._grouped(windows[np.unravel_index(picks, (count, rows, columns))])

    def places(self, values: Floats) -> int:
        """How many places the kernel stands at."""
        if self.step.kind == "FULLY_CONNECTED":
            return int(np.prod(values.shape[:-1]))
        return int(np.prod(self._windows(values).shape[:3]))

    def mean_row(self, values: Floats) -> Floats:
        """The mean of rows(values), (G, K), without making them."""
        if self.step.kind == "FULLY_CONNECTED":
            return np.asarray(values.reshape(-1, values.shape[-1]).mean(0)[None], np.float32)
        mean = self._windows(values).mean((0, 1, 2), dtype=np.float64).astype(np.float32)
        row: Floats = self._grouped(mean[None])[0]
        return row

    def _grouped(self, windows: Floats) -> Floats:
        """(P, C, kh, kw) to (P, G, K), K in the order of the file's weights: height, width, channel of the group."""
        count, channels, height, width = windows.shape
        parted = windows.reshape(count, self.groups, channels // self.groups, height, width)
        return np.ascontiguousarray(parted.transpose(0, 1, 3, 4, 2)).reshape(count, self.groups, -1)

    def _windows(self, values: Floats) -> Floats:
        """A view (N, rows, columns, C, kh, kw) of what lies under the kernel at each place."""
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        if self.same:
            pads = [
                _same_padding(size, span, stride)
                for size, span, stride in zip(values.shape[1:3], spans, self.stride, strict=True)
            ]
            values = np.pad(values, ((0, 0), *pads, (0, 0)))
        windows = sliding_window_view(values, spans, axis=(1, 2))
        down, right = self.stride
        taken: Floats = windows[:, ::down, ::right, :, :: self.dilation[0], :: self.dilation[1]]
        return taken


def linear_steps(graph: TFLiteGraph) -> list[LinearStep]:
    """The graph's convolutions and dense layers in their order; transposed convolutions are left out."""
    return [found for step in graph.weighted() if (found := _linear(graph, step)) is not None]


def _linear(graph: TFLiteGraph, step: Step) -> LinearStep | None:
    wired = step.weighted
    if wired is None or step.kind == "TRANSPOSE_CONV":
        return None
    data, weights, biases = wired
    shape, options = graph.shape(weights), step.options
    clamp = _ACTIVATIONS.get(int(options.fusedActivationFunction), (-np.inf, np.inf))
    if step.kind == "FULLY_CONNECTED":
        return LinearStep(step, data, weights, biases, 1, (1, 1), (1, 1), (1, 1), False, clamp)
    channels = graph.shape(data)[-1]
    groups = channels if step.kind == "DEPTHWISE_CONV_2D" else channels // shape[3]
    return LinearStep(
        step,
        data,
        weights,
        biases,
        groups,
        (shape[1], shape[2]),
        (int(options.strideH), int(options.strideW)),
        (int(options.dilationHFactor), int(options.dilationWFactor)),
        int(options.padding) == _SAME,
        clamp,
    )


def _same_padding(size: int, span: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same": outputs are inputs over the stride, rounded up; what is odd is added behind."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def channel_scales(matrix: Floats, *, bits: int = 8, per_channel: bool = True) -> Floats:
    """What one step of the integer weights is worth, (G, 1, O / G): the largest weight is the largest integer.

    As the converter's quantizer does it: symmetric, without the lowest integer.
    """
    most = np.abs(matrix).max(1, keepdims=True)
    if not per_channel:
        most = np.full_like(most, most.max())
    levels = 2 ** (bits - 1) - 1
    scales: Floats = np.where(most > 0, most / levels, 1.0).astype(np.float32)
    return scales


def rounded(matrix: Floats, scales: Floats, *, bits: int = 8) -> Floats:
    """The weights as they come back from the nearest integers."""
    levels = 2 ** (bits - 1) - 1
    back: Floats = (np.clip(np.rint(matrix / scales), -levels, levels) * scales).astype(np.float32)
    return back


def parameters(graph: TFLiteGraph, linear: LinearStep) -> tuple[Floats, Any]:
    """(weights as in the file, biases or None)."""
    weights = graph.constant(linear.weights)
    if weights is None:
        raise ValueError(f"{graph.name(linear.weights)!r} is no constant")
    return weights, graph.constant(linear.biases)
