"""The table: which function follows the channels through which layer or operation."""

from __future__ import annotations

from typing import Any

from compress.groups.attention import follow_attention
from compress.groups.classes import Handler
from compress.groups.convolutions import (
    follow_conv,
    follow_dense,
    follow_depthwise,
    follow_einsum,
    follow_embedding,
    follow_separable,
    follow_transposed,
)
from compress.groups.elementwise import (
    follow_activation,
    follow_clip,
    follow_concatenate,
    follow_elementwise,
    follow_softmax,
    pass_on,
)
from compress.groups.norms import (
    follow_batch_norm,
    follow_group_norm,
    follow_layer_norm,
    follow_layer_scale,
    follow_normalization,
    follow_prelu,
    follow_rescaling,
    follow_unit_norm,
)
from compress.groups.recurrent import follow_bidirectional, follow_recurrent
from compress.groups.shapes import (
    follow_expand,
    follow_flatten,
    follow_item,
    follow_pad,
    follow_permute,
    follow_reduction,
    follow_repeat_vector,
    follow_reshape,
    follow_reshape_op,
    follow_spatial,
    follow_split,
    follow_squeeze,
    follow_swapaxes,
    follow_transpose,
)
from compress.groups.wrappers import follow_time_distributed

_MAKERS: dict[str, Handler] = {
    "Conv1D": follow_conv,
    "Conv2D": follow_conv,
    "Conv3D": follow_conv,
    "Conv1DTranspose": follow_transposed,
    "Conv2DTranspose": follow_transposed,
    "Conv3DTranspose": follow_transposed,
    "SeparableConv1D": follow_separable,
    "SeparableConv2D": follow_separable,
    "Dense": follow_dense,
    "EinsumDense": follow_einsum,
    "Embedding": follow_embedding,
    "SimpleRNN": follow_recurrent,
    "GRU": follow_recurrent,
    "LSTM": follow_recurrent,
    "Bidirectional": follow_bidirectional,
    "MultiHeadAttention": follow_attention,
}

_ELEMENTWISE_LAYERS: dict[str, Handler] = {
    "Activation": follow_activation,
    **dict.fromkeys(
        [
            "ActivityRegularization",
            "AlphaDropout",
            "Dropout",
            "ELU",
            "GaussianDropout",
            "GaussianNoise",
            "Identity",
            "LeakyReLU",
            "ReLU",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "SpatialDropout3D",
            "StochasticDepth",
        ],
        pass_on,
    ),
}

_SPATIAL: dict[str, Handler] = dict.fromkeys(
    [f"{kind}{n}D" for kind in ("Cropping", "UpSampling", "ZeroPadding") for n in (1, 2, 3)]
    + [f"{kind}Pooling{n}D" for kind in ("Average", "Max") for n in (1, 2, 3)]
    + [f"{kind}Pooling{n}D" for kind in ("GlobalAverage", "GlobalMax") for n in (1, 2, 3)]
    + [f"{kind}Pooling{n}D" for kind in ("AdaptiveAverage", "AdaptiveMax") for n in (1, 2, 3)],
    follow_spatial,
)

_LAYERS: dict[str, Handler] = {
    **_MAKERS,
    **_ELEMENTWISE_LAYERS,
    **_SPATIAL,
    **dict.fromkeys(
        ["Add", "Average", "CustomScaleLayer", "Maximum", "Minimum", "Multiply", "Subtract"],
        follow_elementwise,
    ),
    "Concatenate": follow_concatenate,
    "DepthwiseConv1D": follow_depthwise,
    "DepthwiseConv2D": follow_depthwise,
    "BatchNormalization": follow_batch_norm,
    "GroupNormalization": follow_group_norm,
    "LayerNormalization": follow_layer_norm,
    "LayerScale": follow_layer_scale,
    "Normalization": follow_normalization,
    "PReLU": follow_prelu,
    "RMSNormalization": follow_layer_norm,
    "Rescaling": follow_rescaling,
    "UnitNormalization": follow_unit_norm,
    "Softmax": follow_softmax,
    "Flatten": follow_flatten,
    "Permute": follow_permute,
    "RepeatVector": follow_repeat_vector,
    "Reshape": follow_reshape,
    "TimeDistributed": follow_time_distributed(
        {
            **_ELEMENTWISE_LAYERS,
            **_SPATIAL,
            "Conv1D": follow_conv,
            "Conv2D": follow_conv,
            "Dense": follow_dense,
            "DepthwiseConv2D": follow_depthwise,
            "Flatten": follow_flatten,
            "Rescaling": follow_rescaling,
        }
    ),
}

# operations of keras.ops, by what they do with the channels
_ONE_INPUT = """
    Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cast Cbrt Ceil Celu Copy Cos Cosh Elu Erf Erfc Exp Exp2
    Expm1 Floor Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu Log Log10 Log1p Log2 LogSigmoid LogicalNot NanToNum
    Negative Reciprocal Relu Relu6 Round Rsqrt SaturateCast Selu Sigmoid Sign Silu Sin Sinh SoftShrink Softplus Softsign
    SparsePlus SparseSigmoid Sqrt Square Squareplus StopGradient Tan Tanh TanhShrink Threshold Trunc
"""
_BROADCAST = """
    Add Arctan2 Divide DivideNoNan Equal FloorDivide Fmax Fmin Fmod Greater GreaterEqual Hypot Less LessEqual Logaddexp
    Logaddexp2 LogicalAnd LogicalOr LogicalXor Maximum Minimum Mod Multiply NotEqual Power Subtract TrueDivide
    Where
"""
_REDUCTIONS = "All Amax Amin Any CountNonzero Logsumexp Max Mean Median Min Prod Std Sum Var"

_OPERATIONS: dict[str, Handler] = {
    **dict.fromkeys(
        _ONE_INPUT.split(),
        pass_on,
    ),
    **dict.fromkeys(
        _BROADCAST.split(),
        follow_elementwise,
    ),
    **dict.fromkeys(
        _REDUCTIONS.split(),
        follow_reduction,
    ),
    "Clip": follow_clip,
    "Concatenate": follow_concatenate,
    "ExpandDims": follow_expand,
    "GetItem": follow_item,
    "LogSoftmax": follow_softmax,
    "Pad": follow_pad,
    "Reshape": follow_reshape_op,
    "Softmax": follow_softmax,
    "Split": follow_split,
    "Squeeze": follow_squeeze,
    "Swapaxes": follow_swapaxes,
    "Transpose": follow_transpose,
}


def find_handler(operation: Any) -> Handler | None:
    """The function for one of Keras' own layers or operations; None for others, and for subclasses of the user's."""
    kind = type(operation)
    if not kind.__module__.startswith("keras."):
        return None
    table = _OPERATIONS if kind.__module__.startswith(("keras.src.ops.", "keras.ops")) else _LAYERS
    return table.get(kind.__name__)


def has_constants(operation: Any) -> bool:
    """Whether its configuration may hold a number of channels or one constant for each."""
    return type(operation).__name__ in ("Normalization", "Rescaling", "Reshape", "Split")


def makes_channels(operation: Any) -> bool:
    """Whether it makes channels of its own even where none of its input's can go."""
    return type(operation).__name__ in _MAKERS or type(operation).__name__ == "TimeDistributed"
