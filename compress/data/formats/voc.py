"""Pascal VOC: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/<split>.txt`; and XML files beside their pictures.

Coordinates are taken and written as the edges of boxes, from 0, as the tools in use do (LabelImg, CVAT, Roboflow); the
files of the VOC challenges themselves count pixels from 1, so their boxes come out up to a pixel off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.data.detection import DetectionSet
from compress.data.formats.places import (
    PictureFinder,
    choose_split,
    folder_files,
    folder_pictures,
    long_bar,
    picture_size,
    safe_parts,
)
from compress.data.formats.records import PictureRecords, check_declared, choose_labels
from compress.data.formats.xml_file import escape, read_xml, starts_with_element
from edgeai.errors import DataError, DataMissingError
from edgeai.whole_file import write_whole

MAX_XML_BYTES = 16 << 20
MAX_LIST_BYTES = 256 << 20
MAX_NUMBER_CHARS = 40
LABELMAP_NAME = "labelmap.txt"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def voc_splits(folder: Path) -> tuple[str, ...]:
    """The lists in ImageSets/Main, per-class ones left out; else the folders that hold XML labels (Roboflow)."""
    lists = sorted(path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt"))
    whole = tuple(name for name in lists if "_" not in name or name.rsplit("_", 1)[1] not in lists)
    if whole or _annotations(folder) is not None:
        return whole
    return tuple(path.name for path in _split_folders(folder))


def is_voc(folder: Path) -> bool:
    """Whether the first XML file of the folder, or of a split's folder, is an <annotation>."""
    where = _annotations(folder) or next(iter(_split_folders(folder)), None)
    first = next(iter(sorted(where.glob("*.xml"))), None) if where is not None else None
    return first is not None and starts_with_element(first, "annotation")


def load_voc(folder: Path, split: str, labels: Sequence[str] | None) -> DetectionSet:
    """Read a split; objects said to be difficult become crowd regions, which training and scoring leave out.

    No labels: those of labelmap.txt where there is one (CVAT), else every name in the folder's files, by the alphabet.
    Sizes that are not given are read from the pictures. Raises DataMissingError, DataError.
    """
    chosen = choose_split(voc_splits(folder), split, folder)
    annotations = _annotations(folder)
    if annotations is None:
        annotations = folder / chosen if chosen != "all" else folder
    files = _files_of(folder, annotations, chosen)
    roots = ("JPEGImages", "images", "Images")
    records = PictureRecords(annotations)
    finder = PictureFinder(annotations, [annotations, *(folder / root for root in roots), folder])
    stems = _pictures_by_stem([*(folder / root for root in roots), annotations])
    with long_bar(f"labels of {annotations.name}", len(files), least=3000) as advance:
        for path in files:
            _add(path, records, finder, stems)
            advance(1)
    known = _labelmap(folder)
    if known is None:
        known = records.names()
        if labels is None or not set(labels) <= set(known):
            known = sorted({*known, *_names_in(set(_every_file(folder)) - set(files))})
    elif labels is None:
        check_declared(known, records.names(), folder / LABELMAP_NAME)
    return records.finish(choose_labels(labels, known, folder))


def write_voc(folder: Path, split: str, data: DetectionSet, names: Sequence[str]) -> list[Path]:
    """Write an XML file a picture, the split's list and labelmap.txt; pictures are in JPEGImages/ under `names`.

    A crowd region, which is of no class, becomes a difficult object of the first. Scores and groups have no place.
    """
    if any(":" in label or label.startswith("#") for label in data.labels):
        raise DataError("a VOC label map holds no label with : or # in it", next_step="rename the label")
    annotations = folder / "Annotations"
    stems = []
    for picture, name in zip(data.pictures, names, strict=True):
        objects = [
            _object(data.labels[class_id], box, difficult=0)
            for class_id, box in zip(picture.class_ids.tolist(), picture.xyxy_px.tolist(), strict=True)
        ]
        objects += [_object(data.labels[0], box, difficult=1) for box in picture.crowd_px.tolist()]
        size = f"<width>{picture.width}</width><height>{picture.height}</height><depth>3</depth>"
        text = (
            f"<annotation>\n<folder>JPEGImages</folder>\n<filename>{escape(name)}</filename>\n"
            f"<size>{size}</size>\n<segmented>0</segmented>\n{''.join(objects)}</annotation>\n"
        )
        stems.append(Path(name).stem)
        write_whole(annotations / f"{stems[-1]}.xml", text)
    labelmap = "# label:color_rgb:parts:actions\n" + "".join(f"{label}:::\n" for label in data.labels)
    listed = "".join(f"{stem}\n" for stem in stems)
    return [
        annotations,
        write_whole(folder / LABELMAP_NAME, labelmap),
        write_whole(folder / "ImageSets" / "Main" / f"{split}.txt", listed),
    ]


def _object(label: str, box: Sequence[float], *, difficult: int) -> str:
    edges = "".join(f"<{tag}>{_number(value)}</{tag}>" for tag, value in zip(_EDGES, box, strict=True))
    return (
        f"<object><name>{escape(label)}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>\n"
    )


def _number(value: float) -> str:
    """Two places, none where it is whole: readers of VOC files that expect integers are many."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class _Annotation:
    """What one XML file says, gathered as it streams by."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.objects: list[dict[str, str]] = []

    def start(self, tags: Sequence[str], _: Mapping[str, str]) -> None:
        if list(tags[1:]) == ["object"]:
            self.objects.append({})

    def end(self, tags: Sequence[str], text: str) -> None:
        place = "/".join(tags[1:])
        if place.startswith(
            "object/"
        ):  # of a person's head and hands there is object/part/..., which is not kept
            self.objects[-1][place.removeprefix("object/")] = text
        else:
            self.said[place] = text


def _add(path: Path, records: PictureRecords, finder: PictureFinder, stems: Mapping[str, Path]) -> None:
    annotation = _Annotation()
    read_xml(
        path, root="annotation", max_bytes=MAX_XML_BYTES, on_start=annotation.start, on_end=annotation.end
    )
    try:
        picture = stems.get(path.stem)  # the file's own name holds where <filename> was not renamed with it
        if picture is None:
            picture = finder.find(annotation.said.get("filename") or f"{path.stem}.jpg")
        width = int(_float(annotation.said.get("size/width") or "0"))
        height = int(_float(annotation.said.get("size/height") or "0"))
        if width == 0 or height == 0:
            width, height = picture_size(picture)
        number = records.add_picture(picture, width, height)
        for found in annotation.objects:
            box = [_float(found[f"bndbox/{edge}"]) for edge in _EDGES]
            records.add_box(number, found["name"], box, crowd=found.get("difficult") == "1")
    except KeyError as error:
        raise DataError(f"{path} has an object without {error.args[0]}") from None
    except (ValueError, OverflowError) as error:
        said = error if isinstance(error, DataError) else f"is no VOC annotation: {str(error)[:120]}"
        raise DataError(f"{path}: {said}") from error


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARS:
        raise DataError(f"{text[:MAX_NUMBER_CHARS]!r}... is no number")
    return float(text)


def _annotations(folder: Path) -> Path | None:
    """The folder of the XML files, or None where they are in folders by split, or nowhere."""
    places = (folder / "Annotations", folder / "annotations", folder)
    return next((place for place in places if any(place.glob("*.xml"))), None)


def _split_folders(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*")) if p.is_dir() and any(p.glob("*.xml"))]


def _files_of(folder: Path, annotations: Path, split: str) -> list[Path]:
    listed = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listed.is_file():
        return folder_files(annotations, [".xml"])
    if listed.stat().st_size > MAX_LIST_BYTES:
        raise DataError(f"{listed} is larger than {MAX_LIST_BYTES >> 20} MiB")
    try:
        lines = [line.strip() for line in listed.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{listed} is no text: {error}") from None
    files = []
    for line in lines:
        if not line:
            continue
        path = annotations.joinpath(*safe_parts(line + ".xml", listed))
        if not path.is_file():  # a list for one class has a sign behind the name, CVAT's a folder before it
            path = annotations.joinpath(*safe_parts(line.split()[0] + ".xml", listed))
        if not path.is_file():
            raise DataMissingError(f"{listed} lists {line[:80]}, and there is no {path}")
        files.append(path)
    return files


def _every_file(folder: Path) -> list[Path]:
    annotations = _annotations(folder)
    if annotations is not None:
        return folder_files(annotations, [".xml"])
    return [path for where in _split_folders(folder) for path in folder_files(where, [".xml"])]


def _names_in(files: set[Path]) -> set[str]:
    names: set[str] = set()

    def end(tags: Sequence[str], text: str) -> None:
        if list(tags[1:]) == ["object", "name"]:
            names.add(text)

    for path in sorted(files):
        read_xml(path, root="annotation", max_bytes=MAX_XML_BYTES, on_end=end)
    return names


def _labelmap(folder: Path) -> list[str] | None:
    path = folder / LABELMAP_NAME
    if not path.is_file() or path.stat().st_size > MAX_XML_BYTES:
        return None
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: {error}") from None
    names = [line.split(":")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    if "background:0,0,0::" in lines:  # CVAT adds it for segmentation; no box is of it
        names.remove("background")
    return names or None


def _pictures_by_stem(folders: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder_pictures(folder):
            found.setdefault(path.stem, path)
    return found
