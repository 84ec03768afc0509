"""2:4 masks: of each four consecutive weights along the input channels two stay, as sparse tensor cores take them.

TensorRT looks along C of its K C R S kernels, and along the inputs of dense layers (builder flag SPARSE_WEIGHTS); in Keras'
kernels (..., in, out) that is the last axis but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.prune.magnitude import weighted_layers
from compress.train.masks import Masks
from edgeai.errors import PassError

GROUP, KEPT = 4, 2
LAYERS = ("Conv1D", "Conv2D", "Conv3D", "Dense")


def two_four_masks(network: Any, *, exclude: Sequence[str] = ()) -> tuple[Masks, dict[str, str]]:
    """(masks by variable path, {layer that stays dense: why}). Of each four weights the two of largest magnitude stay.

    Raises PassError where no layer fits, and for an excluded name that no layer has.
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    left: dict[str, str] = {}
    layers = list(weighted_layers(network))
    for name in exclude:
        if name not in [layer.name for layer in layers]:
            raise PassError(f"exclude: no layer {name!r} has weights")
    for layer in layers:
        kernel = next((v for v in layer.trainable_variables if v.name == "kernel"), None)
        if kernel is None or len(kernel.shape) < 2:
            continue  # norms and the like: nothing that a tensor core multiplies
        if layer.name in exclude:
            left[layer.name] = "excluded"
        elif type(layer).__name__ not in LAYERS:
            left[layer.name] = f"{type(layer).__name__} has no sparse kernel"
        elif kernel.shape[-2] % GROUP:
            left[layer.name] = f"{kernel.shape[-2]} input channels are no multiple of {GROUP}"
        else:
            masks[str(kernel.path)] = two_four_mask(np.asarray(kernel.numpy()))
    if not masks:
        why = ", ".join(f"{name} ({reason})" for name, reason in list(left.items())[:3])
        raise PassError(f"2:4: no layer fits{': ' + why if why else ''}")
    return masks, left


def two_four_mask(kernel: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True for the two largest of each four along axis -2; its length must be a multiple of four. (..., in, out)."""
    grouped = np.moveaxis(np.abs(kernel), -2, -1)
    grouped = grouped.reshape(*grouped.shape[:-1], -1, GROUP)
    order = np.argsort(-grouped, axis=-1, kind="stable")
    mask = np.zeros(grouped.shape, np.bool_)
    np.put_along_axis(mask, order[..., :KEPT], True, axis=-1)
    return np.moveaxis(mask.reshape(*mask.shape[:-2], -1), -1, -2)


def is_two_four(kernel: NDArray[Any]) -> bool:
    """Whether every four consecutive weights along axis -2 hold two zeros at least."""
    if kernel.ndim < 2 or kernel.shape[-2] % GROUP:
        return False
    moved = np.moveaxis(kernel, -2, -1)
    zeros = (moved.reshape(*moved.shape[:-1], -1, GROUP) == 0).sum(-1)
    return bool((zeros >= GROUP - KEPT).all())
