"""What a model said about a data set, beside what is true: everything else is computed from it, as often as needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.calibration import Calibration
from compress.measure.metric import Metric, Picks
from compress.measure.slices import Slice
from compress.measure.thresholds import OperatingPoint, ThresholdCurve, best_threshold, threshold_curve


@dataclass(frozen=True, slots=True)
class Mistake:
    """index: of the example. text: what went wrong, for people. weight: how bad it is; only its order counts."""

    index: int
    text: str
    weight: float


# the last name of a confusion where something may be said of nothing, or nothing of something
NOTHING = "(nothing)"


def json_number(value: float) -> float | None:
    """To four digits; null for NaN, which JSON does not have."""
    return None if np.isnan(value) else round(float(value), 4)


class Scored(ABC):
    """A model's outputs on N examples.

    unit: what an example is, "pictures" or "clips". names: (N,) file names. groups: (N,) the speaker or site of each, or its
    name.
    """

    unit: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def metric(self) -> Metric:
        """The task's metric on all examples. Raises DataError where there is nothing to measure."""

    @abstractmethod
    def value(self, picks: Picks) -> float:
        """The metric on some of the examples, repeats counted; NaN where it has none."""

    @abstractmethod
    def slices(self) -> list[Slice]:
        """What the metric is told for beside the whole."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """JSON: figures of each class, averages, calibration."""

    @abstractmethod
    def said(self, class_id: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(scores, right), each (M,): of everything that is said to be of this class."""

    @abstractmethod
    def wanted(self, class_id: int) -> int:
        """How much of this class there is to say."""

    @abstractmethod
    def calibration(self) -> Calibration | None:
        """None where scores are no probabilities."""

    @abstractmethod
    def predictions(self) -> Iterator[dict[str, Any]]:
        """One JSON object an example, in their order."""

    def curve(self, class_id: int | None = None) -> ThresholdCurve:
        """Precision and recall over the thresholds of one class, or of all together."""
        if class_id is not None:
            return threshold_curve(*self.said(class_id), wanted=self.wanted(class_id))
        every = [self.said(k) for k in range(len(self.labels))]
        return threshold_curve(
            np.concatenate([scores for scores, _ in every]),
            np.concatenate([right for _, right in every]),
            wanted=sum(self.wanted(k) for k in range(len(self.labels))),
        )

    def curves(self) -> dict[str, ThresholdCurve]:
        """By label, of those that occur."""
        return {label: self.curve(k) for k, label in enumerate(self.labels) if self.wanted(k)}

    def best_thresholds(self, precision: float, *, lower_bound: bool = False) -> dict[str, OperatingPoint]:
        """For a wanted precision (0..1), of each label that occurs. Raises UsageError for another precision."""
        return {
            label: best_threshold(
                *self.said(k), wanted=self.wanted(k), precision=precision, lower_bound=lower_bound
            )
            for k, label in enumerate(self.labels)
            if self.wanted(k)
        }

    def right(self) -> NDArray[np.bool_] | None:
        """(N,) whether each example is right; None where that is no yes or no."""
        return None

    def mistakes(self) -> list[Mistake]:
        """Examples that went wrong, the worst first; none where wrong is no yes or no."""
        return []

    def confusion(self) -> tuple[Sequence[str], NDArray[np.int64]] | None:
        """(names, counts (K, K)), row: what it is, column: what was said; None where there is none."""
        return None
