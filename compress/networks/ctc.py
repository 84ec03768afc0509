"""Networks that spell what they hear: from log-mels to symbols frame by frame, for CTC (compress.train.ctc_loss).

All begin with a convolutional "stem" that gives one vector for two or four frames; then come recurrent layers (`crnn`), which
int8 writes out step by step, or blocks of attention with or without convolution (`conformer_lite`, `transformer`). Norms are
batch norms, which fold or stay integer, where a layer norm would leave float tensors in an int8 file.
"""

from __future__ import annotations

from typing import Any

from compress.networks.blocks import conv_norm, depthwise_norm, norm_activate, round_channels
from edgeai.errors import RecipeError

CELLS = ("gru", "lstm")


def crnn(
    *,
    frames: int,
    mels: int,
    classes: int,
    multiplier: float = 1.0,
    cell: str = "gru",
    layers: int = 2,
    bidirectional: bool = True,
    time_stride: int = 2,
    dropout: float = 0.1,
) -> Any:
    """Convolutions, then recurrent layers (after Amodei et al. 2016, "Deep Speech 2").

    From (frames, mels, 1) features to "symbols", (ceil(frames / time_stride), classes) logits, the blank among the
    classes. multiplier scales widths, 64 units a direction at 1. cell: "gru" or "lstm"; time_stride: 1, 2 or 4. float16
    keeps the layers as loops; int8 has a copy of the cell for each step (compress.quantize.unroll). Raises RecipeError for
    another cell or stride.
    """
    import keras

    if cell not in CELLS:
        raise RecipeError(f"cell must be one of {', '.join(CELLS)}, is {cell!r}")
    units = round_channels(64 * multiplier)
    features, x = _stem(frames, mels, units, multiplier=multiplier, time_stride=time_stride)
    kinds = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
    for number in range(1, layers + 1):
        name = f"stage{number}_{cell}"
        recurrent = kinds[cell](units, return_sequences=True, name=name)
        x = keras.layers.Bidirectional(recurrent, name=f"{name}_both")(x) if bidirectional else recurrent(x)
        x = norm_activate(x, None, name=name)
    return _symbols(features, x, classes, dropout=dropout, name="crnn")


def conformer_lite(
    *,
    frames: int,
    mels: int,
    classes: int,
    multiplier: float = 1.0,
    blocks: int = 3,
    heads: int = 4,
    kernel: int = 15,
    time_stride: int = 2,
    dropout: float = 0.1,
) -> Any:
    """Attention and depthwise convolution over time, block by block (after Gulati et al. 2020, "Conformer").

    Lighter: one feed-forward part a block, batch norms, no gate in the convolution. From (frames, mels, 1) features to
    "symbols", (ceil(frames / time_stride), classes) logits. Width 64 at multiplier 1, shared by `heads`. kernel is in
    (strided) frames; 0 leaves the convolution out. Raises RecipeError for a time_stride other than 1, 2 or 4.
    """
    import keras

    width = heads * max(1, round(64 * multiplier / heads))
    features, x = _stem(frames, mels, width, multiplier=multiplier, time_stride=time_stride)
    x = _positions(x)
    for number in range(1, blocks + 1):
        name = f"stage{number}"
        y = norm_activate(x, None, name=f"{name}_attention")
        y = keras.layers.MultiHeadAttention(heads, width // heads, dropout=dropout, name=f"{name}_attention")(
            y, y
        )
        x = _added(x, y, dropout, f"{name}_attention")
        if kernel:
            x = _added(x, _over_time(x, width, kernel, f"{name}_conv"), dropout, f"{name}_conv")
        y = norm_activate(x, None, name=f"{name}_feed")
        y = keras.layers.Dense(2 * width, activation="relu", name=f"{name}_feed_widen")(y)
        y = keras.layers.Dense(width, name=f"{name}_feed_narrow")(y)
        x = _added(x, y, dropout, f"{name}_feed")
    x = norm_activate(x, None, name="head")
    return _symbols(features, x, classes, dropout=dropout, name="conformer_lite" if kernel else "transformer")


def transformer(
    *,
    frames: int,
    mels: int,
    classes: int,
    multiplier: float = 1.0,
    blocks: int = 3,
    heads: int = 4,
    time_stride: int = 2,
    dropout: float = 0.1,
) -> Any:
    """A small transformer encoder (Vaswani et al. 2017, norms first): `conformer_lite` without its convolutions."""
    return conformer_lite(
        frames=frames,
        mels=mels,
        classes=classes,
        multiplier=multiplier,
        blocks=blocks,
        heads=heads,
        kernel=0,
        time_stride=time_stride,
        dropout=dropout,
    )


def _stem(frames: int, mels: int, width: int, *, multiplier: float, time_stride: int) -> tuple[Any, Any]:
    """(B, frames, mels, 1) to (B, ceil(frames / time_stride), width)."""
    import keras

    if time_stride not in (1, 2, 4):
        raise RecipeError(f"time_stride must be 1, 2 or 4, is {time_stride!r}")
    features = keras.Input((frames, mels, 1), name="features")
    steps = (min(time_stride, 2), time_stride // min(time_stride, 2))
    x = conv_norm(
        features, round_channels(16 * multiplier), kernel=3, stride=(steps[0], 2), name="stem_first"
    )
    x = conv_norm(x, round_channels(32 * multiplier), kernel=3, stride=(steps[1], 2), name="stem_second")
    # the last axis is inferred: pruning may thin out the channels before it
    x = keras.layers.Reshape((x.shape[1], -1), name="stem_bands")(x)
    x = keras.layers.Dense(width, use_bias=False, name="stem_mix")(x)
    return features, norm_activate(x, "relu6", name="stem_mix")


def _positions(x: Any) -> Any:
    """Where a frame stands shows by a wide depthwise convolution, whose zeros at the edges count from both ends."""
    import keras

    y = keras.layers.Reshape((x.shape[1], 1, -1), name="stem_positions_4d")(x)
    y = depthwise_norm(y, kernel=(15, 1), name="stem_positions")
    y = keras.layers.Reshape((x.shape[1], -1), name="stem_positions_3d")(y)
    return keras.layers.Add(name="stem_positions_add")([x, y])


def _over_time(x: Any, width: int, kernel: int, name: str) -> Any:
    import keras

    frames = x.shape[1]
    y = norm_activate(x, None, name=f"{name}_in")
    y = keras.layers.Reshape((frames, 1, -1), name=f"{name}_4d")(y)
    y = conv_norm(y, width, kernel=1, name=f"{name}_expand")
    y = depthwise_norm(y, kernel=(kernel, 1), name=f"{name}_depthwise")
    y = keras.layers.Conv2D(width, 1, name=f"{name}_project")(y)
    return keras.layers.Reshape((frames, -1), name=f"{name}_3d")(y)


def _added(x: Any, y: Any, dropout: float, name: str) -> Any:
    import keras

    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def _symbols(features: Any, x: Any, classes: int, *, dropout: float, name: str) -> Any:
    import keras

    x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(features, {"symbols": keras.layers.Dense(classes, name="symbols")(x)}, name=name)
