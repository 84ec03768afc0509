"""Operations of a float TFLite graph as Keras layers: one function each, in OPERATIONS.

Each is told the step, and gives the Keras tensor of its output. Layers rather than loose operations wherever there is one:
pruning, folding and quantization-aware training know them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from compress.imports.moves import MOVES
from compress.imports.step import GraphStep, ImportedError, Operation, fused

SAME, VALID = 0, 1  # schema.Padding
_PADDINGS = {SAME: "same", VALID: "valid"}


def _conv(s: GraphStep) -> Any:
    import keras

    x, kernel, options = s.data(0), s.constant(1), s.options  # kernel: (O, H, W, I)
    groups = x.shape[-1] // kernel.shape[3]
    layer = keras.layers.Conv2D(
        kernel.shape[0],
        kernel.shape[1:3],
        strides=(options.strideH, options.strideW),
        padding=_PADDINGS[options.padding],
        dilation_rate=(options.dilationHFactor, options.dilationWFactor),
        groups=groups,
        use_bias=s.given(2),
        name=s.name("conv"),
    )
    return fused(s, _weighted(s, layer, x, kernel.transpose(1, 2, 3, 0)))


def _depthwise(s: GraphStep) -> Any:
    import keras

    x, kernel, options = s.data(0), s.constant(1), s.options  # (1, H, W, I * M)
    channels = int(x.shape[-1])
    _, height, width, made = kernel.shape
    layer = keras.layers.DepthwiseConv2D(
        (height, width),
        strides=(options.strideH, options.strideW),
        padding=_PADDINGS[options.padding],
        dilation_rate=(options.dilationHFactor, options.dilationWFactor),
        depth_multiplier=made // channels,
        use_bias=s.given(2),
        name=s.name("depthwise"),
    )
    return fused(s, _weighted(s, layer, x, kernel.reshape(height, width, channels, made // channels)))


def _transposed(s: GraphStep) -> Any:
    import keras

    shape, kernel, x, options = s.constant(0), s.constant(1), s.data(2), s.options  # kernel: (O, H, W, I)
    layer = keras.layers.Conv2DTranspose(
        kernel.shape[0],
        kernel.shape[1:3],
        strides=(options.strideH, options.strideW),
        padding=_PADDINGS[options.padding],
        use_bias=s.given(3),
        name=s.name("transposed"),
    )
    y = _weighted(s, layer, x, kernel.transpose(1, 2, 0, 3), biases=3)
    if tuple(y.shape[1:]) != tuple(int(side) for side in shape[1:]):
        raise ImportedError(f"gives {tuple(shape[1:])}, which Keras' padding does not")
    return fused(s, y)


def _dense(s: GraphStep) -> Any:
    import keras

    x, kernel = s.data(0), s.constant(1)  # (O, I)
    if not s.options.keepNumDims and (len(x.shape) != 2 or x.shape[-1] != kernel.shape[1]):
        x = keras.layers.Reshape((kernel.shape[1],), name=s.name("flatten"))(x)
    layer = keras.layers.Dense(kernel.shape[0], use_bias=s.given(2), name=s.name("dense"))
    return fused(s, _weighted(s, layer, x, kernel.T))


def _weighted(s: GraphStep, layer: Any, x: Any, kernel: Any, *, biases: int = 2) -> Any:
    y = layer(x)
    layer.set_weights([kernel, *([s.constant(biases)] if layer.use_bias else [])])
    return y


def _binary(layer: str, operation: str) -> Operation:
    """Of two tensors of one shape a layer; else the operation, with a constant in its place."""

    def convert(s: GraphStep) -> Any:
        import keras

        one, other = s.value(0), s.value(1)
        alike = s.is_data(0) and s.is_data(1) and tuple(one.shape) == tuple(other.shape)
        if alike and layer:
            return fused(s, getattr(keras.layers, layer)(name=s.name(layer.lower()))([one, other]))
        return fused(s, getattr(keras.ops, operation)(one, other))

    return convert


def _unary(operation: str) -> Operation:
    def convert(s: GraphStep) -> Any:
        import keras

        return getattr(keras.ops, operation)(s.data(0))

    return convert


def _squared_difference(s: GraphStep) -> Any:
    import keras

    return keras.ops.square(keras.ops.subtract(s.value(0), s.value(1)))


def _gelu(s: GraphStep) -> Any:
    import keras

    return keras.ops.gelu(s.data(0), approximate=bool(s.options.approximate))


def _activation(kind: str) -> Operation:
    def convert(s: GraphStep) -> Any:
        import keras

        return keras.layers.Activation(kind, name=s.name(kind))(s.data(0))

    return convert


def _leaky(s: GraphStep) -> Any:
    import keras

    return keras.layers.LeakyReLU(negative_slope=float(s.options.alpha), name=s.name("leaky"))(s.data(0))


def _prelu(s: GraphStep) -> Any:
    import keras

    x, alpha = s.data(0), s.constant(1)
    alpha = alpha.reshape((1,) * (len(x.shape) - 1 - alpha.ndim) + alpha.shape)
    shared = [axis for axis, side in enumerate(alpha.shape, start=1) if side == 1]
    layer = keras.layers.PReLU(shared_axes=shared or None, name=s.name("prelu"))
    y = layer(x)
    layer.set_weights([alpha])
    return y


def _softmax(s: GraphStep) -> Any:
    import keras

    x = s.data(0)
    if abs(float(s.options.beta) - 1) > 1e-6:
        x = x * float(s.options.beta)
    return keras.layers.Softmax(name=s.name("softmax"))(x)


def _pool(layer: str) -> Operation:
    def convert(s: GraphStep) -> Any:
        import keras

        options = s.options
        made = getattr(keras.layers, layer)(
            (options.filterHeight, options.filterWidth),
            strides=(options.strideH, options.strideW),
            padding=_PADDINGS[options.padding],
            name=s.name("pool"),
        )
        return fused(s, made(s.data(0)))

    return convert


def _reduce(operation: str) -> Operation:
    def convert(s: GraphStep) -> Any:
        import keras

        x, axes = s.data(0), tuple(int(a) % len(s.data(0).shape) for a in np.ravel(s.constant(1)))
        keep = bool(s.options.keepDims)
        if operation == "mean" and sorted(axes) == [1, 2] and len(x.shape) == 4:
            return keras.layers.GlobalAveragePooling2D(keepdims=keep, name=s.name("pool"))(x)
        if 0 in axes:
            raise ImportedError("runs over the batch")
        return getattr(keras.ops, operation)(x, axis=axes, keepdims=keep)

    return convert


def _batch_matmul(s: GraphStep) -> Any:
    import keras

    one, other = s.value(0), s.value(1)
    if s.options.adjX:
        one = keras.ops.swapaxes(one, -1, -2)
    if s.options.adjY:
        other = keras.ops.swapaxes(other, -1, -2)
    return keras.ops.matmul(one, other)


OPERATIONS: dict[str, Operation] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _binary("Add", "add"),
    "SUB": _binary("Subtract", "subtract"),
    "MUL": _binary("Multiply", "multiply"),
    "DIV": _binary("", "divide"),
    "MAXIMUM": _binary("Maximum", "maximum"),
    "MINIMUM": _binary("Minimum", "minimum"),
    "POW": _binary("", "power"),
    "SQUARED_DIFFERENCE": _squared_difference,
    "EXP": _unary("exp"),
    "SQRT": _unary("sqrt"),
    "RSQRT": _unary("rsqrt"),
    "SQUARE": _unary("square"),
    "NEG": _unary("negative"),
    "ABS": _unary("abs"),
    "LOG": _unary("log"),
    "ELU": _activation("elu"),
    "GELU": _gelu,
    "HARD_SWISH": _activation("hard_silu"),
    "LOGISTIC": _activation("sigmoid"),
    "RELU": _activation("relu"),
    "RELU6": _activation("relu6"),
    "TANH": _activation("tanh"),
    "LEAKY_RELU": _leaky,
    "PRELU": _prelu,
    "SOFTMAX": _softmax,
    "AVERAGE_POOL_2D": _pool("AveragePooling2D"),
    "MAX_POOL_2D": _pool("MaxPooling2D"),
    "MEAN": _reduce("mean"),
    "SUM": _reduce("sum"),
    "REDUCE_MAX": _reduce("max"),
    **MOVES,
}
