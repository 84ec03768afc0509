"""A teacher as a black box: any bundle, ONNX or TFLite file that finds boxes; and the labels it gives."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, LabelledPicture, found_picture, read_picture
from compress.data.formats.coco import write_coco
from compress.measure.detection import BundleDetector
from compress.recipe import Teacher
from edgeai.bundle import load_bundle
from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine, open_engine, open_model_file
from edgeai.errors import DataMissingError, EdgeError, EngineError, RecipeError
from edgeai.stages.boxes import nms
from edgeai.types import Detections

MERGE_IOU = 0.6


class TeacherDetector:
    """Opens the teacher of a recipe; a call gives its boxes on a frame, of the recipe's labels.

    Raises DataMissingError where its file is absent, EngineError where it cannot be run, RecipeError where its labels,
    its input or its outputs are not what the recipe says: it is tried on a grey picture at once.
    """

    def __init__(self, teacher: Teacher, labels: Sequence[str], *, data_root: Path, threads: int = 2) -> None:
        self._teacher = teacher
        self.engine, self.path, spec, decoder = _open(teacher, labels, data_root, threads)
        try:
            self._detect = BundleDetector(
                self.engine, spec, decoder, labels, score_threshold=teacher.min_score
            )
            self._detect(np.full((spec.height, spec.width, 3), spec.pad, np.uint8))
        except EdgeError as error:
            self.close()
            raise RecipeError(f"teacher {self.path.name}: {error}") from error

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """Boxes of at least `min_score`, seen plain and, with `flip`, mirrored, merged by NMS."""
        plain = self._detect(image)
        if not self._teacher.flip:
            return plain
        mirrored = self._detect(np.ascontiguousarray(image[:, ::-1]))
        boxes = mirrored.xyxy_px.copy()
        width = image.shape[1]
        boxes[:, 0], boxes[:, 2] = width - mirrored.xyxy_px[:, 2], width - mirrored.xyxy_px[:, 0]
        both = Detections(
            np.concatenate([plain.xyxy_px, boxes]),
            np.concatenate([plain.scores, mirrored.scores]),
            np.concatenate([plain.class_ids, mirrored.class_ids]),
        )
        return both.select(nms(both.xyxy_px, both.scores, both.class_ids, iou_threshold=MERGE_IOU))

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> TeacherDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def _open(
    teacher: Teacher, labels: Sequence[str], data_root: Path, threads: int
) -> tuple[EdgeEngine, Path, ImageInput, Decoder]:
    if teacher.bundle is not None:
        bundle = load_bundle(teacher.bundle)
        manifest = bundle.manifest
        if tuple(manifest.labels) != tuple(labels) or not isinstance(manifest.input, ImageInput):
            raise RecipeError(
                f"teacher {teacher.bundle} finds {', '.join(manifest.labels)}, the recipe wants {', '.join(labels)}"
            )
        engine = open_engine(bundle, threads=threads)
        path = bundle.path(engine.file) if engine.file else bundle.folder
        return engine, path, manifest.input, manifest.decoder
    if teacher.input is None or teacher.decoder is None:
        raise RecipeError("a teacher file needs its input and decoder")
    path = data_root / str(teacher.file)
    if not path.is_file():
        raise DataMissingError(f"no teacher at {path}", next_step="name another in the recipe's [teacher]")
    model = open_model_file(path, threads=threads)
    try:
        return EdgeEngine(model, teacher.input), path, teacher.input, teacher.decoder
    except EngineError as error:
        model.close()
        raise RecipeError(f"teacher {path.name}: {error}") from error


def label_pictures(
    paths: Sequence[Path],
    folder: Path,
    *,
    teacher: TeacherDetector,
    labels: Sequence[str],
    split: str = "train",
) -> DetectionSet:
    """Let the teacher label pictures that are in `folder`/images; kept there as COCO JSON with scores."""
    labelled: list[LabelledPicture] = []
    with progress_bar("teacher labels", len(paths)) as advance:
        for path in paths:
            image = read_picture(path)
            labelled.append(found_picture(path, image, teacher(image)))
            advance(1)
    made = DetectionSet(tuple(labels), tuple(labelled))
    write_coco(folder, split, made)
    return made


def soften(labelled: DetectionSet, *, floor: float, full: float) -> DetectionSet:
    """A teacher's scores as training targets: `full` and above count as certain, `floor` as half; between, linear.

    Raises RecipeError unless 0 <= floor < full <= 1.
    """
    if not 0 <= floor < full <= 1:
        raise RecipeError(
            f"teacher scores from {floor} to {full}: the faintest must be below what counts as certain",
            next_step="lower the teacher's min_score",
        )
    pictures = []
    for picture in labelled.pictures:
        certain = np.clip((picture.scores - floor) / (full - floor), 0, 1)
        pictures.append(replace(picture, scores=(0.5 + 0.5 * certain).astype(np.float32)))
    return replace(labelled, pictures=tuple(pictures))
