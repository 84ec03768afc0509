"""COCO JSON, in and out: `instances_<split>.json` beside `images/`, and the places where other tools put the two."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.data.detection import DetectionSet
from compress.data.formats.json_file import read_items
from compress.data.formats.places import PictureFinder, choose_split
from compress.data.formats.records import PictureRecords, choose_labels, group_of
from edgeai.errors import DataError, DataMissingError
from edgeai.whole_file import write_whole

# of the same pictures, but no boxes of things
_OTHER_KINDS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")
_KEYS = ("images", "annotations", "categories")


def coco_files(folder: Path) -> dict[str, Path]:
    """The label file of each split that a folder has; a lone file without a split's name is "all".

    `instances_<split>.json` is looked for in the folder and in annotations/, then annotations/<split>.json,
    <split>/_annotations.coco.json (Roboflow), and result.json, annotations.json, instances_default.json (Label Studio, CVAT).
    """
    found: dict[str, Path] = {}
    annotations = folder / "annotations"
    for path in sorted(folder.glob("instances_*.json")) + sorted(annotations.glob("instances_*.json")):
        found.setdefault(path.stem.removeprefix("instances_"), path)
    if not found:
        others = [p for p in sorted(annotations.glob("*.json")) if not p.name.startswith(_OTHER_KINDS)]
        found = {path.stem: path for path in others}
    if not found:
        found = {path.parent.name: path for path in sorted(folder.glob("*/_annotations.coco.json"))}
    if not found:
        names = ("result.json", "annotations.json", "instances.json", "_annotations.coco.json", "labels.json")
        lone = [folder / name for name in names if (folder / name).is_file()]
        found = {"all": lone[0]} if lone else {}
    found = {split: path for split, path in found.items() if _is_object(path)}
    if list(found) == ["default"]:
        return {"all": found["default"]}
    return found


def coco_splits(folder: Path) -> tuple[str, ...]:
    found = tuple(coco_files(folder))
    return () if found == ("all",) else found


def load_coco(folder: Path, split: str, labels: Sequence[str] | None) -> DetectionSet:
    """Read a split; boxes of other categories than `labels` are left out. No labels: every category, in the file's order.

    An annotation's "score" is its score; an image's "group", or "site", "day" and "video", is its group. Streams: needs
    about 1.5 kB a picture, however long the file. Raises DataMissingError where the file or a picture is absent,
    DataError where it is no COCO JSON.
    """
    path = _file_of(folder, split)
    numbers: dict[int, int] = {}
    categories: dict[int, str] = {}
    boxes = _Boxes()
    records = PictureRecords(path)
    images = folder / "images"
    own = path.stem.removeprefix("instances_")  # train2017, where train is asked for
    parts = [
        images,
        images / own,
        images / split,
        folder / own,
        folder / split,
        path.parent,
        folder,
        folder / "data",
    ]
    finder = PictureFinder(path, parts)
    seen = set()
    try:
        for key, item in read_items(path, _KEYS):
            seen.add(key)
            if key == "annotations":
                boxes.add(item)
            elif key == "categories":
                categories[int(item["id"])] = str(item["name"])
            else:
                width, height = int(item["width"]), int(item["height"])
                found = finder.find(str(item["file_name"]))
                numbers[int(item["id"])] = records.add_picture(found, width, height, group_of(item))
        if "images" not in seen:
            raise DataError(f"{path} lists no pictures")
        boxes.give(records, numbers, categories)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no COCO JSON: {_describe(error)}") from error
    return records.finish(choose_labels(labels, list(dict.fromkeys(categories.values())), path))


def write_coco(
    folder: Path,
    split: str,
    labelled: DetectionSet,
    names: Sequence[str] | None = None,
    *,
    file: Path | None = None,
) -> Path:
    """Write `instances_<split>.json`, or `file`, for pictures that are in `folder`/images.

    names: what each picture is called there; where not given, its path below images/, or its file name. Scores below 1
    go along as "score", groups as "group"; a crowd region, which is of no class, as iscrowd of the first category.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def annotate(box: Sequence[float], class_id: int, **more: object) -> None:
        x1, y1, x2, y2 = (round(float(v), 2) for v in box)
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": class_id + 1,
                "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                "area": round((x2 - x1) * (y2 - y1), 2),
                **more,
            }
        )

    for number, picture in enumerate(labelled.pictures):
        name = names[number] if names else _name_below(picture.path, folder / "images")
        size = {"width": picture.width, "height": picture.height}
        group = {"group": picture.group} if picture.group else {}
        images.append({"id": number + 1, "file_name": name, **size, **group})
        for box, class_id, score in zip(picture.xyxy_px, picture.class_ids, picture.scores, strict=True):
            annotate(box, int(class_id), iscrowd=0, score=round(float(score), 4))
        for box in picture.crowd_px:
            annotate(box, 0, iscrowd=1)
    categories = [{"id": i, "name": label} for i, label in enumerate(labelled.labels, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return write_whole(file or folder / f"instances_{split}.json", json.dumps(content))


def write_coco_set(folder: Path, split: str, data: DetectionSet, names: Sequence[str]) -> list[Path]:
    """As write_coco, for DETECTION_FORMATS."""
    return [write_coco(folder, split, data, names)]


class _Boxes:
    """Annotations as numbers, until images and categories, which may come later in the file, are known."""

    def __init__(self) -> None:
        self._ids = array("q")
        self._xywh_score = array("d")
        self._crowd = array("b")

    def add(self, annotation: dict[str, Any]) -> None:
        box = annotation["bbox"]
        x, y, w, h = (float(v) for v in box)
        score = annotation.get("score", 1.0)
        self._ids.extend((int(annotation["image_id"]), int(annotation["category_id"])))
        self._xywh_score.extend((x, y, w, h, 1.0 if score is None else float(score)))
        self._crowd.append(bool(annotation.get("iscrowd")))

    def give(self, records: PictureRecords, images: dict[int, int], categories: dict[int, str]) -> None:
        for i, crowd in enumerate(self._crowd):
            image, category = self._ids[2 * i : 2 * i + 2]
            x, y, w, h, score = self._xywh_score[5 * i : 5 * i + 5]
            if category not in categories:
                raise DataError(f"an annotation is of category {category}, which is not among the categories")
            if image in images:
                box = (x, y, x + w, y + h)
                records.add_box(images[image], categories[category], box, score=score, crowd=bool(crowd))


def _file_of(folder: Path, split: str) -> Path:
    files = coco_files(folder)
    if set(files) == {"all"} and split in ("all", "train"):
        return files["all"]
    if (folder / f"instances_{split}.json").is_file():  # whatever is in it: reading tells
        return folder / f"instances_{split}.json"
    try:
        return files[choose_split(tuple(files), split, folder)]
    except (DataMissingError, KeyError):
        found = sorted(path.name for path in files.values())
        there = f"; there is {', '.join(found[:12])}" if found else ""
        raise DataMissingError(f"no {folder / f'instances_{split}.json'}{there}") from None


def _is_object(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    except OSError:
        return False


def _name_below(path: Path, images: Path) -> str:
    return path.relative_to(images).as_posix() if path.is_relative_to(images) else path.name


def _describe(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"an entry has no {str(error.args[0])[:40]!r}"
    return f"{type(error).__name__}: {' '.join(str(error)[:120].split())}"
