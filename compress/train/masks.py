"""Weights that stay zero through a training: masks by variable, renewed as a schedule says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import PassError

Masks = Mapping[str, NDArray[np.bool_]]
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class MaskSchedule:
    """Which weights are kept, and when that is decided anew.

    make(step, weights): from the present weights, by path (`variable.path`), the masks by path, in the weights' shapes,
    true = kept; variables that are not named are kept whole. A weight that is masked is zero from then on, so masks made by
    magnitude only ever grow. renew_at: steps before which make() is called again; step 0 always is one. make() decides by
    its arguments alone: a training that goes on from a checkpoint must find the same masks.
    """

    make: Callable[[int, Weights], Masks]
    renew_at: frozenset[int] = frozenset()

    @property
    def last(self) -> int:
        """The step after which the masks stay as they are."""
        return max(self.renew_at, default=0)

    def due(self, step: int) -> bool:
        return step == 0 or step in self.renew_at


def hold_masks(masks: Masks) -> MaskSchedule:
    """The same masks from the first step to the last."""
    return MaskSchedule(lambda step, weights: masks)


def zero_masks(network: Any) -> Masks:
    """Masks of the weights that are exactly zero now, of every trained matrix that holds one.

    A matrix that trains well does not meet zero by chance; biases and batch norms start there, and are left out.
    """
    found = {}
    for variable in network.trainable_variables:
        value = np.asarray(variable.numpy())
        if value.ndim > 1 and not value.all():
            found[str(variable.path)] = value != 0
    return found


def weights_by_path(variables: Sequence[Any], values: Sequence[NDArray[np.float32]]) -> Weights:
    """Raises PassError where two variables have one path: a mask could not say which it means."""
    found = {str(variable.path): np.asarray(value) for variable, value in zip(variables, values, strict=True)}
    if len(found) != len(variables):
        paths = [variable.path for variable in variables]
        twice = next(path for path in paths if paths.count(path) > 1)
        raise PassError(f"two weights are called {twice!r}", next_step="give the layers names of their own")
    return found


def flat_mask(masks: Masks, weights: Weights) -> NDArray[np.float32]:
    """One vector over all of `weights`, in their order: 1 = kept, 0 = zero.

    Raises PassError for a mask of a weight that is not trained, or of another shape.
    """
    for path, mask in masks.items():
        if path not in weights:
            near = ", ".join(list(weights)[:4])
            raise PassError(
                f"a mask is of {path!r}, which is not among the trained weights",
                next_step=f"there are {near}, ...",
            )
        if np.shape(mask) != weights[path].shape:
            raise PassError(f"the mask of {path!r} is {np.shape(mask)}, the weight {weights[path].shape}")
    parts = [
        np.asarray(masks[path] if path in masks else np.ones(value.shape), np.float32).ravel()
        for path, value in weights.items()
    ]
    return np.concatenate(parts)
