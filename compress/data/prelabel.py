"""Boxes of a bundle on a folder of pictures, as a file that an annotation tool imports, for a person to correct."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, LabelledPicture, found_picture, read_picture
from compress.data.formats import open_format, write_detections
from compress.data.formats.coco import write_coco
from compress.data.formats.cvat import images_text
from compress.data.formats.label_studio import CONFIG_NAME, label_config, tasks_text
from compress.data.formats.places import list_pictures
from compress.measure.detection import BundleDetector
from edgeai.bundle import load_bundle
from edgeai.bundle.manifest import ImageInput
from edgeai.console import progress_bar
from edgeai.engines import open_engine
from edgeai.errors import BundleError, DataError, UsageError
from edgeai.types import Detections
from edgeai.whole_file import check_free, new_folder, write_whole

# the formats of one file, and how its name must end
FILE_SUFFIXES = {"label-studio": ".json", "coco": ".json", "cvat": ".xml"}


@dataclass(frozen=True, slots=True)
class Prelabels:
    """found: the boxes, with their scores. skipped: pictures that could not be read, and why. written: the files."""

    found: DetectionSet
    skipped: tuple[tuple[Path, str], ...]
    written: tuple[Path, ...]


def prelabel_folder(
    folder: Path, out: Path, *, bundle: str, to: str, min_score: float = 0.3, threads: int | None = None
) -> Prelabels:
    """Run a detector over every picture in a folder and the folders in it, and write what it finds, at the very end.

    out: a file that ends in .json (label-studio, coco) or .xml (cvat), with the pictures named by their paths below
    `folder`; any other name is a new folder in the format, with links to the pictures. threads: of the engine.

    Raises UsageError for a format, score or name that does not fit, BundleError, DataMissingError, DataError.
    """
    as_file = _is_file_name(out, to)
    if not 0 < min_score < 1:
        raise UsageError(f"a score of at least {min_score}: a number between 0 and 1 is expected")
    check_free(out)
    paths = list_pictures(folder)
    opened = load_bundle(bundle)
    spec = opened.manifest.input
    if opened.manifest.task != "detect" or not isinstance(spec, ImageInput):
        raise BundleError(
            f"bundle {opened.name} is for {opened.manifest.task}, not for finding boxes in pictures",
            next_step="choose a bundle whose task is detect",
        )
    with open_engine(opened, threads=threads or min(4, os.cpu_count() or 1)) as engine:
        labels = opened.manifest.labels
        detect = BundleDetector(engine, spec, opened.manifest.decoder, labels, score_threshold=min_score)
        found, skipped = _label(paths, detect, labels)
    if not len(found):
        raise DataError(f"none of the {len(paths)} pictures in {folder} can be read")
    if as_file:
        written = _write_file(out, to, found, folder, f"{opened.name} {opened.manifest.version}")
    else:
        with new_folder(out) as part:
            inside = write_detections(to, part, "train", found, pictures="link")
            written = [out / path.relative_to(part) for path in inside]
    return Prelabels(found, tuple(skipped), tuple(written))


def _label(
    paths: Sequence[Path], detect: BundleDetector, labels: Sequence[str]
) -> tuple[DetectionSet, list[tuple[Path, str]]]:
    pictures: list[LabelledPicture] = []
    skipped: list[tuple[Path, str]] = []
    with progress_bar("prelabel", len(paths)) as advance:
        for path in paths:
            try:
                str(path).encode()  # JSON and XML hold text only
                image = read_picture(path)
            except UnicodeEncodeError:
                skipped.append((path, "its name is no text"))
            except DataError:
                skipped.append((path, "it is no picture that can be read"))
            else:
                boxes = detect(image)
                height, width = image.shape[:2]
                inside = Detections(
                    _inside(boxes.xyxy_px, width, height),
                    np.clip(boxes.scores, 0, 1).astype(np.float32),
                    boxes.class_ids.astype(np.int32),
                )
                pictures.append(found_picture(path, image, inside))
            advance(1)
    return DetectionSet(tuple(labels), tuple(pictures)), skipped


def _inside(xyxy_px: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Annotation tools refuse boxes over the picture's edge."""
    edges = np.array((width, height, width, height), np.float32)
    return np.clip(xyxy_px, np.float32(0), edges).reshape(-1, 4)


def _is_file_name(out: Path, to: str) -> bool:
    open_format(to)
    suffix = out.suffix.lower()
    if suffix not in (".json", ".xml", ".txt", ".zip"):
        return False
    if FILE_SUFFIXES.get(to) != suffix:
        ends = f"a file that ends in {FILE_SUFFIXES[to]}, or " if to in FILE_SUFFIXES else ""
        raise UsageError(f"{to} cannot be written to {out.name}: give {ends}a new folder")
    return True


def _write_file(out: Path, to: str, found: DetectionSet, folder: Path, model: str) -> list[Path]:
    names = [picture.path.relative_to(folder).as_posix() for picture in found.pictures]
    root = folder.resolve().name
    writers: dict[str, Callable[[], list[Path]]] = {
        "coco": lambda: [write_coco(out.parent, "", found, names, file=out)],
        "cvat": lambda: [write_whole(out, images_text(found, names, source="auto"))],
        "label-studio": lambda: [
            write_whole(
                out,
                tasks_text(
                    found, [f"/data/local-files/?d={quote(f'{root}/{n}')}" for n in names], model=model
                ),
            ),
            write_whole(out.with_name(f"{out.stem}.{CONFIG_NAME}"), label_config(found.labels)),
        ],
    }
    return writers[to]()
