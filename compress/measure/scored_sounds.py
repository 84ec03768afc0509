"""What a speller or an autoencoder said about clips, beside what is true."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.anomalies import measure_anomaly
from compress.measure.calibration import Calibration
from compress.measure.metric import Metric, Picks
from compress.measure.scored import Scored
from compress.measure.slices import Slice
from compress.measure.transcripts import edit_distance, measure_transcripts


class _ScoredClips(Scored):
    """Clips for which there is one figure, but no class that is said with a score."""

    unit = "clips"

    @abstractmethod
    def _metric_of(self, picks: Picks) -> Metric: ...

    def metric(self) -> Metric:
        return self._metric_of(np.arange(len(self)))

    def slices(self) -> list[Slice]:
        return []

    def details(self) -> dict[str, Any]:
        return dict(self.metric().details)

    def said(self, class_id: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return np.empty(0), np.empty(0, bool)

    def wanted(self, class_id: int) -> int:
        return 0

    def calibration(self) -> Calibration | None:
        return None


class ScoredTranscripts(_ScoredClips):
    """said, wanted: (N,) lists of symbol numbers through `symbols`."""

    def __init__(
        self,
        symbols: Sequence[str],
        names: Sequence[str],
        groups: Sequence[str],
        said: Sequence[Sequence[int]],
        wanted: Sequence[Sequence[int]],
    ) -> None:
        self.labels, self.names, self.groups = tuple(symbols), tuple(names), tuple(groups)
        self._said, self._wanted = list(said), list(wanted)

    def value(self, picks: Picks) -> float:
        symbols = sum(len(self._wanted[i]) for i in picks)
        edits = sum(edit_distance(self._said[i], self._wanted[i]) for i in picks)
        return edits / symbols if symbols else float("nan")

    def predictions(self) -> Iterator[dict[str, Any]]:
        for name, said, wanted in zip(self.names, self._said, self._wanted, strict=True):
            yield {"file": name, "said": self._written(said), "wanted": self._written(wanted)}

    def right(self) -> NDArray[np.bool_]:
        pairs = zip(self._said, self._wanted, strict=True)
        return np.array([list(said) == list(wanted) for said, wanted in pairs], bool)

    def _metric_of(self, picks: Picks) -> Metric:
        return measure_transcripts(
            [self._said[i] for i in picks], [self._wanted[i] for i in picks], [self.groups[i] for i in picks]
        )

    def _written(self, numbers: Sequence[int]) -> str:
        joint = "" if all(len(label) == 1 for label in self.labels) else " "
        return joint.join(self.labels[k] for k in numbers)


class ScoredAnomalies(_ScoredClips):
    """errors: (N,) how badly each clip was rebuilt. class_ids: (N,) through `labels`, of which the first is the normal sound."""

    def __init__(
        self,
        labels: Sequence[str],
        names: Sequence[str],
        groups: Sequence[str],
        errors: NDArray[np.float64],
        class_ids: NDArray[Any],
    ) -> None:
        self.labels, self.names, self.groups = tuple(labels), tuple(names), tuple(groups)
        self._errors, self._class_ids = errors, np.asarray(class_ids)
        self._is_anomaly = self._class_ids != 0

    def value(self, picks: Picks) -> float:
        from compress.measure.ranking import roc_auc

        positive = self._is_anomaly[picks]
        both = positive.any() and not positive.all()
        return roc_auc(self._errors[picks], positive) if both else float("nan")

    def slices(self) -> list[Slice]:
        """Each kind of anomaly beside all that is normal, where there are several."""
        kinds = [k for k in range(1, len(self.labels)) if (self._class_ids == k).any()]
        if len(kinds) < 2:
            return []
        return [
            Slice(
                "anomaly",
                self.labels[k],
                np.flatnonzero((self._class_ids == 0) | (self._class_ids == k)),
                int((self._class_ids == k).sum()),
                self.unit,
                self.value,
            )
            for k in kinds
        ]

    def predictions(self) -> Iterator[dict[str, Any]]:
        for name, error, anomaly in zip(self.names, self._errors, self._is_anomaly, strict=True):
            yield {"file": name, "score": float(error), "anomaly": bool(anomaly)}

    def _metric_of(self, picks: Picks) -> Metric:
        return measure_anomaly(self._errors[picks], self._is_anomaly[picks], [self.groups[i] for i in picks])
