"""COCO JSON: `instances_<split>.json` beside `images/`, in and out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.detection import DetectionSet, LabelledPicture
from edgeai.errors import DataError, DataMissingError

MAX_JSON_BYTES = 512 << 20


def load_coco(folder: Path, split: str, labels: Sequence[str]) -> DetectionSet:
    """Read `instances_<split>.json` beside `images/`; boxes of other categories than `labels` are left out.

    Raises DataMissingError where the file or a picture is absent, DataError where it is no COCO JSON.
    """
    path = folder / f"instances_{split}.json"
    coco = _read_json(path)
    try:
        names = {int(c["id"]): str(c["name"]) for c in coco["categories"]}
        missing = [label for label in labels if label not in names.values()]
        if missing:
            raise DataError(
                f"{path} has no category {missing[0]!r}; it has {', '.join(sorted(names.values())[:12])}"
            )
        boxes: dict[int, list[dict[str, Any]]] = {}
        for annotation in coco["annotations"]:
            boxes.setdefault(int(annotation["image_id"]), []).append(annotation)
        pictures = [
            _labelled(folder, image, boxes.get(int(image["id"]), []), names, labels)
            for image in coco["images"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no COCO JSON: {type(error).__name__}: {error}") from error
    if not pictures:
        raise DataError(f"{path} lists no pictures")
    absent = next((p.path for p in pictures if not p.path.is_file()), None)
    if absent is not None:
        raise DataMissingError(f"{path} lists {absent.name}, which is not in {absent.parent}")
    return DetectionSet(tuple(labels), tuple(pictures))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = sorted(p.name for p in path.parent.glob("instances_*.json")) if path.parent.is_dir() else []
        raise DataMissingError(f"no {path}" + (f"; there is {', '.join(found)}" if found else ""))
    if path.stat().st_size > MAX_JSON_BYTES:
        raise DataError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is no COCO JSON: the top level must be an object")
    return content


def _labelled(
    folder: Path,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    names: dict[int, str],
    labels: Sequence[str],
) -> LabelledPicture:
    kept: list[tuple[list[float], int, float]] = []
    crowds: list[list[float]] = []
    for annotation in annotations:
        name = names[int(annotation["category_id"])]
        x, y, w, h = (float(v) for v in annotation["bbox"])
        if not np.isfinite((x, y, w, h)).all():
            raise DataError(
                f"annotation {annotation.get('id')} has a box that is not finite: {annotation['bbox']}"
            )
        if name not in labels or w <= 0 or h <= 0:
            continue
        if annotation.get("iscrowd"):
            crowds.append([x, y, x + w, y + h])
        else:
            kept.append(([x, y, x + w, y + h], labels.index(name), float(annotation.get("score", 1.0))))
    width, height = int(image["width"]), int(image["height"])
    if width < 1 or height < 1:
        raise DataError(f"picture {image['file_name']!r} is said to be {width} x {height}")
    return LabelledPicture(
        folder / "images" / str(image["file_name"]),
        width,
        height,
        np.array([k[0] for k in kept], np.float32).reshape(-1, 4),
        np.array([k[1] for k in kept], np.int32),
        np.array([k[2] for k in kept], np.float32),
        np.array(crowds, np.float32).reshape(-1, 4),
    )


def write_coco(folder: Path, split: str, labelled: DetectionSet) -> Path:
    """Write `instances_<split>.json` for pictures that are in `folder`/images; scores go along as "score"."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(labelled.pictures, 1):
        images.append(
            {"id": number, "file_name": picture.path.name, "width": picture.width, "height": picture.height}
        )
        for box, class_id, score in zip(picture.xyxy_px, picture.class_ids, picture.scores, strict=True):
            x1, y1, x2, y2 = (round(float(v), 2) for v in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(class_id) + 1,
                    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                    "score": round(float(score), 4),
                }
            )
    categories = [{"id": i, "name": label} for i, label in enumerate(labelled.labels, 1)]
    path = folder / f"instances_{split}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path
