"""YOLO text files: a line `class cx cy w h` a box, in fractions of the picture, in `labels/` as pictures are in `images/`.

Read as Ultralytics (data.yaml), Roboflow (<split>/images), CVAT and Darknet (obj.names, obj_<split>_data) and Label Studio
(classes.txt) lay them out; written as Ultralytics reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.detection import DetectionSet
from compress.data.formats.places import (
    PICTURE_SUFFIXES,
    PictureFinder,
    choose_split,
    folder_pictures,
    is_picture,
    long_bar,
    picture_size,
    plain_split,
)
from compress.data.formats.records import PictureRecords, choose_labels
from edgeai.errors import DataError, DataMissingError
from edgeai.whole_file import write_whole

MAX_TEXT_BYTES = 4 << 20
MAX_YAML_BYTES = 1 << 20
MAX_LIST_BYTES = 256 << 20
MAX_CLASSES = 10_000
MAX_FRACTION = 2.0  # a box may reach over the picture's edge; what is larger is in pixels
_YAML_NAMES = ("data.yaml", "dataset.yaml", "data.yml")
_OTHER_KEYS = ("names", "nc", "path", "download", "kpt_shape", "flip_idx", "channels")
_SPLIT_KEYS = ("train", "val", "valid", "test")


def yolo_splits(folder: Path) -> tuple[str, ...]:
    """train, val and test of data.yaml that are there; else the folders images/<split>, <split>/images, obj_<split>_data."""
    return tuple(_places(folder))


def is_yolo(folder: Path) -> bool:
    """Whether there are class names, or a labels folder with text files in it."""
    if any((folder / name).is_file() for name in (*_YAML_NAMES, "classes.txt", "obj.names")):
        return True
    return any(any(folder.glob(place)) for place in ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt"))


def load_yolo(folder: Path, split: str, labels: Sequence[str] | None) -> DetectionSet:
    """Read a split; a picture without a text file, or with an empty one, has no boxes.

    A sixth number is a score; a longer line is a polygon, taken as the box around it. Picture sizes come from the
    pictures' headers. Raises DataMissingError, DataError.
    """
    names = _class_names(folder)
    chosen = choose_labels(labels, names, folder)
    places = _places(folder)
    split = choose_split(tuple(places), split, folder)
    pictures = _pictures_in(folder, places[split] if places else _unsplit(folder))
    if not pictures:
        raise DataMissingError(f"no pictures of the split {split!r} in {folder}")
    records = PictureRecords(folder)
    with long_bar(f"labels of {folder.name}", len(pictures), least=3000) as advance:
        for picture in pictures:
            width, height = picture_size(picture)
            number = records.add_picture(picture, width, height)
            text = _label_file(picture, folder)
            for name, box, score in _read_boxes(text, names):
                records.add_box(number, name, np.multiply(box, (width, height) * 2).tolist(), score=score)
            advance(1)
    return records.finish(chosen)


def write_yolo(folder: Path, split: str, data: DetectionSet, names: Sequence[str]) -> list[Path]:
    """Write labels/<split>/*.txt and data.yaml; pictures are in images/<split>/ under `names`.

    A data.yaml that is there is added to. Crowd regions, scores and groups have no place. Raises DataError where it
    is of other classes.
    """
    import yaml

    path = folder / "data.yaml"
    content = _read_yaml(path) if path.is_file() else {}
    if content and _names_of(content, path) != list(data.labels):
        raise DataError(
            f"{path} is of other classes than {', '.join(data.labels[:12])}",
            next_step="choose another folder",
        )
    content = {**content, _key(split): f"images/{split}", "names": dict(enumerate(data.labels))}
    texts = folder / "labels" / split
    texts.mkdir(parents=True, exist_ok=True)
    for picture, name in zip(data.pictures, names, strict=True):
        size = np.array((picture.width, picture.height), np.float64)
        low, high = picture.xyxy_px[:, :2] / size, picture.xyxy_px[:, 2:] / size
        lines = [
            f"{class_id} {cx:.7g} {cy:.7g} {w:.7g} {h:.7g}\n"
            for class_id, (cx, cy), (w, h) in zip(
                picture.class_ids.tolist(), ((low + high) / 2).tolist(), (high - low).tolist(), strict=True
            )
        ]
        write_whole(texts / f"{Path(name).stem}.txt", "".join(lines))
    return [texts, write_whole(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))]


def _key(split: str) -> str:
    if split in _OTHER_KEYS:
        raise DataError(f"a split cannot be called {split!r}: data.yaml has another use for that word")
    return "val" if plain_split(split) == "val" else split


def _read_boxes(text: Path | None, names: Sequence[str]) -> list[tuple[str, tuple[float, ...], float]]:
    """(name, xyxy_unit, score) of each line."""
    if text is None:
        return []
    boxes: list[tuple[str, tuple[float, ...], float]] = []
    for number, line in enumerate(_read_text(text, MAX_TEXT_BYTES).splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            class_id, *values = (float(cell) for cell in cells)
            name = names[_index(class_id, len(names))]
        except ValueError as error:
            raise DataError(f"{text}, line {number}: {str(error)[:80]}") from None
        if len(values) < 4 or (len(values) > 5 and len(values) % 2):
            raise DataError(f"{text}, line {number}: {len(cells)} numbers; `class cx cy w h` is expected")
        if not all(abs(value) <= MAX_FRACTION for value in values):
            raise DataError(f"{text}, line {number}: numbers must be fractions of the picture, from 0 to 1")
        if len(values) <= 5:
            cx, cy, w, h, *score = values
            boxes.append((name, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), score[0] if score else 1.0))
        else:
            xs, ys = values[::2], values[1::2]
            boxes.append((name, (min(xs), min(ys), max(xs), max(ys)), 1.0))
    return boxes


def _index(class_id: float, count: int) -> int:
    if not (0 <= class_id < count and class_id == int(class_id)):
        raise ValueError(f"class {class_id:g} is not among the {count} of the folder")
    return int(class_id)


def _label_file(picture: Path, folder: Path) -> Path | None:
    """labels/ for the last images/ below the folder, as Ultralytics looks for it, else the text file beside the picture."""
    parts = list(picture.parts)
    for at in range(len(parts) - 2, len(folder.parts) - 1, -1):
        if parts[at].lower() == "images":
            path = Path(*parts[:at], "labels", *parts[at + 1 : -1], f"{picture.stem}.txt")
            if path.is_file():
                return path
            break
    path = picture.with_suffix(".txt")
    return path if path.is_file() else None


def _places(folder: Path) -> dict[str, list[Path]]:
    """Where each split's pictures are: folders, or text files that list them."""
    for name in _YAML_NAMES:
        if (folder / name).is_file():
            content = _read_yaml(folder / name)
            found = {key: _resolve(folder, content, key) for key in content if _is_split(content, key)}
            if any(found.values()):
                return {key: places for key, places in found.items() if places}
    images = folder / "images"
    for places in (
        {path.name: [path] for path in sorted(images.glob("*")) if path.is_dir() and folder_pictures(path)},
        {path.parent.name: [path] for path in sorted(folder.glob("*/images")) if folder_pictures(path)},
        {p.stem: [p] for p in sorted(folder.glob("*.txt")) if p.stem in _SPLIT_KEYS},
    ):
        if places:
            return places
    return {p.name[4:-5]: [p] for p in sorted(folder.glob("obj_*_data")) if p.is_dir()}


def _is_split(content: dict[str, Any], key: object) -> bool:
    """Ultralytics' own keys, and any other whose value is a folder of pictures below images/, as write_yolo puts it."""
    value = content.get(str(key))
    return key in _SPLIT_KEYS or (isinstance(value, str) and value == f"images/{key}")


def _resolve(folder: Path, content: dict[str, Any], key: str) -> list[Path]:
    """A yaml entry's folders and lists. Whatever leads out of the folder is cut off: Roboflow writes ../train/images."""
    value = content[key]
    entries = [
        e for e in (value if isinstance(value, list) else [value]) if isinstance(e, str) and "\0" not in e
    ]
    root = content.get("path")
    roots = [folder, folder / root] if isinstance(root, str) and _stays_inside(root) else [folder]
    found = []
    for entry in entries[:1000]:
        parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        tails = (base.joinpath(*parts[cut:]) for cut in range(len(parts)) for base in roots)
        place = next((tail for tail in tails if _exists(tail)), None)
        if place is not None:
            found.append(place)
    return found


def _stays_inside(root: str) -> bool:
    return not Path(root).is_absolute() and ".." not in Path(root).parts and "\0" not in root


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _unsplit(folder: Path) -> list[Path]:
    images = folder / "images"
    return [images] if images.is_dir() else [folder]


def _pictures_in(folder: Path, places: Sequence[Path]) -> list[Path]:
    pictures: list[Path] = []
    for place in places:
        if place.suffix == ".txt" and place.is_file():
            finder = PictureFinder(place, [folder, place.parent])
            lines = _read_text(place, MAX_LIST_BYTES).splitlines()
            pictures += [finder.find(line.strip()) for line in lines if line.strip()]
        elif place.is_dir():
            pictures += folder_pictures(place) or [
                path for path in sorted(place.rglob("*")) if is_picture(path) and path.is_file()
            ]
        elif place.suffix.lower() in PICTURE_SUFFIXES:
            pictures.append(place)
    return list(dict.fromkeys(pictures))


def _class_names(folder: Path) -> list[str]:
    for name in _YAML_NAMES:
        path = folder / name
        if path.is_file():
            return _names_of(_read_yaml(path), path)
    for path in (folder / "classes.txt", folder / "labels" / "classes.txt", folder / "obj.names"):
        if path.is_file():
            names = [line.strip() for line in _read_text(path, MAX_TEXT_BYTES).splitlines()]
            return _checked_names([name for name in names if name], path)
    raise DataMissingError(f"no class names in {folder}", next_step="put data.yaml or classes.txt there")


def _names_of(content: dict[str, Any], path: Path) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise DataError(f"{path}: the keys of names must count from 0")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        raise DataError(f"{path} has no list of names")
    return _checked_names([str(name) for name in names], path)


def _checked_names(names: list[str], path: Path) -> list[str]:
    if not 1 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names):
        raise DataError(
            f"{path} names {len(names)} classes, {len(set(names))} different; 1 to {MAX_CLASSES} expected"
        )
    return names


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    class PlainLoader(yaml.SafeLoader):
        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):  # nested ones grow without bound
                raise yaml.YAMLError("aliases are not read here")
            return super().compose_node(parent, index)

    try:
        content = yaml.load(_read_text(path, MAX_YAML_BYTES), PlainLoader)  # noqa: S506  a SafeLoader, and less
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no data.yaml: it must be a table with names")
    return content


def _read_text(path: Path, max_bytes: int) -> str:
    try:
        if path.stat().st_size > max_bytes:
            raise DataError(f"{path} is larger than {max_bytes >> 20} MiB")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
