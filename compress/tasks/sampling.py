"""How often each example is drawn: class weights as sampling, which every loss understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ClassWeights = Literal["none", "balanced"] | Mapping[str, float]


def example_shares(
    class_ids: NDArray[np.int32], labels: Sequence[str], weights: ClassWeights
) -> NDArray[np.float64]:
    """(N,) probabilities, sum 1, for examples of one class each.

    "balanced": every class that occurs is drawn as often; a mapping multiplies the draws of a class.
    """
    counts = np.bincount(class_ids, minlength=len(labels)).astype(np.float64)
    factors = 1 / np.maximum(counts, 1) if weights == "balanced" else _factors(labels, weights)
    shares = factors[class_ids]
    return np.asarray(shares / shares.sum(), np.float64)


def picture_shares(
    class_ids: Sequence[NDArray[np.int32]], labels: Sequence[str], weights: ClassWeights
) -> NDArray[np.float64]:
    """(N,) probabilities, sum 1, for pictures of several classes each.

    "balanced" is repeat-factor sampling (Gupta et al. 2019, LVIS, section 4.2) against the commonest class: a picture counts
    by its rarest class, sqrt(share of pictures with the commonest / with that class). A mapping: by its heaviest class.
    """
    if weights == "balanced":
        holding = np.zeros(len(labels))
        for ids in class_ids:
            holding[np.unique(ids)] += 1
        factors = np.sqrt(holding.max(initial=1.0) / np.maximum(holding, 1.0))
    else:
        factors = _factors(labels, weights)
    # an empty picture counts as one of the commonest class
    shares = np.array([factors[ids].max() if len(ids) else 1.0 for ids in class_ids], np.float64)
    return np.asarray(shares / shares.sum(), np.float64)


def _factors(labels: Sequence[str], weights: ClassWeights) -> NDArray[np.float64]:
    if isinstance(weights, str):
        return np.ones(len(labels))
    return np.array([weights.get(label, 1.0) for label in labels], np.float64)


class Draw:
    """Draws indices by their shares; fast for many, for the sums are made once."""

    def __init__(self, shares: NDArray[np.float64]) -> None:
        self._edges = np.cumsum(shares)

    def __call__(self, rng: np.random.Generator, size: int) -> NDArray[np.intp]:
        picks = np.searchsorted(self._edges, rng.random(size) * self._edges[-1], side="right")
        return np.asarray(np.minimum(picks, len(self._edges) - 1), np.intp)
