"""What a model said about a data set, beside what is true: everything else is computed from it, as often as needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.calibration import Calibration
from compress.measure.metric import Metric, Picks
from compress.measure.slices import Slice
from compress.measure.thresholds import OperatingPoint, ThresholdCurve


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
    def curves(self) -> Mapping[str, ThresholdCurve]:
        """Precision and recall over the thresholds, by label."""

    @abstractmethod
    def best_thresholds(self, precision: float, *, lower_bound: bool = False) -> dict[str, OperatingPoint]:
        """The threshold of each label that occurs for a wanted precision (0..1). Raises UsageError for another."""

    @abstractmethod
    def calibration(self) -> Calibration | None:
        """None where scores are no probabilities."""

    @abstractmethod
    def predictions(self) -> Iterator[dict[str, Any]]:
        """One JSON object an example, in their order."""

    def right(self) -> NDArray[np.bool_] | None:
        """(N,) whether each example is right; None where that is no yes or no."""
        return None

    def confusion(self) -> tuple[Sequence[str], NDArray[np.int64]] | None:
        """(names, counts (K, K)), row: what it is, column: what was said; None where there is none."""
        return None
