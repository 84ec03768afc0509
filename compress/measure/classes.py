"""Accuracy of a classifier, and what stands behind it: confusion, precision, recall and F1 of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import Metric, group_numbers, interval95
from edgeai.errors import DataError


@dataclass(frozen=True, slots=True)
class Confusion:
    """counts: (K, K) int64, row: what it is, column: what the model says."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(K,) NaN for a class that does not occur."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """(K,) NaN for a class that the model never says."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """(K,) harmonic mean of precision and recall; NaN for a class that neither occurs nor is said."""
        return _ratio(2 * np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1))

    def averages(self) -> dict[str, float]:
        """macro: mean over the classes that occur, one never said having precision 0. micro: over all examples together.

        With one label an example, the micro averages of precision, recall and F1 are all the accuracy.
        """
        occurs = self.counts.sum(axis=1) > 0
        macro = {
            f"macro_{name}": float(np.nan_to_num(values[occurs]).mean()) if occurs.any() else 0.0
            for name, values in (("precision", self.precision), ("recall", self.recall), ("f1", self.f1))
        }
        return macro | {"micro_f1": self.accuracy}

    def worst_pairs(self, count: int = 5) -> list[tuple[str, str, int]]:
        """(what it is, what was said, how often), the most frequent mistakes first."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [
            (self.labels[r], self.labels[c], int(wrong[r, c]))
            for r, c in zip(rows, columns, strict=True)
            if wrong[r, c]
        ]


def count_confusion(said: NDArray[Any], class_ids: NDArray[Any], labels: Sequence[str]) -> Confusion:
    """said, class_ids: (N,) numbers through `labels`. Raises DataError for others."""
    k = len(labels)
    for what, ids in (("said", said), ("class_ids", class_ids)):
        if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < k):
            raise DataError(f"{what} must be 0 to {k - 1}, one of {k} labels, got {ids.min()} to {ids.max()}")
    flat = np.asarray(class_ids, np.int64) * k + np.asarray(said, np.int64)
    return Confusion(tuple(labels), np.bincount(flat, minlength=k * k).reshape(k, k))


def measure_classes(
    scores: NDArray[np.floating[Any]],
    class_ids: NDArray[Any],
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
) -> Metric:
    """Top-1 accuracy of scores (N, K) against class_ids (N,).

    groups: (N,) the speaker or site of each example; whole groups are resampled for the interval where there are ten or
    more. details: "recall" of each label that occurs; "without_silence", the accuracy where a label is called silence.
    Raises DataError where there is nothing to measure on, or shapes do not fit.
    """
    scores, ids = check_scores(scores, class_ids, labels)
    right = scores.argmax(axis=1) == ids
    recalls = {
        label: round(float(right[ids == k].mean()), 4) for k, label in enumerate(labels) if (ids == k).any()
    }
    details: dict[str, Any] = {"recall": recalls}
    spoken = ids != (list(labels).index("silence") if "silence" in labels else -1)
    if spoken.any() and not spoken.all():
        details["without_silence"] = round(float(right[spoken].mean()), 4)
    ci95 = interval95(len(ids), lambda picks: float(right[picks].mean()), groups=group_numbers(groups))
    return Metric("accuracy", float(right.mean()), ci95, len(ids), details)


def one_score_a_label(outputs: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> NDArray[Any]:
    """An engine's only output as (K,). Raises DataError for several outputs, or another count than there are labels."""
    if len(outputs) != 1:
        raise DataError(f"one output with a score a label is expected, the model gives {', '.join(outputs)}")
    ((name, said),) = outputs.items()
    if said.size != len(labels):
        raise DataError(f"output {name!r} holds {said.size} scores, there are {len(labels)} labels")
    return np.asarray(said).reshape(-1)


def softmax(outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities (N, K) of a network's outputs (N, K)."""
    values = np.asarray(outputs, np.float64)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def check_scores(
    scores: NDArray[np.floating[Any]], class_ids: NDArray[Any], labels: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores (N, K) and class_ids (N,), N at least 1, ids among the labels, no NaN. Raises DataError."""
    values, ids = np.asarray(scores, np.float64), np.asarray(class_ids, np.int64)
    if not len(ids):
        raise DataError("there is nothing to measure accuracy on")
    if values.shape != (len(ids), len(labels)):
        raise DataError(
            f"scores must be ({len(ids)}, {len(labels)}), examples by labels, they are {values.shape}"
        )
    if np.isnan(values).any():
        raise DataError(f"{int(np.isnan(values).any(axis=1).sum())} examples have scores that are no numbers")
    if int(ids.min()) < 0 or int(ids.max()) >= len(labels):
        raise DataError(f"class_ids must be 0 to {len(labels) - 1}, got {ids.min()} to {ids.max()}")
    return values, ids


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
