"""Pictures with boxes: average precision, and what stands behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet
from compress.measure.calibration import Calibration, measure_calibration
from compress.measure.detection import measure_matches, truth_of
from compress.measure.matches import ALL_SIZES, COCO_IOUS, COCO_SIZES, Matches, Truth, match_boxes
from compress.measure.metric import Metric, Picks
from compress.measure.scored import NOTHING, Mistake, Scored, json_number
from compress.measure.slices import Slice, band_slices, group_slices, third_slices
from edgeai.bundle.manifest import ImageInput
from edgeai.stages.boxes import iou_matrix
from edgeai.stages.letterbox import place
from edgeai.types import Detections

# sides of a square of the box's area, in pixels of the model's picture; a grid detector's finest cell is often 8
MODEL_SIDES: Mapping[str, tuple[float, float]] = {
    "below 16 px": (0.0, 16.0**2),
    "16 to 32 px": (16.0**2, 32.0**2),
    "32 to 64 px": (32.0**2, 64.0**2),
    "64 px and up": (64.0**2, 1e10),
}
_COUNTS = (("1", 1, 2), ("2 to 4", 2, 5), ("5 to 9", 5, 10), ("10 and more", 10, np.inf))


# the device's own where a decoder does not say
DEFAULT_THRESHOLD = 0.3


@dataclass(frozen=True)
class ScoredPictures(Scored):
    """found: of each picture of `data`, in its pixels, faint boxes too. luma: (N,) mean brightness, 0..255.

    iou: from which overlap on a box is found. threshold: the score from which on the device tells a box. spec: how pictures
    become the model's.
    """

    data: DetectionSet
    found: Sequence[Detections]
    luma: NDArray[Any]
    spec: ImageInput
    threshold: float
    iou: float = 0.5
    unit: str = "pictures"

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.data.labels

    @cached_property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(picture.path.name for picture in self.data.pictures)

    @cached_property
    def groups(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(picture.group or picture.path.name for picture in self.data.pictures)

    def metric(self) -> Metric:
        return measure_matches(self.matches, groups=self.groups)

    def value(self, picks: Picks) -> float:
        return self.matches.average(picks)

    def slices(self) -> list[Slice]:
        everything = np.arange(len(self))
        parts = group_slices(self.groups, self.value, unit=self.unit)
        tables = {"size in the picture": self._coco_sizes, "size in the model": self._model_sizes}
        for kind, sizes in tables.items():
            parts += [
                Slice(kind, name, everything, matches.wanted(), "boxes", matches.average)
                for name, matches in sizes.items()
                if matches.wanted()
            ]
        parts += third_slices(
            "light",
            self.luma,
            ("dark", "middle", "bright"),
            self.value,
            unit=self.unit,
            value_unit="of 255",
        )
        counts = np.array([len(picture.class_ids) for picture in self.data.pictures])
        parts += band_slices("objects", counts, _COUNTS, self.value, unit=self.unit)
        if len(self.labels) > 1:
            parts += [
                Slice(
                    "label",
                    label,
                    everything,
                    self.matches.wanted(k),
                    "boxes",
                    partial(self.matches.average, class_id=k),
                )
                for k, label in enumerate(self.labels)
                if self.matches.wanted(k)
            ]
        return parts

    def details(self) -> dict[str, Any]:
        every = match_boxes(
            self._truth,
            self.found,
            classes=len(self.labels),
            ious=COCO_IOUS,
            sizes={**ALL_SIZES, **COCO_SIZES},
        )
        tens = every["all"]
        by_class: dict[str, dict[str, Any]] = {}
        sums = np.zeros(3, np.int64)
        for k, label in enumerate(self.labels):
            right, false, missed = counts = self.matches.counts(k, self.threshold)
            sums += counts
            by_class[label] = {
                "AP": json_number(self.matches.average(class_id=k)),
                "AP50:95": json_number(tens.average(class_id=k)),
                **_rates(right, false, missed),
                "n": right + missed,
            }
        calibration = self.calibration()
        present = [row for row in by_class.values() if row["n"]]
        return {
            "AP50": json_number(_at(tens, 0.5)),
            "AP75": json_number(_at(tens, 0.75)),
            "AP50:95": json_number(tens.average()),
            **{f"AP50:95 {name}": json_number(every[name].average()) for name in COCO_SIZES},
            "at_threshold": {
                "threshold": self.threshold,
                **_rates(*(int(v) for v in sums)),
                "macro_f1": json_number(float(np.mean([row["f1"] for row in present]))) if present else None,
            },
            "classes": by_class,
            "confusion": {
                "labels": [*self.labels, NOTHING],
                "counts": self.confusion()[1].tolist(),
            },
            "calibration": calibration.to_json() if calibration is not None else None,
        }

    def wanted(self, class_id: int) -> int:
        return self.matches.wanted(class_id)

    def said(self, class_id: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The boxes that count, faint ones too; those on crowds do not."""
        one = self.matches.classes[class_id]
        counts = one.hits[0] | one.misses[0]
        return one.scores[counts], one.hits[0][counts]

    def calibration(self) -> Calibration | None:
        said = [self.said(k) for k in range(len(self.labels))]
        scores = np.concatenate([scores for scores, _ in said])
        return (
            measure_calibration(scores, np.concatenate([right for _, right in said])) if len(scores) else None
        )

    def predictions(self) -> Iterator[dict[str, Any]]:
        for picture, boxes in zip(self.data.pictures, self.found, strict=True):
            yield {
                "file": picture.path.name,
                "wanted": [
                    {"label": self.labels[int(k)], "xyxy_px": _rounded(box)}
                    for box, k in zip(picture.xyxy_px, picture.class_ids, strict=True)
                ],
                "found": [
                    {"label": self.labels[int(k)], "score": round(float(score), 4), "xyxy_px": _rounded(box)}
                    for box, score, k in zip(boxes.xyxy_px, boxes.scores, boxes.class_ids, strict=True)
                ],
            }

    def confusion(self) -> tuple[Sequence[str], NDArray[np.int64]]:
        """With a last row and column for nothing: boxes where there is none, and objects that have none.

        Boxes of at least the device's score, the best first, each take the free object that they overlap most, of any class.
        """
        return (*self.labels, NOTHING), self._confusion

    @cached_property
    def matches(self) -> Matches:
        return match_boxes(self._truth, self.found, classes=len(self.labels), ious=(self.iou,))["all"]

    @cached_property
    def _truth(self) -> list[Truth]:
        return truth_of(self.data)

    @cached_property
    def _coco_sizes(self) -> dict[str, Matches]:
        return match_boxes(
            self._truth, self.found, classes=len(self.labels), ious=(self.iou,), sizes=COCO_SIZES
        )

    @cached_property
    def _model_sizes(self) -> dict[str, Matches]:
        """Everything in pixels of the model's picture, so that areas are; overlaps stay what they are."""
        truth: list[Truth] = []
        found: list[Detections] = []
        for (xyxy, ids, crowd, width, height), boxes in zip(self._truth, self.found, strict=True):
            to_model = place(width, height, self.spec).to_model
            truth.append((to_model(xyxy), ids, to_model(crowd), width, height))
            found.append(Detections(to_model(boxes.xyxy_px), boxes.scores, boxes.class_ids))
        return match_boxes(truth, found, classes=len(self.labels), ious=(self.iou,), sizes=MODEL_SIDES)

    @cached_property
    def _confusion(self) -> NDArray[np.int64]:
        nothing = len(self.labels)
        counts = np.zeros((nothing + 1, nothing + 1), np.int64)
        for number in range(len(self)):
            for truth, said in self._told(number):
                counts[truth, said] += 1
        return counts

    def mistakes(self) -> list[Mistake]:
        """Pictures with the most boxes missed, false or of another class at the device's threshold, first."""
        nothing = len(self.labels)
        found = []
        for number in range(len(self)):
            told = self._told(number)
            missed = sum(truth < nothing and said == nothing for truth, said in told)
            false = sum(truth == nothing for truth, _ in told)
            swapped = sum(truth != said and nothing not in (truth, said) for truth, said in told)
            if missed + false + swapped:
                parts = ((missed, "missed"), (false, "false"), (swapped, "of another class"))
                text = ", ".join(f"{count} {what}" for count, what in parts if count)
                wanted = len(self.data.pictures[number].class_ids)
                found.append(Mistake(number, f"{text}, of {wanted}", missed + false + swapped))
        return sorted(found, key=lambda mistake: -mistake.weight)

    def _told(self, number: int) -> list[tuple[int, int]]:
        """(what it is, what was said) of each object and each box of a picture; len(labels) for nothing."""
        picture, boxes, nothing = self.data.pictures[number], self.found[number], len(self.labels)
        told = boxes.select(np.flatnonzero(boxes.scores >= self.threshold))
        free = np.ones(len(picture.class_ids), bool)
        overlaps = iou_matrix(told.xyxy_px, picture.xyxy_px)
        pairs = []
        for row in np.argsort(-told.scores, kind="stable"):
            said = int(told.class_ids[row])
            fits = free & (overlaps[row] >= self.iou)
            if fits.any():
                # its own class first: two objects on top of each other are no mistake
                own = fits & (picture.class_ids == said)
                best = int(np.argmax(np.where(own if own.any() else fits, overlaps[row], -1.0)))
                free[best] = False
                pairs.append((int(picture.class_ids[best]), said))
            elif not _on_crowd(told.xyxy_px[row], picture.crowd_px, self.iou):
                pairs.append((nothing, said))
        return pairs + [(int(k), nothing) for k in picture.class_ids[free]]


def _at(matches: Matches, iou: float) -> float:
    row = int(np.argmin(np.abs(np.array(matches.ious) - iou)))
    curves = [c for k in range(len(matches.classes)) if (c := matches.precision(k)) is not None]
    return float(np.mean([curve[row].mean() for curve in curves])) if curves else float("nan")


def _rates(right: int, false: int, missed: int) -> dict[str, float]:
    return {
        "precision": round(right / max(1, right + false), 4),
        "recall": round(right / max(1, right + missed), 4),
        "f1": round(2 * right / max(1, 2 * right + false + missed), 4),
    }


def _on_crowd(box: NDArray[Any], crowds: NDArray[Any], iou: float) -> bool:
    """COCO's overlap with a crowd: the part of the box that lies on it."""
    left, top = np.maximum(box[:2], crowds[:, :2]).T
    right, bottom = np.minimum(box[2:], crowds[:, 2:]).T
    inside = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
    area = max(1e-9, float((box[2] - box[0]) * (box[3] - box[1])))
    return bool((inside / area >= iou).any())


def _rounded(box: NDArray[Any]) -> list[float]:
    return [round(float(v), 1) for v in box]
