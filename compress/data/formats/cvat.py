"""CVAT for images 1.1: one XML file of a task or project, beside a folder of its pictures.

CVAT's other exports are COCO, Pascal VOC and YOLO; those have modules of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.data.detection import DetectionSet
from compress.data.formats.places import PictureFinder, choose_split, folder_files, picture_size, plain_split
from compress.data.formats.records import PictureRecords, choose_labels
from compress.data.formats.xml_file import escape, quoteattr, read_xml, starts_with_element
from edgeai.errors import DataError, DataMissingError
from edgeai.whole_file import write_whole

MAX_XML_BYTES = 2 << 30
MAX_FILES = 100  # more are another tool's, a file a picture
_META_LABELS = {f"annotations/meta/{kind}/labels/label/name" for kind in ("task", "project", "job")}


def cvat_files(folder: Path) -> list[Path]:
    """The XML files of a folder that begin with <annotations>."""
    return [
        path
        for path in folder_files(folder, [".xml"])[:MAX_FILES]
        if starts_with_element(path, "annotations")
    ]


def cvat_splits(folder: Path) -> tuple[str, ...]:
    """The subsets that the images are of, and annotations_<split>.xml; empty where there is neither.

    Images of no subset beside those of one are "default", as CVAT calls them.
    """
    found: dict[str, None] = {}
    for path in cvat_files(folder):

        def start(tags: Sequence[str], attributes: Mapping[str, str], path: Path = path) -> None:
            if tags[-1] == "image" and len(tags) == 2:
                found.setdefault(_split_of(path, attributes))

        read_xml(path, root="annotations", max_bytes=MAX_XML_BYTES, on_start=start)
    return () if list(found) in ([], [""]) else tuple(name or "default" for name in found)


def load_cvat(folder: Path, split: str, labels: Sequence[str] | None) -> DetectionSet:
    """Read a split, which CVAT calls a subset. Polygons, polylines and ellipses count as the box around them.

    No labels: those of the task or project, else every name, by the alphabet. In a project's export the task is the
    group. Sizes that are not given are read from the pictures. Raises DataMissingError, DataError.
    """
    files = cvat_files(folder)
    if not files:
        raise DataMissingError(
            f"no XML of CVAT for images in {folder}", next_step="export as CVAT for images 1.1"
        )
    chosen = choose_split(cvat_splits(folder), split, folder)
    declared: dict[str, None] = {}
    seen: set[str] = set()
    records = PictureRecords(folder)
    for path in files:
        reader = _Reader(path, folder, chosen, records)
        try:
            read_xml(
                path, root="annotations", max_bytes=MAX_XML_BYTES, on_start=reader.start, on_end=reader.end
            )
        except KeyError as error:
            raise DataError(f"{path}: an element without {error.args[0]!r}") from None
        except (ValueError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: {str(error)[:120]}") from error
        declared.update(dict.fromkeys(reader.labels))
        seen |= reader.seen
    known = [*declared, *sorted(seen - set(declared))]
    return records.finish(choose_labels(labels, known, folder))


def write_cvat(folder: Path, split: str, data: DetectionSet, names: Sequence[str]) -> list[Path]:
    """Write annotations_<split>.xml; pictures are in images/ under `names`. Crowd regions, scores and groups have no place."""
    return [write_whole(folder / f"annotations_{split}.xml", images_text(data, names, subset=split))]


def images_text(data: DetectionSet, names: Sequence[str], *, subset: str = "", source: str = "manual") -> str:
    """The XML that CVAT imports. source: manual, or auto for boxes that a model found."""
    labels = "".join(
        f"<label><name>{escape(label)}</name><type>rectangle</type><attributes></attributes></label>\n"
        for label in data.labels
    )
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n',
        f"<meta><task><labels>\n{labels}</labels></task></meta>\n",
    ]
    of = f" subset={quoteattr(subset)}" if subset else ""
    for number, (picture, name) in enumerate(zip(data.pictures, names, strict=True)):
        size = f'width="{picture.width}" height="{picture.height}"'
        lines.append(f'<image id="{number}" name={quoteattr(name)}{of} {size}>\n')
        for class_id, (x1, y1, x2, y2) in zip(
            picture.class_ids.tolist(), picture.xyxy_px.tolist(), strict=True
        ):
            lines.append(
                f'<box label={quoteattr(data.labels[class_id])} source="{source}" occluded="0" '
                f'xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}" z_order="0"></box>\n'
            )
        lines.append("</image>\n")
    return "".join([*lines, "</annotations>\n"])


class _Reader:
    """Takes images of one split and their shapes as the XML streams by."""

    def __init__(self, path: Path, folder: Path, split: str, records: PictureRecords) -> None:
        self.labels: list[str] = []
        self.seen: set[str] = set()
        self._path = path
        self._split = split
        self._records = records
        self._tasks = False
        self._picture: int | None = None
        places = [folder / "images" / split, folder / "images", folder / split, folder]
        self._finder = PictureFinder(path, places)

    def start(self, tags: Sequence[str], attributes: Mapping[str, str]) -> None:
        if len(tags) == 2 and tags[1] == "track":
            raise DataError(f"{self._path} is of CVAT for video", next_step="export as CVAT for images 1.1")
        if len(tags) == 2 and tags[1] == "image":
            self._picture = None
            if self._split in ("all", _split_of(self._path, attributes) or "default"):
                self._picture = self._add_image(attributes)
        elif len(tags) == 3 and tags[1] == "image" and (box := _box_px(tags[2], attributes)) is not None:
            self.seen.add(attributes["label"])
            if self._picture is not None:
                self._records.add_box(self._picture, attributes["label"], box)

    def end(self, tags: Sequence[str], text: str) -> None:
        place = "/".join(tags)
        if place in _META_LABELS:
            self.labels.append(text)
        elif place == "annotations/meta/project/tasks/task/id":
            self._tasks = True

    def _add_image(self, attributes: Mapping[str, str]) -> int:
        path = self._finder.find(attributes["name"])
        width, height = int(attributes.get("width") or 0), int(attributes.get("height") or 0)
        if width == 0 or height == 0:
            width, height = picture_size(path)
        task = attributes.get("task_id", "")
        return self._records.add_picture(path, width, height, f"task {task}" if self._tasks and task else "")


def _split_of(path: Path, attributes: Mapping[str, str]) -> str:
    """An image's subset, else what stands behind annotations_ in the file's name, else ""."""
    subset = attributes.get("subset", "")
    if subset and plain_split(subset) != "default":
        return subset
    return path.stem.removeprefix("annotations").lstrip("_-") if path.stem.startswith("annotations_") else ""


def _box_px(shape: str, attributes: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """(x1, y1, x2, y2) around a shape, boxes and ellipses turned clockwise about their centre; None for what has no box."""
    turn = math.radians(float(attributes.get("rotation", 0)))
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    if shape == "box":
        x1, y1, x2, y2 = (float(attributes[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        if turn:
            cx, cy, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
            half_w, half_h = (w * cos + h * sin) / 2, (w * sin + h * cos) / 2
            return cx - half_w, cy - half_h, cx + half_w, cy + half_h
        return x1, y1, x2, y2
    if shape in ("polygon", "polyline"):
        points = [[float(v) for v in point.split(",")] for point in attributes["points"].split(";")]
        if any(len(point) != 2 for point in points):
            raise DataError(f"a {shape}'s points are no pairs: {attributes['points'][:60]}")
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)
    if shape == "ellipse":
        cx, cy, rx, ry = (float(attributes[key]) for key in ("cx", "cy", "rx", "ry"))
        half_w, half_h = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
        return cx - half_w, cy - half_h, cx + half_w, cy + half_h
    return None
