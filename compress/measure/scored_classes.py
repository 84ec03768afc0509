"""Examples with one label each: accuracy, and what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.calibration import Calibration, measure_calibration
from compress.measure.classes import Confusion, check_scores, count_confusion, measure_classes
from compress.measure.metric import Metric, Picks, Statistic
from compress.measure.scored import Mistake, Scored, json_number
from compress.measure.slices import Slice, group_slices, third_slices


@dataclass(frozen=True, slots=True)
class Trait:
    """A number known of each example, by which the data is cut in three.

    values: (N,). names: what low, middle and high are called. unit: of the values, for people.
    """

    name: str
    values: NDArray[Any]
    names: tuple[str, str, str]
    unit: str


def trait_slices(
    traits: Sequence[Trait], value: Statistic, *, unit: str, among: NDArray[np.bool_]
) -> list[Slice]:
    """Three slices by each trait, of the examples `among` (N,)."""
    return [
        part
        for trait in traits
        for part in third_slices(
            trait.name, trait.values, trait.names, value, unit=unit, value_unit=trait.unit, among=among
        )
    ]


@dataclass(frozen=True)
class ScoredClasses(Scored):
    """scores: (N, K), a label each column; probabilities where all lie in 0..1. class_ids: (N,) the true ones."""

    labels: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    scores: NDArray[np.float64]
    class_ids: NDArray[Any]
    unit: str = "examples"
    traits: tuple[Trait, ...] = field(default=())

    def __post_init__(self) -> None:
        """Raises DataError for shapes, ids or scores that do not fit."""
        check_scores(self.scores, self.class_ids, self.labels)

    def metric(self) -> Metric:
        return measure_classes(self.scores, self.class_ids, self.labels, self.groups)

    def value(self, picks: Picks) -> float:
        return float(self._right[picks].mean()) if len(picks) else float("nan")

    def right(self) -> NDArray[np.bool_]:
        return self._right

    def slices(self) -> list[Slice]:
        parts = group_slices(self.groups, self.value, unit=self.unit)
        # silence is quiet and easy: it would hide how quiet speakers fare, and how words do
        among = self.class_ids != (self.labels.index("silence") if "silence" in self.labels else -1)
        if among.any() and not among.all():
            picks = np.flatnonzero(among)
            parts.append(Slice("without", "silence", picks, len(picks), self.unit, self.value))
        parts += trait_slices(self.traits, self.value, unit=self.unit, among=among)
        for k, label in enumerate(self.labels):
            picks = np.flatnonzero(self.class_ids == k)
            if len(picks):
                parts.append(Slice("label", label, picks, len(picks), self.unit, self.value))
        return parts

    def details(self) -> dict[str, Any]:
        made = self.table
        calibration = self.calibration()
        by_class = {
            label: {
                "precision": json_number(made.precision[k]),
                "recall": json_number(made.recall[k]),
                "f1": json_number(made.f1[k]),
                "n": int(made.counts[k].sum()),
            }
            for k, label in enumerate(self.labels)
        }
        return {
            "averages": {name: round(value, 4) for name, value in made.averages().items()},
            "classes": by_class,
            "confusion": {"labels": list(self.labels), "counts": made.counts.tolist()},
            "calibration": calibration.to_json() if calibration is not None else None,
        }

    def wanted(self, class_id: int) -> int:
        return int((self.class_ids == class_id).sum())

    def said(self, class_id: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The examples on which the label is the highest, as a device says only the highest."""
        said = self.scores.argmax(axis=1) == class_id
        return self.scores[said, class_id], self.class_ids[said] == class_id

    def calibration(self) -> Calibration | None:
        if self.scores.min() < -1e-6 or self.scores.max() > 1 + 1e-6:
            return None
        return measure_calibration(np.clip(self.scores.max(axis=1), 0, 1), self._right)

    def predictions(self) -> Iterator[dict[str, Any]]:
        for name, row, truth in zip(self.names, self.scores, self.class_ids, strict=True):
            said = int(row.argmax())
            yield {
                "file": name,
                "label": self.labels[int(truth)],
                "said": self.labels[said],
                "score": round(float(row[said]), 6),
                "scores": {
                    label: round(float(score), 6) for label, score in zip(self.labels, row, strict=True)
                },
            }

    def mistakes(self) -> list[Mistake]:
        """What was said most firmly beside the truth, first."""
        said = self.scores.argmax(axis=1)
        found = []
        for index in np.flatnonzero(~self._right):
            truth = int(self.class_ids[index])
            wrong, right = self.scores[index, said[index]], self.scores[index, truth]
            text = (
                f"{self.labels[truth]} ({right:.2f}) taken for {self.labels[int(said[index])]} ({wrong:.2f})"
            )
            found.append(Mistake(int(index), text, float(wrong - right)))
        return sorted(found, key=lambda mistake: -mistake.weight)

    def confusion(self) -> tuple[Sequence[str], NDArray[np.int64]]:
        return self.labels, self.table.counts

    @cached_property
    def table(self) -> Confusion:
        return count_confusion(self.scores.argmax(axis=1), self.class_ids, self.labels)

    @cached_property
    def _right(self) -> NDArray[np.bool_]:
        return np.asarray(self.scores.argmax(axis=1) == self.class_ids)
