"""What grid detectors have on top of a backbone: a top-down fusion ("fusion_<stride>…") and predictions by stride."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from compress.networks.blocks import conv_norm
from edgeai.errors import RecipeError

PRIOR_SCORE = 0.01


def fuse_top_down(
    features: Mapping[int, Any],
    strides: Iterable[int],
    channels: int,
    *,
    mix: Callable[[Any, str], Any] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Strides and their maps, coarsest first, each with what the coarser ones know added (FPN, Lin et al. 2017).

    mix(map, name): more layers for every map, before it is handed down. Raises RecipeError for a stride that the
    backbone does not make, or strides that do not double.
    """
    import keras

    above: Any = None
    coarser = 0
    for stride in sorted(strides, reverse=True):
        if stride not in features:
            raise RecipeError(
                f"no map of stride {stride}: the backbone makes {', '.join(map(str, features))}"
            )
        if coarser not in (0, 2 * stride):
            raise RecipeError(f"strides must double, {stride} and {coarser} do not")
        name = f"fusion_{stride}"
        x = conv_norm(features[stride], channels, kernel=1, name=f"{name}_lateral")
        if coarser:
            upper = keras.layers.UpSampling2D(2, name=f"{name}_upsample")(above)
            x = keras.layers.Add(name=f"{name}_add")([x, upper])
        above, coarser = mix(x, name) if mix else x, stride
        yield stride, above


def grid_outputs(x: Any, stride: int, classes: int) -> dict[str, Any]:
    """The two prediction layers of a stride: box_<stride> (h, w, 4) and class_<stride> (h, w, classes) logits.

    Boxes as YOLOX codes them: offsets of the centre to the cell, ln of width and height, all in cells.
    """
    import keras

    return {
        f"box_{stride}": keras.layers.Conv2D(4, 1, name=f"box_{stride}")(x),
        f"class_{stride}": keras.layers.Conv2D(
            classes,
            1,
            name=f"class_{stride}",
            # the focal-loss prior (Lin et al. 2017, section 4.1): training starts from "nothing here"
            bias_initializer=keras.initializers.Constant(-math.log((1 - PRIOR_SCORE) / PRIOR_SCORE)),
        )(x),
    }
