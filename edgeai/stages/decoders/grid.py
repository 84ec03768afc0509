"""Anchor-free grid heads: one box a cell on each of several strides (YOLOX, arXiv:2107.08430)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.stages.boxes import nms
from edgeai.stages.decoders.decoder import BoxDecoder, class_map, on_frame, take_output
from edgeai.stages.letterbox import Placement
from edgeai.stages.params import read_params
from edgeai.types import Array, Detections

MAX_CANDIDATES = 1000
# e ** 8 = 2981 cells a side is more than any picture has: a wilder value is a broken cell, not a wide box
_MAX_LOG_SIDE = 8.0


class MapNames(Settings):
    """The output names of the maps layout, one a stride; `object` may be empty (no objectness)."""

    box: tuple[str, ...]
    object: tuple[str, ...] = ()
    class_: Annotated[tuple[str, ...], Field(alias="class")]

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class GridParams(Settings):
    """Parameters of the decoder "grid".

    width, height: the model's picture. layout "flat": one output (1, cells, 5 + C) of cx, cy, w, h, objectness and
    classes, strides one after the other, rows first; `output` names it (the only one where empty). layout "maps":
    per stride NHWC outputs (1, h, w, 4), (1, h, w, 1) and (1, h, w, C) named in `maps`.
    activation: "sigmoid" where objectness and classes are logits, "none" where the model did it.
    keep_classes: the model's class numbers that the labels stand for, in the labels' order; all where absent.
    """

    width: Annotated[int, Field(ge=8, le=8192)]
    height: Annotated[int, Field(ge=8, le=8192)]
    strides: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1)] = (8, 16, 32)
    layout: Literal["flat", "maps"] = "flat"
    output: str = ""
    maps: MapNames | None = None
    activation: Literal["sigmoid", "none"] = "none"
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.3
    nms_iou: Annotated[float, Field(ge=0, le=1)] = 0.5
    agnostic: bool = False
    max_detections: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 100
    keep_classes: Annotated[tuple[int, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _maps_fit(self) -> GridParams:
        if (self.layout == "maps") != (self.maps is not None):
            raise ValueError('maps must be given with layout "maps", and only with it')
        if self.maps is not None:
            for name, outputs in (
                ("box", self.maps.box),
                ("class", self.maps.class_),
                ("object", self.maps.object),
            ):
                if len(outputs) != len(self.strides) and not (name == "object" and not outputs):
                    raise ValueError(
                        f"maps.{name} must name one output for each of the {len(self.strides)} strides"
                    )
        return self


@dataclass(frozen=True, slots=True)
class _Head:
    """Views of one head's cells: box (n, 4), objectness (n,) or None, classes (n, C); raw as the model gave them."""

    box: NDArray[np.float32]
    objectness: NDArray[np.float32] | None
    classes: NDArray[np.float32]
    cells: NDArray[np.float32]


_Part: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float32], NDArray[np.float32]
]
"""Some cells' boxes, objectness, classes and places, as in _Head."""

_NO_BOXES = np.empty((0, 4), np.float32)
_NO_SCORES = np.empty(0, np.float32)
_NO_IDS = np.empty(0, np.int32)


class GridDecoder(BoxDecoder):
    """centre = (xy + cell) * stride, side = exp(wh) * stride, score = objectness * best class.

    Cells are sorted out by their raw scores before any box is computed, so the cost follows the number of
    candidates; the best 1,000 of them go to NMS.
    """

    def __init__(self, params: Mapping[str, Any], labels: tuple[str, ...]) -> None:
        self.params = read_params(GridParams, params, decoder="grid")
        self.labels = labels
        self._keep = class_map(self.params.keep_classes, labels, decoder="grid")
        self._cells = [
            _cells(self.params.width, self.params.height, stride) for stride in self.params.strides
        ]
        self._all_cells = np.concatenate(self._cells)
        self._raw_threshold = self._to_raw(self.params.score_threshold)

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Detections:
        # broken models give inf and nan: they are sorted out by value, not by warning
        with np.errstate(invalid="ignore", over="ignore"):
            xyxy, scores, class_ids = self._candidates(self._heads(outputs))
        if not len(scores):
            return Detections.empty()
        if len(scores) > MAX_CANDIDATES:
            best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
            xyxy, scores, class_ids = xyxy[best], scores[best], class_ids[best]
        keep = nms(
            xyxy,
            scores,
            class_ids,
            iou_threshold=self.params.nms_iou,
            agnostic=self.params.agnostic or len(self.labels) == 1,
            limit=self.params.max_detections,
        )
        return on_frame(xyxy[keep], scores[keep], class_ids[keep], placement)

    def _heads(self, outputs: Mapping[str, Array]) -> list[_Head]:
        if self.params.maps is None:
            return [self._flat_head(outputs)]
        maps, heads = self.params.maps, []
        for index, cells in enumerate(self._cells):
            box = self._map(outputs, maps.box[index], index, 4)
            objectness = self._map(outputs, maps.object[index], index, 1)[:, 0] if maps.object else None
            classes = self._map(outputs, maps.class_[index], index, None)
            heads.append(_Head(box, objectness, self._kept(classes, maps.class_[index]), cells))
        return heads

    def _flat_head(self, outputs: Mapping[str, Array]) -> _Head:
        if not self.params.output and len(outputs) != 1:
            raise StageError(
                f"the model gives {len(outputs)} outputs ({', '.join(outputs)}), the flat grid decoder reads one",
                next_step="name it in the decoder's parameter 'output'",
            )
        name = self.params.output or next(iter(outputs))
        array = take_output(outputs, name, decoder="grid")
        cells = len(self._all_cells)
        if array.ndim != 3 or array.shape[:2] != (1, cells) or array.shape[2] < 6:
            raise StageError(
                f"output {name!r} must be (1, {cells}, 5 + classes) for {self.params.width} x {self.params.height} "
                f"and strides {self.params.strides}, got {array.shape}"
            )
        return _Head(array[0, :, :4], array[0, :, 4], self._kept(array[0, :, 5:], name), self._all_cells)

    def _map(
        self, outputs: Mapping[str, Array], name: str, index: int, channels: int | None
    ) -> NDArray[np.float32]:
        """An NHWC map as (cells, channels)."""
        array = take_output(outputs, name, decoder="grid")
        stride = self.params.strides[index]
        rows, columns = -(-self.params.height // stride), -(-self.params.width // stride)
        fits = array.ndim == 4 and array.shape[:3] == (1, rows, columns) and array.shape[3] > 0
        if not fits or (channels is not None and array.shape[3] != channels):
            wanted = "classes" if channels is None else channels
            raise StageError(
                f"output {name!r} must be (1, {rows}, {columns}, {wanted}) at stride {stride}, got {array.shape}"
            )
        return array.reshape(rows * columns, -1)

    def _kept(self, classes: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        count = classes.shape[1]
        if self._keep is None:
            if count != len(self.labels):
                raise StageError(
                    f"output {name!r} has {count} classes, the bundle has {len(self.labels)} labels",
                    next_step="list every label, or say in the decoder's keep_classes which classes they are",
                )
        elif self._keep.max() >= count:
            raise StageError(
                f"keep_classes asks for class {self._keep.max()}, output {name!r} has {count} classes"
            )
        return classes

    def _candidates(
        self, heads: Sequence[_Head]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Boxes (K, 4) in model pixels, scores (K,) and label numbers (K,) of the cells above the threshold.

        The few cells that may be above it are gathered from all heads first: each step is then one call, not one a head.
        """
        parts = [part for head in heads if (part := self._likely(head)) is not None]
        if not parts:
            return _NO_BOXES, _NO_SCORES, _NO_IDS
        box, objectness, classes, cells = parts[0] if len(parts) == 1 else _joined(parts)
        if classes.shape[1] == 1:
            class_ids, raw = np.zeros(len(classes), np.intp), classes[:, 0]
        else:
            class_ids = classes.argmax(axis=1)
            raw = classes[np.arange(len(classes)), class_ids]
        near = np.flatnonzero((raw >= self._raw_threshold) & np.isfinite(raw))
        scores = self._to_score(raw[near])
        if objectness is not None:
            scores = scores * self._to_score(objectness[near])
        xyxy = _boxes(box[near], cells[near])
        sound = (scores >= self.params.score_threshold) & np.isfinite(scores) & np.isfinite(xyxy).all(axis=1)
        scores = np.minimum(scores[sound], np.float32(1.0))
        return xyxy[sound], scores, class_ids[near[sound]].astype(np.int32)

    def _likely(self, head: _Head) -> _Part | None:
        """Those cells of a head whose objectness alone lets them be above the threshold; None where there are none."""
        if head.objectness is None:
            return head.box, None, self._columns(head.classes), head.cells
        # a product of two scores of at most 1 is below either of them
        rows = np.flatnonzero(head.objectness >= self._raw_threshold)
        if not len(rows):
            return None
        return head.box[rows], head.objectness[rows], self._columns(head.classes[rows]), head.cells[rows]

    def _columns(self, classes: NDArray[np.float32]) -> NDArray[np.float32]:
        return classes if self._keep is None else classes[:, self._keep]

    def _to_raw(self, score: float) -> float:
        if self.params.activation == "none":
            return score
        return math.log(score / (1.0 - score)) if score > 0.0 else -math.inf

    def _to_score(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.params.activation == "none":
            return raw
        return np.asarray(1.0 / (1.0 + np.exp(-raw)), np.float32)


def _joined(parts: Sequence[_Part]) -> _Part:
    boxes, objectness, classes, cells = zip(*parts, strict=True)
    joined = [each for each in objectness if each is not None]
    return (
        np.concatenate(boxes),
        np.concatenate(joined) if joined else None,
        np.concatenate(classes),
        np.concatenate(cells),
    )


def _cells(width: int, height: int, stride: int) -> NDArray[np.float32]:
    """(cells, 3) float32: column, row and stride of every cell, rows first."""
    columns, rows = np.meshgrid(np.arange(-(-width // stride)), np.arange(-(-height // stride)))
    return np.stack([columns.ravel(), rows.ravel(), np.full(columns.size, stride)], axis=1).astype(np.float32)


def _boxes(raw: NDArray[np.float32], cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """x1 y1 x2 y2 (K, 4) in model pixels."""
    stride = cells[:, 2:]
    centre = (raw[:, :2] + cells[:, :2]) * stride
    half = np.exp(np.minimum(raw[:, 2:], np.float32(_MAX_LOG_SIDE))) * (stride * np.float32(0.5))
    return np.concatenate([centre - half, centre + half], axis=1)
