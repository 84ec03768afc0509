"""A bundle's detector on labelled pictures, and average precision of what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, read_picture
from compress.measure.brightness import mean_luma
from compress.measure.matches import MAX_DETECTIONS, Matches, Truth, match_boxes
from compress.measure.metric import Metric, group_numbers, interval95
from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.errors import DataError
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import letterbox
from edgeai.types import Detections

__all__ = [
    "EVAL_SCORE_THRESHOLD",
    "MAX_DETECTIONS",
    "BundleDetector",
    "average_precision",
    "find_boxes",
    "measure_matches",
    "truth_of",
]

# AP integrates over all recalls, so faint boxes count too; a device's own threshold would cut its curve short
EVAL_SCORE_THRESHOLD = 0.01
BOOTSTRAP_ROUNDS = 200


class BundleDetector:
    """engine, letterbox and decoder of a bundle as one call on a frame."""

    def __init__(
        self,
        engine: EdgeEngine,
        spec: ImageInput,
        decoder: Decoder,
        labels: Sequence[str],
        *,
        score_threshold: float | None = None,
    ) -> None:
        if score_threshold is not None:
            decoder = decoder.model_copy(
                update={"params": {**decoder.params, "score_threshold": score_threshold}}
            )
        self._engine = engine
        self._spec = spec
        self._decoder = open_decoder(decoder, labels=labels)
        self._name = engine.inputs[0].name

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Boxes on an (H, W, 3) uint8 BGR picture, in its pixels."""
        picture, placement = letterbox(image, self._spec)
        return self._decoder.decode(self._engine.run({self._name: picture}), placement)


def find_boxes(detect: BundleDetector, data: DetectionSet) -> tuple[list[Detections], NDArray[np.float32]]:
    """What `detect` finds on each picture, in the pixels that its labels count, and each picture's mean luma (N,) 0..255.

    Raises DataError for a file that is no picture.
    """
    found: list[Detections] = []
    luma = np.zeros(len(data), np.float32)
    with progress_bar("pictures", len(data)) as advance:
        for number, picture in enumerate(data.pictures):
            image = read_picture(picture.path)
            boxes = detect(image)
            height, width = image.shape[:2]
            if (width, height) != (picture.width, picture.height):
                # the labels were drawn on a copy of another size
                to_listed = np.array([picture.width / width, picture.height / height] * 2, np.float32)
                boxes = replace(boxes, xyxy_px=boxes.xyxy_px * to_listed)
            found.append(boxes)
            luma[number] = mean_luma(image)
            advance(1)
    return found, luma


def truth_of(data: DetectionSet) -> list[Truth]:
    return [(p.xyxy_px, p.class_ids, p.crowd_px, p.width, p.height) for p in data.pictures]


def average_precision(
    truth: Iterable[Truth],
    found: Sequence[Detections],
    *,
    labels: Sequence[str],
    iou: float = 0.5,
    interval: bool = True,
    groups: Sequence[str] | None = None,
) -> Metric:
    """AP at one IoU, mean over the classes that occur. truth: (xyxy_px, class_ids, crowd_px, width, height) a picture.

    At most 100 detections a picture count. groups: (N,) names of what belongs together, for the interval. Raises DataError
    where there are no boxes to find.
    """
    matches = match_boxes(truth, found, classes=len(labels), ious=(iou,))["all"]
    return measure_matches(matches, interval=interval, groups=groups)


def measure_matches(
    matches: Matches, *, interval: bool = True, groups: Sequence[str] | None = None
) -> Metric:
    """average_precision of boxes that are matched already."""
    value = matches.average()
    if np.isnan(value):
        raise DataError("there are no labelled boxes to measure average precision against")
    n = matches.pictures
    ci95 = (value, value)
    if interval:
        ci95 = interval95(n, matches.average, groups=group_numbers(groups), rounds=BOOTSTRAP_ROUNDS)
    return Metric(f"AP{round(100 * matches.ious[0])}", value, ci95, n)
