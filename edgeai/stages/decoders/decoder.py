"""The interface of every box decoder, and the checks that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import StageError
from edgeai.stages.letterbox import Placement
from edgeai.types import Array, Detections


class BoxDecoder(ABC):
    """Turns a detector's outputs into boxes on the frame. Pure: one decoder may serve several threads.

    labels: the names that `Detections.class_ids` count through.
    """

    labels: tuple[str, ...]

    @abstractmethod
    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Detections:
        """Boxes in source pixels, clipped to the frame, best score first; values that are not finite give none.

        outputs: real values (dequantised) by the engine's names. Raises StageError where an output is missing or
        has another shape than the parameters promise.
        """


def take_output(outputs: Mapping[str, Array], name: str, *, decoder: str) -> NDArray[np.float32]:
    """The output called `name` as float32, or StageError naming those that are there."""
    if name not in outputs:
        raise StageError(
            f"decoder {decoder!r} needs the output {name!r}, the model gives {', '.join(outputs) or 'none'}"
        )
    return np.asarray(outputs[name], np.float32)


def class_map(
    keep_classes: tuple[int, ...] | None, labels: tuple[str, ...], *, decoder: str
) -> NDArray[np.int32] | None:
    """The model's class numbers, the one at i meaning labels[i]; None where the two are the same.

    Raises StageError unless there is one label for each class kept.
    """
    if not labels:
        raise StageError(
            f"decoder {decoder!r} needs at least one label", next_step="list them in the manifest"
        )
    if keep_classes is None:
        return None
    if len(keep_classes) != len(labels):
        raise StageError(
            f"decoder {decoder!r} keeps {len(keep_classes)} classes, the bundle has {len(labels)} labels",
            next_step="give one label for each of keep_classes, in its order",
        )
    if len(set(keep_classes)) != len(keep_classes) or min(keep_classes) < 0:
        raise StageError(
            f"keep_classes of decoder {decoder!r} must be different numbers from 0, got {keep_classes}"
        )
    return np.asarray(keep_classes, np.int32)


def on_frame(
    xyxy: NDArray[np.float32], scores: NDArray[np.float32], class_ids: NDArray[np.int32], placement: Placement
) -> Detections:
    """Boxes in model pixels as Detections in source pixels; those wholly in the padding are left out."""
    boxes = placement.to_source(xyxy)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if inside.all():
        return Detections(boxes, scores, class_ids)
    return Detections(boxes[inside], scores[inside], class_ids[inside])
