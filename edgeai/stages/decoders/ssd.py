"""Detectors with NMS inside: the four outputs of TensorFlow Lite's TFLite_Detection_PostProcess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.stages.decoders.decoder import BoxDecoder, class_map, on_frame, take_output
from edgeai.stages.letterbox import Placement
from edgeai.stages.params import read_params
from edgeai.types import Array, Detections


class SsdParams(Settings):
    """Parameters of the decoder "ssd".

    width, height: the model's picture, whose fractions the boxes are. boxes (1, N, 4) y1 x1 y2 x2, classes (1, N),
    scores (1, N) and count (1,) are output names; the defaults are those of the TensorFlow object detection API
    (tensorflow/lite/kernels/detection_postprocess.cc); an empty count means all N.
    class_offset: added to the model's class numbers to give the number of the label.
    keep_classes: numbers (after class_offset) that the labels stand for, in the labels' order; all where absent.
    """

    width: Annotated[int, Field(ge=8, le=8192)]
    height: Annotated[int, Field(ge=8, le=8192)]
    boxes: str = "TFLite_Detection_PostProcess"
    classes: str = "TFLite_Detection_PostProcess:1"
    scores: str = "TFLite_Detection_PostProcess:2"
    count: str = "TFLite_Detection_PostProcess:3"
    class_offset: Annotated[int, Field(ge=-1000, le=1000)] = 0
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.3
    max_detections: Annotated[int, Field(ge=1, le=1000)] = 100
    keep_classes: Annotated[tuple[int, ...], Field(min_length=1)] | None = None


class SsdDecoder(BoxDecoder):
    """Takes what the model's own NMS left; a class that has no label is dropped."""

    def __init__(self, params: Mapping[str, Any], labels: tuple[str, ...]) -> None:
        self.params = read_params(SsdParams, params, decoder="ssd")
        self.labels = labels
        self._keep = class_map(self.params.keep_classes, labels, decoder="ssd")

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Detections:
        names = (self.params.boxes, self.params.classes, self.params.scores)
        boxes, classes, scores = (take_output(outputs, name, decoder="ssd") for name in names)
        if boxes.ndim != 3 or boxes.shape[0] != 1 or boxes.shape[2] != 4:
            raise StageError(f"output {names[0]!r} must be (1, N, 4), got {boxes.shape}")
        for name, array in zip(names[1:], (classes, scores), strict=True):
            if array.shape != boxes.shape[:2]:
                raise StageError(
                    f"output {name!r} must be {boxes.shape[:2]} like the boxes, got {array.shape}"
                )
        n = self._count(outputs, boxes.shape[1])
        yxyx, scores, classes = boxes[0, :n], scores[0, :n], classes[0, :n]

        sound = (scores >= self.params.score_threshold) & np.isfinite(scores) & np.isfinite(yxyx).all(axis=1)
        # a float far outside the integers would become any integer at all
        sound &= np.isfinite(classes) & (np.abs(classes) < 1e6)
        rows = np.flatnonzero(sound)
        class_ids = np.rint(classes[rows]).astype(np.int32) + np.int32(self.params.class_offset)
        if self._keep is not None:
            matches = class_ids[:, None] == self._keep[None, :]
            class_ids = np.where(matches.any(axis=1), matches.argmax(axis=1), -1).astype(np.int32)
        known = (class_ids >= 0) & (class_ids < len(self.labels))
        rows, class_ids = rows[known], class_ids[known]
        order = np.argsort(-scores[rows], kind="stable")[: self.params.max_detections]
        rows, class_ids = rows[order], class_ids[order]
        sides = np.array((self.params.width, self.params.height) * 2, np.float32)
        with np.errstate(over="ignore"):
            xyxy = yxyx[rows][:, (1, 0, 3, 2)] * sides
        return on_frame(xyxy, np.minimum(scores[rows], np.float32(1.0)), class_ids, placement)

    def _count(self, outputs: Mapping[str, Array], most: int) -> int:
        if not self.params.count:
            return most
        count = take_output(outputs, self.params.count, decoder="ssd")
        if count.size != 1:
            raise StageError(f"output {self.params.count!r} must hold one number, got shape {count.shape}")
        value = float(count.ravel()[0])
        return int(min(max(value, 0.0), most)) if np.isfinite(value) else 0
