"""Label Studio's JSON: a list of tasks with rectangles in percent, beside a folder of their pictures.

A person's annotations hold; a task that has none is taken with its predictions and their scores; one with neither was not
looked at yet, and is left out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from compress.data.detection import DetectionSet, LabelledPicture
from compress.data.formats.json_file import read_items
from compress.data.formats.places import PictureFinder, choose_split, folder_files, is_picture, picture_size
from compress.data.formats.records import PictureRecords, check_declared, choose_labels, group_of
from compress.data.formats.xml_file import quoteattr, read_xml
from edgeai.console import print_note
from edgeai.errors import DataError, DataMissingError
from edgeai.whole_file import write_whole

MAX_CONFIG_BYTES = 1 << 20
MAX_FILES = 100  # more are another tool's, a file a picture
CONFIG_NAME = "label_config.xml"
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_SHAPES = ("rectanglelabels", "polygonlabels", "ellipselabels")


def label_studio_files(folder: Path) -> dict[str, Path]:
    """tasks_<split>.json by split; else the one JSON file that is a list of tasks, as "all"."""
    files = [path for path in folder_files(folder, [".json"])[:MAX_FILES] if _is_task_list(path)]
    by_split = {path.stem.removeprefix("tasks_"): path for path in files if path.stem.startswith("tasks_")}
    if by_split:
        return by_split
    return {"all": files[0]} if len(files) == 1 else {path.stem: path for path in files}


def label_studio_splits(folder: Path) -> tuple[str, ...]:
    found = tuple(label_studio_files(folder))
    return () if found == ("all",) else found


def load_label_studio(folder: Path, split: str, labels: Sequence[str] | None) -> DetectionSet:
    """Read a split. Polygons and ellipses count as the box around them, as a turned rectangle does.

    A picture is looked for below the folder by the end of its URL, with and without the eight hexadecimal digits that an
    upload puts before its name. No labels: those of label_config.xml, else every name in the file, by the alphabet.
    data.group, or data.site, .day and .video, is the group. Raises DataMissingError, DataError.
    """
    files = label_studio_files(folder)
    splits = label_studio_splits(folder)
    if not files:
        raise DataMissingError(f"no JSON list of Label Studio tasks in {folder}", next_step="export as JSON")
    path = files[choose_split(splits, split, folder)]
    records = PictureRecords(path)
    places = [folder / "images", folder, *(p for p in sorted(folder.glob("*")) if p.is_dir())]
    find = _TaskPictures(path, places)
    unlabelled = 0
    for number, (_, task) in enumerate(read_items(path)):
        try:
            unlabelled += not _add_task(task, records, find)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            said = " ".join(str(error)[:120].split())
            raise DataError(f"{path}, task {number + 1}: {type(error).__name__}: {said}") from error
    if unlabelled:
        print_note(f"{path.name}: {unlabelled} tasks have no annotation yet and are left out")
    known = _config_labels(folder)
    if known is None:
        known = records.names()
        if len(files) > 1:
            known = sorted(
                {*known, *(name for other in files.values() if other != path for name in _names_in(other))}
            )
    elif labels is None:
        check_declared(known, records.names(), folder / CONFIG_NAME)
    return records.finish(choose_labels(labels, known, path))


def write_label_studio(folder: Path, split: str, data: DetectionSet, names: Sequence[str]) -> list[Path]:
    """Write tasks_<split>.json and label_config.xml; pictures are in images/ under `names`.

    The URLs are those of local files, with the folder as Label Studio's document root. Boxes all of score 1 are annotations, others predictions. Crowd regions have no place.
    """
    urls = [f"/data/local-files/?d={quote(f'images/{name}')}" for name in names]
    text = tasks_text(data, urls)
    return [
        write_whole(folder / f"tasks_{split}.json", text),
        write_whole(folder / CONFIG_NAME, label_config(data.labels)),
    ]


def tasks_text(data: DetectionSet, urls: Sequence[str], *, model: str = "") -> str:
    """The JSON of tasks that Label Studio imports. model: all boxes are predictions, of this version."""
    tasks = []
    for number, (picture, url) in enumerate(zip(data.pictures, urls, strict=True), 1):
        results = list(_results(picture, data.labels))
        said: dict[str, Any] = {"data": {"image": url, **({"group": picture.group} if picture.group else {})}}
        if model or any(score < 1 for score in picture.scores.tolist()):
            mean = float(picture.scores.mean()) if len(picture.scores) else 0.0
            said["predictions"] = [
                {"model_version": model or "edgeai", "score": round(mean, 4), "result": results}
            ]
        else:
            said["annotations"] = [{"result": results}]
        tasks.append({"id": number, **said})
    return json.dumps(tasks)


def label_config(labels: Sequence[str]) -> str:
    """The labelling interface that the tasks' rectangles belong to (Settings, Labeling Interface, Code)."""
    values = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
        f"{values}  </RectangleLabels>\n</View>\n"
    )


def _results(picture: LabelledPicture, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, (box, class_id, score) in enumerate(
        zip(picture.xyxy_px.tolist(), picture.class_ids.tolist(), picture.scores.tolist(), strict=True)
    ):
        x1, y1, x2, y2 = (
            100 * value / size for value, size in zip(box, (picture.width, picture.height) * 2, strict=True)
        )
        value = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
        yield {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": picture.width,
            "original_height": picture.height,
            "image_rotation": 0,
            "score": round(score, 4),
            "value": {**{k: round(v, 5) for k, v in value.items()}, "rectanglelabels": [labels[class_id]]},
        }


class _TaskPictures:
    """Finds a task's picture, also where an upload changed its name."""

    def __init__(self, where: Path, folders: Sequence[Path]) -> None:
        self._where = where
        self._folders = folders
        self._finder = PictureFinder(where, folders)
        self._renamed: dict[str, str] | None = None

    def __call__(self, data: dict[str, Any]) -> Path:
        url = data.get("image")
        if not isinstance(url, str):
            texts = (value for value in data.values() if isinstance(value, str))
            url = next((text for text in texts if is_picture(Path(text.split("?d=")[-1]))), None)
        if url is None:
            raise DataError(f"{self._where}: a task's data names no picture: {str(data)[:80]}")
        try:
            parts = urlsplit(url)
            name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
        except ValueError:
            raise DataError(f"{self._where}: {url[:80]!r} is no URL of a picture") from None
        return self._finder.find(name, also=self._other_name)

    def _other_name(self, name: str) -> str | None:
        """The name without what an upload puts before it; spaces are underscores there, and odd signs are dropped."""
        plain = _UPLOAD_PREFIX.sub("", name)
        if self._renamed is None:
            paths = [path for folder in self._folders if folder.is_dir() for path in sorted(folder.iterdir())]
            self._renamed = {_as_uploaded(path.name): path.name for path in reversed(paths)}
        found = self._renamed.get(_as_uploaded(plain))
        return found if found != name else None


def _as_uploaded(name: str) -> str:
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _add_task(task: Any, records: PictureRecords, find: _TaskPictures) -> bool:
    """Whether the task was labelled."""
    if "data" not in task and "image" in task:
        raise DataError("this is Label Studio's JSON-MIN", next_step="export as JSON")
    results = _chosen_results(task)
    if results is None:
        return False
    path = find(task["data"])
    width, height = picture_size(path)
    number = records.add_picture(path, width, height, group_of(task["data"]))
    for result in results:
        value = result.get("value")
        shape = next((s for s in _SHAPES if value.get(s)), None) if isinstance(value, dict) else None
        if shape is None or value is None:  # a choice, a relation, a brush
            continue
        score = result.get("score")
        box = _box_px(value, shape, width, height)
        records.add_box(number, str(value[shape][0]), box, score=1.0 if score is None else float(score))
    return True


def _chosen_results(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The last annotation that was not cancelled, else the last prediction; None where there is neither."""
    said = [a for a in task.get("annotations") or () if not a.get("was_cancelled")]
    if said:
        results = [{**result, "score": None} for result in said[-1]["result"]]
    elif task.get("predictions"):
        results = list(task["predictions"][-1]["result"])
    else:
        return None
    return results


def _box_px(value: dict[str, Any], shape: str, width: int, height: int) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2). Percent of the picture; rectangles and ellipses turn clockwise, a rectangle about its first corner."""
    across, down = width / 100, height / 100
    if shape == "polygonlabels":
        xs = [float(x) * across for x, _ in value["points"]]
        ys = [float(y) * down for _, y in value["points"]]
        return min(xs), min(ys), max(xs), max(ys)
    x, y = float(value["x"]) * across, float(value["y"]) * down
    turn = math.radians(float(value.get("rotation") or 0))
    cos, sin = math.cos(turn), math.sin(turn)
    if shape == "ellipselabels":
        rx, ry = float(value["radiusX"]) * across, float(value["radiusY"]) * down
        half_w, half_h = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
        return x - half_w, y - half_h, x + half_w, y + half_h
    w, h = float(value["width"]) * across, float(value["height"]) * down
    xs = [x, x + w * cos, x - h * sin, x + w * cos - h * sin]
    ys = [y, y + w * sin, y + h * cos, y + w * sin + h * cos]
    return min(xs), min(ys), max(xs), max(ys)


def _names_in(path: Path) -> set[str]:
    names: set[str] = set()
    for _, task in read_items(path):
        try:
            for result in _chosen_results(task) or ():
                value = result.get("value") or {}
                names.update(str(value[shape][0]) for shape in _SHAPES if value.get(shape))
        except (KeyError, TypeError, AttributeError, IndexError):
            raise DataError(f"{path} is no list of Label Studio tasks") from None
    return names


def _config_labels(folder: Path) -> list[str] | None:
    path = folder / CONFIG_NAME
    if not path.is_file():
        return None
    names: list[str] = []

    def start(tags: Sequence[str], attributes: Any) -> None:
        if tags[-1] == "Label" and "value" in attributes:
            names.append(attributes["value"])

    read_xml(path, root="View", max_bytes=MAX_CONFIG_BYTES, on_start=start)
    return list(dict.fromkeys(names)) or None


def _is_task_list(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False
