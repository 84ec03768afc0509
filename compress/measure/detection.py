"""Average precision of detections, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, read_picture
from compress.measure.metric import Metric, bootstrap_ci95
from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.errors import DataError
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import letterbox
from edgeai.types import Detections

# AP integrates over all recalls, so faint boxes count too; a device's own threshold would cut its curve short
EVAL_SCORE_THRESHOLD = 0.01
MAX_DETECTIONS = 100


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


def measure_detector(detect: BundleDetector, data: DetectionSet, *, interval: bool = True) -> Metric:
    """AP at IoU 0.5 over the labelled pictures, crowd regions ignored."""
    found = []
    with progress_bar("AP50", len(data)) as advance:
        for picture in data.pictures:
            found.append(detect(read_picture(picture.path)))
            advance(1)
    truth = [(p.xyxy_px, p.class_ids, p.crowd_px, p.width, p.height) for p in data.pictures]
    return average_precision(truth, found, labels=data.labels, interval=interval)


def average_precision(
    truth: Iterable[tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], int, int]],
    found: Sequence[Detections],
    *,
    labels: Sequence[str],
    iou: float = 0.5,
    interval: bool = True,
) -> Metric:
    """AP at one IoU, mean over the classes that occur. truth: (xyxy_px, class_ids, crowd_px, width, height) a picture.

    At most 100 detections a picture count. Raises DataError where there are no boxes to find.
    """
    evaluation, n = _evaluate(list(truth), found, labels, iou)
    order = {"all": np.arange(n)}

    def score(indices: NDArray[np.intp]) -> float:
        return _accumulate(evaluation, indices)

    value = score(order["all"])
    if np.isnan(value):
        raise DataError("there are no labelled boxes to measure average precision against")
    ci95 = bootstrap_ci95(n, score, rounds=200) if interval else (value, value)
    return Metric(f"AP{round(100 * iou)}", value, ci95, n)


def _evaluate(
    truth: list[Any], found: Sequence[Detections], labels: Sequence[str], iou: float
) -> tuple[Any, int]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, ((xyxy, class_ids, crowds, width, height), boxes) in enumerate(
        zip(truth, found, strict=True), 1
    ):
        images.append({"id": number, "width": width, "height": height})
        for box, class_id in zip(xyxy, class_ids, strict=True):
            annotations.append(_annotation(len(annotations) + 1, number, int(class_id), box, crowd=0))
        for box in crowds:
            annotations.extend(
                _annotation(len(annotations) + 1 + k, number, k, box, crowd=1) for k in range(len(labels))
            )
        best = np.argsort(-boxes.scores, kind="stable")[:MAX_DETECTIONS]
        for box, score, class_id in zip(
            boxes.xyxy_px[best], boxes.scores[best], boxes.class_ids[best], strict=True
        ):
            results.append(
                {
                    "image_id": number,
                    "category_id": int(class_id) + 1,
                    "bbox": _xywh(box),
                    "score": float(score),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": i, "name": name} for i, name in enumerate(labels, 1)]
        coco.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        coco.createIndex()
        detections = coco.loadRes(results) if results else COCO()
        evaluation = COCOeval(coco, detections, "bbox")
        evaluation.params.iouThrs = np.array([iou])
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        if results:
            evaluation.evaluate()
    return (evaluation if results else None), len(images)


def _accumulate(evaluation: Any, indices: NDArray[np.intp]) -> float:
    """AP of the pictures `indices`, repeats counted: the per-picture matches are made once and put together anew."""
    if evaluation is None:
        return 0.0
    from copy import copy

    resampled = copy(evaluation)
    resampled.params = copy(evaluation.params)
    resampled._paramsEval = copy(evaluation._paramsEval)
    count = len(evaluation._paramsEval.imgIds)
    classes = len(evaluation._paramsEval.catIds)
    matches = evaluation.evalImgs
    resampled.evalImgs = [matches[k * count + i] for k in range(classes) for i in indices]
    resampled.params.imgIds = resampled._paramsEval.imgIds = list(range(len(indices)))
    with contextlib.redirect_stdout(io.StringIO()):
        resampled.accumulate()
    precision = resampled.eval["precision"][0, :, :, 0, 0]
    seen = [precision[:, k].mean() for k in range(classes) if precision[0, k] > -1]
    return float(np.mean(seen)) if seen else float("nan")


def _annotation(
    number: int, image: int, class_id: int, box: NDArray[np.float32], *, crowd: int
) -> dict[str, Any]:
    xywh = _xywh(box)
    return {
        "id": number,
        "image_id": image,
        "category_id": class_id + 1,
        "bbox": xywh,
        "area": xywh[2] * xywh[3],
        "iscrowd": crowd,
    }


def _xywh(box: NDArray[np.float32]) -> list[float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]
